"""What a client is told when there is no money for its request: numbers, and the next move."""

from collections.abc import Iterable
from datetime import UTC, datetime

from meted.domain.budget import Budget, Window
from meted.domain.units import MICROS_PER_SECOND, Micros, NanoUSD
from meted.live.budget_desk import NoMoney
from meted.live.dollars import usd
from meted.live.doors import HouseError

PAYMENT_REQUIRED = 402
TOO_MANY_REQUESTS = 429
RETRY_S = 1


def no_money(lack: NoMoney, *, now: Micros) -> HouseError:
    """402 where the money is spent, 429 where others have it reserved and may give some back."""
    budget = lack.budget
    spent, reserved = usd(lack.spent), usd(lack.reserved)
    limit, wanted = usd(budget.limit), usd(lack.wanted)
    numbers = (
        f"may cost up to ${wanted}, but of the ${limit} of budget {budget.name!r} "
        f"({scope(budget)}) ${spent} are spent and ${reserved} reserved"
    )
    move = f"raise the budget or lower max_tokens{_when(lack.window)}"
    if not lack.gone:
        move = f"try again in {RETRY_S} s, when others have settled, or {move}"
    wait = None
    if not lack.gone:
        wait = RETRY_S
    elif lack.window.ends is not None:
        wait = max(1, (lack.window.ends - now) // MICROS_PER_SECOND + 1)
    return HouseError(
        f"this request {numbers}; {move}",
        status=PAYMENT_REQUIRED if lack.gone else TOO_MANY_REQUESTS,
        type="insufficient_quota",
        code="budget_exceeded" if lack.gone else "budget_reserved",
        retry_after_s=wait,
        details={
            "budget": budget.name,
            "spent_usd": spent,
            "reserved_usd": reserved,
            "limit_usd": limit,
            "wanted_usd": wanted,
            "resets_at": resets_at(lack.window),
        },
        headers={
            "x-meted-budget": budget.name,
            "x-meted-budget-spent-usd": spent,
            "x-meted-budget-reserved-usd": reserved,
            "x-meted-budget-limit-usd": limit,
        },
    )


def unknown_model(name: str, known: Iterable[str]) -> HouseError:
    """404 for a deployment that clients cannot ask for."""
    there = ", ".join(known) or "none"
    return HouseError(
        f"the model {name!r} does not exist; there are: {there}",
        status=404,
        type="invalid_request_error",
        param="model",
        code="model_not_found",
    )


def scope(budget: Budget) -> str:
    """What a budget covers, in words."""
    parts = [f"tenant {budget.tenant!r}"]
    parts += [f"project {budget.project!r}"] if budget.project is not None else []
    parts += [f"key {budget.key!r}"] if budget.key is not None else []
    parts += [f"model {budget.deployment!r}"] if budget.deployment is not None else []
    return ", ".join(parts)


def resets_at(window: Window) -> str | None:
    """When a window begins anew, as ISO 8601 in UTC; None for never."""
    if window.ends is None:
        return None
    moment = datetime.fromtimestamp(window.ends / MICROS_PER_SECOND, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def job_without_money(lack: NoMoney | None) -> str:
    """Why a job waits."""
    if lack is None:
        return "its budget is asked for money, which other work or another house holds"
    return (
        f"budget {lack.budget.name!r} has ${usd(lack.spent)} spent and "
        f"${usd(lack.reserved)} reserved of ${usd(lack.budget.limit)}; the next part may "
        f"cost ${usd(NanoUSD(lack.wanted))}"
    )


def _when(window: Window) -> str:
    moment = resets_at(window)
    return "" if moment is None else f"; it begins anew at {moment}"

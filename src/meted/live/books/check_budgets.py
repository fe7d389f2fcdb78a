"""Laws of budgets: what is spent of a window was charged in it, and never over the limit."""

import msgspec

from meted.domain.budget import Budget, Window
from meted.domain.units import Micros
from meted.ledger.windows import window_of
from meted.live.books.laws import Law, LawBook
from meted.live.stores.database import Statements, whole
from meted.live.stores.postings import OUTSIDE, charged_before

SPENT = "what is spent of a budget's window is what was charged in its scope then"
WITHIN = "of a hard budget houses hold and have spent no more than its limit allowed"


def budget_laws(db: Statements) -> tuple[Law, ...]:
    """Both laws for every window of the budgets in force.

    Re-rated prices count for bills, not for budgets: those saw the price of the day. What was
    charged outside of leases (before a budget was made) is spent but was never held, so that it
    may be over the limit; a limit that was lowered, or a budget that was soft, is held against the
    highest limit that the audit log knows.
    """
    laws = LawBook(SPENT, WITHIN)
    budgets = {
        name: msgspec.json.decode(body, type=Budget)
        for name, body in db.rows("SELECT name, body FROM budgets WHERE retired = 0")
    }
    leases = _leases(db)
    for name, starts, ends in db.rows(
        "SELECT budget, starts, ends FROM budget_windows ORDER BY budget, starts"
    ):
        budget = budgets.get(name)
        if budget is None:
            continue
        window = window_of(budget, Micros(starts))
        if (window.starts, window.ends) != (starts, ends):
            laws.hold(SPENT, broken=f"{_named(name, starts)} ends at {ends}, not {window.ends}")
            continue
        held, spent = leases.get((name, starts), (0, 0))
        laws.hold(SPENT, broken=_not_spent(db, budget, window, spent))
        if budget.hard:
            laws.hold(WITHIN, broken=_over_limit(db, budget, window, held))
    return laws.laws


def _leases(db: Statements) -> dict[tuple[str, int], tuple[int, int]]:
    """What houses hold of each window (granted, or spent once closed), and what is spent of it."""
    leases: dict[tuple[str, int], tuple[int, int]] = {}
    for budget, starts, house, granted, spent, closed in db.rows(
        "SELECT budget, starts, house, granted, spent, closed FROM budget_leases"
    ):
        held, total = leases.get((budget, starts), (0, 0))
        holds = 0 if house == OUTSIDE else whole(spent if closed else granted)
        leases[budget, starts] = (held + holds, total + whole(spent))
    return leases


def _not_spent(db: Statements, budget: Budget, window: Window, spent: int) -> str | None:
    charged = charged_before(db, budget, window)
    if charged == spent:
        return None
    return (
        f"{_named(budget.name, window.starts)} has {spent} nano-USD spent, but {charged} were "
        "charged in its scope then"
    )


def _over_limit(db: Statements, budget: Budget, window: Window, held: int) -> str | None:
    if held <= budget.limit:
        return None
    limits, was_soft = list[int]([budget.limit]), False
    for (body,) in db.rows(
        "SELECT detail FROM audit WHERE action = 'budget.save' AND subject = ?", budget.name
    ):
        detail = msgspec.json.decode(body)
        limits.append(int(detail.get("limit_nano_usd", 0)))
        was_soft = was_soft or detail.get("hard") is False
    if was_soft or held <= max(limits):
        return None
    return (
        f"{_named(budget.name, window.starts)} has {held} nano-USD held and spent by houses, but "
        f"its limit was never over {max(limits)}"
    )


def _named(name: str, starts: int) -> str:
    return f"budget {name!r} from {starts} on"

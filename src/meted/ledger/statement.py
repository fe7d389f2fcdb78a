"""What a statement says beyond sums: unit costs, margins, and what is worth fixing first."""

from collections.abc import Sequence
from dataclasses import dataclass

from meted.domain.units import NanoUSD

TOKENS_PER_MILLION = 1_000_000
PERMILLE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Tokens that requests computed: prompt tokens without the cached ones, cached ones, output."""

    input: int = 0
    cached: int = 0
    output: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCost:
    """Money per million tokens of a kind; None where it cannot be told apart or there are none."""

    input: NanoUSD | None
    cached: NanoUSD | None
    output: NanoUSD | None


def unit_cost(total: NanoUSD, tokens: Tokens, weights: Sequence[float]) -> UnitCost:
    """Money per million tokens of each kind, if `total` is split as tokens x weights.

    weights: relative money of an input, a cached and an output token, none negative. Parts of the
    total sum to it; a kind without tokens, and all of them without weights, have none.
    """
    counts = (tokens.input, tokens.cached, tokens.output)
    parts = [weight * count for weight, count in zip(weights, counts, strict=True)]
    whole = sum(parts)

    def each(index: int) -> NanoUSD | None:
        if not counts[index] or whole <= 0:
            return None
        share = total * parts[index] / whole
        return NanoUSD(round(share * TOKENS_PER_MILLION / counts[index]))

    return UnitCost(input=each(0), cached=each(1), output=each(2))


def margin_permille(cost: NanoUSD, price: NanoUSD) -> int | None:
    """(price - cost) / price in thousandths, rounded down; None where nothing was charged."""
    return None if price <= 0 else (price - cost) * PERMILLE // price


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something to fix, and about how much money it is."""

    says: str
    nano_usd: NanoUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class PayerSums:
    """A tenant's, deployment's or job's cost and what was charged for it."""

    name: str
    cost: NanoUSD
    price: NanoUSD


def findings(
    *,
    capacity: NanoUSD,
    idle: NanoUSD,
    lost: NanoUSD,
    loading: NanoUSD,
    overhead: NanoUSD,
    tenants: Sequence[PayerSums],
    deployments: Sequence[tuple[str, NanoUSD, NanoUSD]],
    jobs_lost: Sequence[tuple[str, NanoUSD]],
) -> list[Finding]:
    """What to fix, dearest first, in sentences with their numbers.

    deployments: name, cost of its requests, and its share of what idled in the hours in which it
    served. jobs_lost: what each job lost. Shares under two per cent of the capacity's
    cost are left out; margins never are.
    """
    found: list[Finding] = []
    least = capacity // 50
    usd = short_dollars

    def note(amount: int, says: str) -> None:
        if amount > 0 and amount >= least:
            found.append(Finding(says=says, nano_usd=NanoUSD(amount)))

    note(
        idle,
        f"Idle devices cost {usd(idle)}, {_percent(idle, capacity)} of the capacity: let training "
        "harvest them, serve more on them, or give some back.",
    )
    for name, served, idled in deployments:
        whole = served + idled
        note(
            idled,
            f"Deployment {name} idles {_percent(idled, whole)} of its {usd(whole)}: only the rest "
            "of the hours in which it served went into requests.",
        )
    dear = [(name, amount) for name, amount in jobs_lost if amount > 0 and amount >= least]
    for name, amount in dear:
        note(
            amount,
            f"Job {name} lost work that cost {usd(amount)}: checkpoint more often, or find out why "
            "it was stopped.",
        )
    rest = lost - sum(amount for _, amount in dear)
    note(
        rest,
        f"Lost work cost {usd(rest)}: requests that failed or were given up, and what a crash "
        "undid.",
    )
    note(
        loading,
        f"Loading checkpoints cost {usd(loading)}: start replicas less often, or keep them warm.",
    )
    note(
        overhead,
        f"The house itself cost {usd(overhead)}, {_percent(overhead, capacity)} of the capacity.",
    )
    found += [finding for one in tenants if (finding := _of_tenant(one)) is not None]
    return sorted(found, key=lambda one: (-one.nano_usd, one.says))


def _of_tenant(one: PayerSums) -> Finding | None:
    margin = margin_permille(one.cost, one.price)
    if margin is None and one.cost > 0:
        says = f"Tenant {one.name} cost {short_dollars(one.cost)} and was charged nothing."
        return Finding(says=says, nano_usd=one.cost)
    if margin is not None and margin < 0:
        return Finding(
            says=f"Tenant {one.name}'s margin is {_tenths(margin)} %: it cost "
            f"{short_dollars(one.cost)} and was charged {short_dollars(one.price)}.",
            nano_usd=NanoUSD(one.cost - one.price),
        )
    return None


def short_dollars(nano: int) -> str:
    """Dollars for a sentence: cents, or as many places as it takes to say two digits."""
    places = 2
    while places < 9 and abs(nano) * 10**places < 10 * 10**9:
        places += 1
    step = 10 ** (9 - places)
    rounded = (abs(nano) + step // 2) // step
    whole, part = divmod(rounded, 10**places)
    return f"{'-' if nano < 0 else ''}${whole:,}.{part:0{places}d}"


def _percent(part: int, whole: int) -> str:
    return f"{round(100 * part / whole) if whole else 0} %"


def _tenths(permille: int) -> str:
    sign, value = ("-", -permille) if permille < 0 else ("", permille)
    return f"{sign}{value // 10}.{value % 10}" if value % 10 else f"{sign}{value // 10}"

"""Rates: what a tenant is charged, apart from what it cost us. A book that grows, never changes."""

from dataclasses import dataclass, field

from meted.domain.arms import public_name
from meted.domain.units import (
    NANOS_PER_SECOND,
    DeploymentName,
    DeviceNanos,
    Micros,
    NanoUSD,
    TenantName,
)
from meted.ledger.versions import Timeline, check_appended

PERMILLE = 1_000
TOKEN_RATES_PER_NANO_USD = 1_000
"""One token at a rate of 1 micro-USD per million is a thousandth of a nano-USD."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ByCost:
    """Charge-back: the tenant pays what it cost us and a markup, in thousandths of the cost.

    A negative markup is a discount; -1000 is free of charge.
    """

    markup_permille: int = 0

    def __post_init__(self) -> None:
        if self.markup_permille < -PERMILLE:
            raise ValueError(
                f"markup_permille is {self.markup_permille}, expected {-PERMILLE} or more; "
                f"{-PERMILLE} charges nothing already"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCard:
    """Charged by the token, whatever it cost us.

    input, cached_input, output: micro-USD per million tokens (2_500_000 is $2.50 per million);
    cached_input is for prompt tokens found in the prefix cache. training: nano-USD per
    device-second.
    """

    input: int
    cached_input: int
    output: int
    training: int

    def __post_init__(self) -> None:
        for name in ("input", "cached_input", "output", "training"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"rate {name!r} is {getattr(self, name)}, expected 0 or more; correct the card"
                )


Rates = ByCost | RateCard


def price_of_request(
    rates: Rates,
    *,
    input_tokens: int,
    cached_tokens: int,
    output_tokens: int,
    cost: NanoUSD,
) -> NanoUSD:
    """What a request is charged, rounded down, once, to a whole nano-USD.

    input_tokens: prompt tokens without the cached ones. cost: what it cost us; a rate card
    ignores it. Raises ValueError for a negative count of tokens.
    """
    _expect_tokens(input_tokens, cached_tokens, output_tokens)
    if isinstance(rates, ByCost):
        return _marked_up(rates, cost)
    return _charged(
        input_tokens * rates.input
        + cached_tokens * rates.cached_input
        + output_tokens * rates.output
    )


def worst_price(
    rates: Rates,
    *,
    prompt_tokens_most: int,
    output_tokens_most: int,
    predicted_cost_most: NanoUSD,
) -> NanoUSD:
    """The most that a request within these bounds can be charged, however its prompt is cached.

    Never below `price_of_request` of any request with input_tokens + cached_tokens, output_tokens
    and cost within the bounds. Raises ValueError for a negative count of tokens.
    """
    _expect_tokens(prompt_tokens_most, output_tokens_most)
    if isinstance(rates, ByCost):
        return _marked_up(rates, predicted_cost_most)
    prompt = prompt_tokens_most * max(rates.input, rates.cached_input)
    return _charged(prompt + output_tokens_most * rates.output)


def price_of_training(rates: Rates, device_nanos: DeviceNanos, cost: NanoUSD) -> NanoUSD:
    """What training is charged since its job began, rounded down to a whole nano-USD.

    Both arguments are cumulative: callers that charge in parts charge `price(after) -
    price(before)`, so that the parts add up to the price of the whole.
    """
    if isinstance(rates, ByCost):
        return _marked_up(rates, cost)
    return NanoUSD(device_nanos * rates.training // NANOS_PER_SECOND)


def affordable_output_tokens(
    rates: Rates, money: NanoUSD, *, input_tokens: int, cached_tokens: int
) -> int | None:
    """The most output tokens with which a request is charged no more than `money`.

    0 also if the prompt alone is charged more. None if tokens are not what sets the charge: by
    cost, or output is free and the prompt affordable.
    """
    _expect_tokens(input_tokens, cached_tokens)
    if isinstance(rates, ByCost):
        return None
    # The charge is rounded down, so that up to 999 thousandths of a nano-USD more come for free.
    room = money * TOKEN_RATES_PER_NANO_USD + TOKEN_RATES_PER_NANO_USD - 1
    room -= input_tokens * rates.input + cached_tokens * rates.cached_input
    if room < 0:
        return 0
    return room // rates.output if rates.output else None


def _marked_up(rates: ByCost, cost: NanoUSD) -> NanoUSD:
    return NanoUSD(cost * (PERMILLE + rates.markup_permille) // PERMILLE)


def _charged(tokens_times_rates: int) -> NanoUSD:
    return NanoUSD(tokens_times_rates // TOKEN_RATES_PER_NANO_USD)


def _expect_tokens(*counts: int) -> None:
    if min(counts) < 0:
        raise ValueError(f"token counts are {counts}, expected 0 or more; correct the usage")


@dataclass(frozen=True, slots=True, kw_only=True)
class RateVersion:
    """From `effective` on, these rates hold in this scope; written down at `recorded`.

    tenant, deployment: None is any. rates: None ends this scope's own rates, so that a wider
    scope's hold again.
    """

    effective: Micros
    recorded: Micros
    rates: Rates | None
    tenant: TenantName | None = None
    deployment: DeploymentName | None = None
    note: str = ""


Scope = tuple[TenantName | None, DeploymentName | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateBook:
    """All rates that ever held, in the order in which they were recorded.

    Raises ValueError if a version is there twice or was recorded before the one before it.
    """

    versions: tuple[RateVersion, ...] = ()
    _timelines: dict[Scope, Timeline[RateVersion]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_appended(self.versions, book="the rate book")
        by_scope: dict[Scope, list[RateVersion]] = {}
        for version in self.versions:
            by_scope.setdefault((version.tenant, version.deployment), []).append(version)
        timelines = {scope: Timeline(versions) for scope, versions in by_scope.items()}
        object.__setattr__(self, "_timelines", timelines)

    def at(self, tenant: TenantName, deployment: DeploymentName | None, moment: Micros) -> Rates:
        """The rates at a moment; deployment None: for training, which belongs to none.

        The narrowest scope that has rates then wins: tenant and deployment, tenant, deployment,
        any; in it the latest effective version, the last recorded among equals.
        Raises ValueError if no scope has rates at that moment.
        """
        rates = self._find(tenant, deployment, moment)
        if rates is None:
            known = ", ".join(_scope_name(scope) for scope in self._timelines) or "none"
            raise ValueError(
                f"no rates for tenant {tenant!r} and deployment {deployment!r} at {moment}; the "
                f"rate book knows rates for {known}; append a version for any tenant"
            )
        return rates

    def changes(
        self,
        tenant: TenantName,
        deployment: DeploymentName | None,
        *,
        after: Micros,
        until: Micros,
    ) -> tuple[Micros, ...]:
        """Moments, after < moment <= until, at which the rates become other ones."""
        candidates: set[Micros] = set()
        for scope in _scopes(tenant, deployment):
            if scope in self._timelines:
                candidates.update(self._timelines[scope].between(after, until))
        rates = self._find(tenant, deployment, after)
        moments: list[Micros] = []
        for moment in sorted(candidates):
            before, rates = rates, self._find(tenant, deployment, moment)
            if rates != before:
                moments.append(moment)
        return tuple(moments)

    def with_version(self, version: RateVersion) -> "RateBook":
        """This book with one more version.

        Raises ValueError if it is there already or was recorded before the last one.
        """
        return RateBook(versions=(*self.versions, version))

    def _find(
        self, tenant: TenantName, deployment: DeploymentName | None, moment: Micros
    ) -> Rates | None:
        for scope in _scopes(tenant, deployment):
            timeline = self._timelines.get(scope)
            version = timeline.at(moment) if timeline else None
            if version is not None and version.rates is not None:
                return version.rates
        return None


def _scopes(tenant: TenantName, deployment: DeploymentName | None) -> tuple[Scope, ...]:
    """Narrowest first. A version of a deployment has the rates of what its clients know."""
    if deployment is None:
        return ((tenant, None), (None, None))
    deployment = public_name(deployment)
    return ((tenant, deployment), (tenant, None), (None, deployment), (None, None))


def _scope_name(scope: Scope) -> str:
    tenant, deployment = scope
    who = "any tenant" if tenant is None else f"tenant {tenant!r}"
    return who if deployment is None else f"{who} on deployment {deployment!r}"

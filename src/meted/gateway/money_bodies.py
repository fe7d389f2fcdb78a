"""Bodies and queries about money and keys, checked field by field and turned into domain values."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta
from starlette.datastructures import QueryParams

from meted.domain.budget import Budget, Period
from meted.domain.tenancy import DEFAULT_PROJECT
from meted.domain.units import (
    BudgetName,
    DeploymentName,
    KeyId,
    Micros,
    NanoUSD,
    ProjectName,
    TenantName,
)
from meted.gateway.errors import decode, refusal
from meted.ledger.price_book import Owned, PriceVersion, Rented
from meted.ledger.rates import ByCost, RateCard, Rates, RateVersion
from meted.live.dollars import MICRO_PLACES, exact_dollars, nano_dollars, shortened
from meted.live.names import MOST_CHARACTERS, check_name
from meted.policy.rate_limit import Limits

T = TypeVar("T")

MOST_LIMIT = 10**9
MOST_ALERTS = 10
MOST_NOTE = 1_000
MOST_DIMENSIONS = 2
BILL_ROWS, MOST_BILL_ROWS = 1_000, 10_000
AUDIT_ROWS, MOST_AUDIT_ROWS = 100, 10_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Dollars = Annotated[
    str,
    Meta(
        description="Exact dollars as a decimal string.",
        examples=["12.50"],
        # Only described here: `exact_dollars` refuses with a better sentence.
        extra_json_schema={"pattern": r"^[0-9]{1,9}(\.[0-9]{1,6})?$"},
    ),
]
Limit = Annotated[int, Meta(ge=1, le=MOST_LIMIT)]
Permille = Annotated[int, Meta(ge=1, le=1_000)]
Name = Annotated[str, Meta(min_length=1, max_length=MOST_CHARACTERS)]
Note = Annotated[str, Meta(max_length=MOST_NOTE)]
Moment = Annotated[str, Meta(description="ISO 8601 with a zone, or microseconds since 1970")]

_DIGITS = re.compile(r"[0-9]{1,18}")
_COUNT = re.compile(r"[0-9]{1,9}")


class _Body(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A body in which an unknown field is an error."""


class KeyBody(_Body):
    """A new key. A limit that is left out is none."""

    tenant: Name
    project: Name = DEFAULT_PROJECT
    name: Annotated[str, Meta(max_length=MOST_CHARACTERS)] = ""
    admin: bool = False
    requests_per_minute: Limit | None = None
    tokens_per_minute: Limit | None = None
    concurrent: Limit | None = None


class BudgetBody(_Body):
    """A budget; its name is in the path. A part of the scope that is left out covers all of them.

    alerts: per cent of the limit.
    """

    tenant: Name
    period: Period
    limit_usd: Dollars
    project: Name | None = None
    key: Name | None = None
    deployment: Name | None = None
    hard: bool = True
    alerts: Annotated[list[Annotated[int, Meta(ge=1, le=1_000)]], Meta(max_length=MOST_ALERTS)] = (
        msgspec.field(default_factory=lambda: [50, 80, 100])
    )


class RentedBody(_Body, tag_field="kind", tag="rented"):
    """A device paid by the hour."""

    usd_per_device_hour: Dollars
    spot: bool = False


class OwnedBody(_Body, tag_field="kind", tag="owned"):
    """A device bought: its share of the purchase, the power and the care."""

    purchase_usd: Dollars
    lifetime_hours: Annotated[int, Meta(ge=1, le=10**7)]
    milliwatts: Annotated[int, Meta(ge=0, le=10**9)]
    usd_per_kwh: Dollars
    pue_permille: Annotated[int, Meta(ge=1_000, le=10**6)] = 1_000
    care_usd_per_year: Dollars = "0"
    utilisation_permille: Permille = 1_000


class PriceBody(_Body):
    """What a device of a kind costs us from a moment on (default: now)."""

    device_kind: Name
    basis: RentedBody | OwnedBody
    effective: Moment | None = None
    note: Note = ""


class ByCostBody(_Body, tag_field="charge", tag="cost"):
    """The cost and a markup in thousandths of it."""

    markup_permille: Annotated[int, Meta(ge=-1_000, le=10**6)] = 0


class RateCardBody(_Body, tag_field="charge", tag="card"):
    """By the token and by the device-second of training, whatever it cost us."""

    input_usd_per_million: Dollars
    cached_input_usd_per_million: Dollars
    output_usd_per_million: Dollars
    training_usd_per_device_second: Dollars


class RateBody(_Body):
    """What tenants are charged from a moment on (default: now).

    tenant, deployment: null is any. rates: null ends this scope's own.
    """

    rates: ByCostBody | RateCardBody | None
    tenant: Name | None = None
    deployment: Name | None = None
    effective: Moment | None = None
    note: Note = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyWish:
    """A key that an admin wants made."""

    tenant: TenantName
    project: ProjectName
    name: str
    admin: bool
    limits: Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class BillWish:
    """A bill that is asked for. limit: most rows."""

    by: tuple[str, ...]
    from_us: Micros | None
    to_us: Micros | None
    limit: int


_key = msgspec.json.Decoder(KeyBody)
_budget = msgspec.json.Decoder(BudgetBody)
_price = msgspec.json.Decoder(PriceBody)
_rate = msgspec.json.Decoder(RateBody)


def read_key(raw: bytes) -> KeyWish:
    """The key that a POST to /meted/v1/keys wants. Raises HouseError (400)."""
    body = decode(_key, raw)
    return KeyWish(
        tenant=TenantName(_name(body.tenant, "tenant")),
        project=ProjectName(_name(body.project, "project")),
        name=_checked("name", lambda: check_name(body.name, "name", empty=True, slash=True)),
        admin=body.admin,
        limits=Limits(
            requests_per_minute=body.requests_per_minute,
            tokens_per_minute=body.tokens_per_minute,
            concurrent=body.concurrent,
        ),
    )


def read_budget(name: str, raw: bytes) -> Budget:
    """The budget that a PUT to /meted/v1/budgets/NAME wants. Raises HouseError (400)."""
    body = decode(_budget, raw)
    key = _maybe(body.key, "key")
    project = _maybe(body.project, "project")
    deployment = _maybe(body.deployment, "deployment")
    limit = _usd(body.limit_usd, "limit_usd")
    return Budget(
        name=BudgetName(_name(name, "name")),
        tenant=TenantName(_name(body.tenant, "tenant")),
        project=None if project is None else ProjectName(project),
        key=None if key is None else KeyId(key),
        deployment=None if deployment is None else DeploymentName(deployment),
        period=body.period,
        limit=limit,
        hard=body.hard,
        alerts=tuple(sorted(set(body.alerts))),
    )


def read_price(raw: bytes, now: Micros) -> PriceVersion:
    """The price that a POST to /meted/v1/prices adds. Raises HouseError (400)."""
    body = decode(_price, raw)
    return PriceVersion(
        device_kind=_name(body.device_kind, "device_kind"),
        effective=moment(body.effective, "effective") if body.effective else now,
        recorded=now,
        basis=_basis(body.basis),
        note=body.note,
    )


def _basis(body: RentedBody | OwnedBody) -> Rented | Owned:
    if isinstance(body, RentedBody):
        hourly = _usd(body.usd_per_device_hour, "basis.usd_per_device_hour")
        return Rented(nano_usd_per_device_hour=hourly, spot=body.spot)
    return Owned(
        purchase=_usd(body.purchase_usd, "basis.purchase_usd"),
        lifetime_hours=body.lifetime_hours,
        milliwatts=body.milliwatts,
        nano_usd_per_kwh=_usd(body.usd_per_kwh, "basis.usd_per_kwh"),
        pue_permille=body.pue_permille,
        care_per_year=_usd(body.care_usd_per_year, "basis.care_usd_per_year"),
        utilisation_permille=body.utilisation_permille,
    )


def read_rate(raw: bytes, now: Micros) -> RateVersion:
    """The rates that a POST to /meted/v1/rates adds. Raises HouseError (400)."""
    body = decode(_rate, raw)
    tenant = _maybe(body.tenant, "tenant")
    deployment = _maybe(body.deployment, "deployment")
    return RateVersion(
        effective=moment(body.effective, "effective") if body.effective else now,
        recorded=now,
        rates=_rates(body.rates),
        tenant=None if tenant is None else TenantName(tenant),
        deployment=None if deployment is None else DeploymentName(deployment),
        note=body.note,
    )


def _rates(body: ByCostBody | RateCardBody | None) -> Rates | None:
    if body is None:
        return None
    if isinstance(body, ByCostBody):
        return ByCost(markup_permille=body.markup_permille)
    return RateCard(
        input=_per_million(body.input_usd_per_million, "rates.input_usd_per_million"),
        cached_input=_per_million(
            body.cached_input_usd_per_million, "rates.cached_input_usd_per_million"
        ),
        output=_per_million(body.output_usd_per_million, "rates.output_usd_per_million"),
        training=_usd(body.training_usd_per_device_second, "rates.training_usd_per_device_second"),
    )


def read_bill(query: QueryParams) -> BillWish:
    """What a GET of /meted/v1/bill asks. Raises HouseError (400)."""
    check_query(query, "by", "from", "to", "limit")
    by = tuple(query.getlist("by"))
    if len(by) > MOST_DIMENSIONS:
        raise refusal(
            f"by is given {len(by)} times, expected at most {MOST_DIMENSIONS}", param="by"
        )
    from_us, to_us = one(query, "from"), one(query, "to")
    return BillWish(
        by=by,
        from_us=None if from_us is None else moment(from_us, "from"),
        to_us=None if to_us is None else moment(to_us, "to"),
        limit=count(query, "limit", default=BILL_ROWS, most=MOST_BILL_ROWS),
    )


def check_query(query: QueryParams, *known: str) -> None:
    """Raises HouseError (400) for a parameter that the door does not know."""
    for name in query:
        if name not in known:
            expected = f"known: {', '.join(known)}" if known else "this door has none"
            raise refusal(
                f"the query has an unknown parameter {shortened(name)}; {expected}", param=name[:80]
            )


def one(query: QueryParams, name: str) -> str | None:
    """The parameter that may be given once."""
    values = query.getlist(name)
    if len(values) > 1:
        raise refusal(f"{name} is given {len(values)} times, expected once", param=name)
    return values[0] if values else None


def count(query: QueryParams, name: str, *, default: int, most: int) -> int:
    text = one(query, name)
    if text is None:
        return default
    if not _COUNT.fullmatch(text) or not 1 <= int(text) <= most:
        raise refusal(f"{name} is {shortened(text)}, expected 1 to {most}", param=name)
    return int(text)


def moment(text: str, what: str) -> Micros:
    """A moment as wall-clock micros. Raises HouseError (400)."""
    if _DIGITS.fullmatch(text):
        return Micros(int(text))
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None and (micros := (at - EPOCH) // timedelta(microseconds=1)) >= 0:
            return Micros(micros)
    except (ValueError, OverflowError):
        pass
    raise refusal(
        f"{what} is {shortened(text)}, expected a moment since 1970 with its zone, e.g. "
        "2026-01-31T18:00:00Z, or microseconds; write + as %2B in an address",
        param=what,
    )


def _checked(param: str, call: Callable[[], T]) -> T:
    try:
        return call()
    except ValueError as error:
        raise refusal(str(error), param=param) from error


def _name(value: str, param: str) -> str:
    return _checked(param, lambda: check_name(value, param))


def _maybe(value: str | None, param: str) -> str | None:
    return None if value is None else _name(value, param)


def _usd(text: str, param: str) -> NanoUSD:
    return _checked(param, lambda: nano_dollars(text, param))


def _per_million(text: str, param: str) -> int:
    return _checked(param, lambda: exact_dollars(text, param, places=MICRO_PLACES))

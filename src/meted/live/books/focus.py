"""The books as FOCUS records, for other cost tools: one for each hour and account.

FinOps Open Cost and Usage Specification 1.2, with all columns of 1.0; Meted's own begin with `x_`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from meted.domain.line import Kind
from meted.domain.units import NANOS_PER_SECOND, SECONDS_PER_HOUR, Micros, TenantName
from meted.live.books.billing import account_parts
from meted.live.books.cells import Cell, Cells, Scope
from meted.live.books.opening import Target, opened
from meted.live.books.usage import Usage, usage
from meted.live.stores.database import Statements

VERSION = "1.2"
SERVICE_CATEGORY = "AI and Machine Learning"
_NANO = Decimal(10) ** -9
_SENTENCES = {
    Kind.REQUEST: "Requests to a deployment",
    Kind.TRAINING: "Training of a job",
    Kind.LOADING: "Loading of a checkpoint",
    Kind.LOST: "Work that came to nothing",
    Kind.OVERHEAD: "Work of the house itself",
    Kind.IDLE: "Devices that nobody used",
}
_SERVICES = {Kind.REQUEST: "Inference", Kind.TRAINING: "Training"}

Value = str | int | Decimal | datetime | None

DECIMAL, MOMENT, INTEGER, TEXT = "decimal", "moment", "integer", "text"

COLUMNS = {
    "AvailabilityZone": TEXT,
    "BilledCost": DECIMAL,
    "BillingAccountId": TEXT,
    "BillingAccountName": TEXT,
    "BillingCurrency": TEXT,
    "BillingPeriodEnd": MOMENT,
    "BillingPeriodStart": MOMENT,
    "ChargeCategory": TEXT,
    "ChargeClass": TEXT,
    "ChargeDescription": TEXT,
    "ChargeFrequency": TEXT,
    "ChargePeriodEnd": MOMENT,
    "ChargePeriodStart": MOMENT,
    "CommitmentDiscountCategory": TEXT,
    "CommitmentDiscountId": TEXT,
    "CommitmentDiscountName": TEXT,
    "CommitmentDiscountStatus": TEXT,
    "CommitmentDiscountType": TEXT,
    "ConsumedQuantity": DECIMAL,
    "ConsumedUnit": TEXT,
    "ContractedCost": DECIMAL,
    "ContractedUnitPrice": DECIMAL,
    "EffectiveCost": DECIMAL,
    "InvoiceId": TEXT,
    "InvoiceIssuerName": TEXT,
    "ListCost": DECIMAL,
    "ListUnitPrice": DECIMAL,
    "PricingCategory": TEXT,
    "PricingQuantity": DECIMAL,
    "PricingUnit": TEXT,
    "ProviderName": TEXT,
    "PublisherName": TEXT,
    "RegionId": TEXT,
    "RegionName": TEXT,
    "ResourceId": TEXT,
    "ResourceName": TEXT,
    "ResourceType": TEXT,
    "ServiceCategory": TEXT,
    "ServiceName": TEXT,
    "ServiceSubcategory": TEXT,
    "SkuId": TEXT,
    "SkuPriceId": TEXT,
    "SubAccountId": TEXT,
    "SubAccountName": TEXT,
    "Tags": TEXT,
    "x_Cost": DECIMAL,
    "x_Price": DECIMAL,
    "x_DeviceNanos": INTEGER,
    "x_Requests": INTEGER,
    "x_InputTokens": INTEGER,
    "x_CachedTokens": INTEGER,
    "x_OutputTokens": INTEGER,
}
"""Every column and its type, in the specification's order."""

HOUSE_ONLY = ("x_Cost",)
"""Columns that a tenant's export does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FocusRecord:
    """One record. billed: nano-USD of BilledCost: the cost to us, or a tenant's price."""

    billed: int
    values: dict[str, Value]


def focus_records(
    target: Target, *, from_us: Micros, to_us: Micros, tenant: TenantName | None = None
) -> list[FocusRecord]:
    """Hour by hour what each account cost; with a tenant, what it was charged. The billed costs sum
    to the bill's, to the nano-dollar. Raises StoreError if the books cannot be read."""
    scope = Scope(from_us=from_us, to_us=to_us, tenant=tenant)
    with opened(target) as database:
        return database.read(lambda db: list(_records(db, scope)))


def _records(db: Statements, scope: Scope) -> Iterator[FocusRecord]:
    accounts = account_parts(db)
    cells = {
        (hour or 0, account): cell
        for (account, _, hour), cell in Cells(db, scope, by_request=False, by_hour=True)
        .read()
        .items()
    }
    used = {
        (hour or 0, account): one for (account, hour), one in usage(db, scope, by_hour=True).items()
    }
    for hour, account in sorted(cells.keys() | used.keys()):
        cell = cells.get((hour, account), Cell())
        one = used.get((hour, account), Usage())
        if cell.nanos or cell.cost or cell.price or one.requests:
            yield _record(scope, hour, accounts[account], cell, one)


def _record(
    scope: Scope, hour: int, parts: tuple[str, ...], cell: Cell, used: Usage
) -> FocusRecord:
    kind, tenant, project, key, deployment, model, job, note = parts
    own = scope.tenant is not None
    billed = cell.price if own else cell.cost
    money, quantity = _exact(billed), _device_hours(cell.nanos)
    starts, ends = _hour(hour), _hour(hour + 1)
    resource = job or deployment
    tags = {"kind": kind, "project": project, "key": key, "model": model, "note": note}
    values: dict[str, Value] = dict.fromkeys(COLUMNS)
    values |= {
        "BilledCost": money,
        "BillingAccountId": "house",
        "BillingAccountName": "Meted",
        "BillingCurrency": "USD",
        "BillingPeriodEnd": _month(starts, later=True),
        "BillingPeriodStart": _month(starts),
        "ChargeCategory": "Usage",
        "ChargeDescription": _sentence(kind, deployment, job),
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodEnd": ends,
        "ChargePeriodStart": starts,
        "ConsumedQuantity": quantity,
        "ConsumedUnit": "Device-Hours",
        "ContractedCost": money,
        "EffectiveCost": money,
        "InvoiceIssuerName": "Meted",
        "ListCost": money,
        "PricingCategory": "Standard",
        "PricingQuantity": quantity,
        "PricingUnit": "Device-Hours",
        "ProviderName": "Meted",
        "PublisherName": "Meted",
        "ResourceId": f"{'job' if job else 'deployment'}/{resource}" if resource else None,
        "ResourceName": resource or None,
        "ResourceType": ("Job" if job else "Deployment") if resource else None,
        "ServiceCategory": SERVICE_CATEGORY,
        "ServiceName": f"Meted {_SERVICES.get(Kind(kind), 'Capacity')}",
        "ServiceSubcategory": "Generative AI"
        if kind == Kind.REQUEST
        else "Machine Learning Platforms",
        "SkuId": kind,
        "SubAccountId": tenant or None,
        "SubAccountName": tenant or None,
        "Tags": msgspec.json.encode({name: tag for name, tag in tags.items() if tag}).decode(),
        "x_Cost": None if own else _exact(cell.cost),
        "x_Price": _exact(cell.price),
        "x_DeviceNanos": cell.nanos,
        "x_Requests": used.requests,
        "x_InputTokens": used.tokens.input,
        "x_CachedTokens": used.tokens.cached,
        "x_OutputTokens": used.tokens.output,
    }
    return FocusRecord(billed=billed, values=values)


def _sentence(kind: str, deployment: str, job: str) -> str:
    about = f" {job or deployment}" if job or deployment else ""
    return f"{_SENTENCES[Kind(kind)]}{about}"


def _exact(nano: int) -> Decimal:
    return Decimal(nano).scaleb(-9)


def _device_hours(nanos: int) -> Decimal:
    """Device-hours with nine places; `x_DeviceNanos` is exact."""
    return (Decimal(nanos) / (NANOS_PER_SECOND * SECONDS_PER_HOUR)).quantize(_NANO)


def _hour(hour: int) -> datetime:
    return datetime.fromtimestamp(hour * SECONDS_PER_HOUR, UTC)


def _month(moment: datetime, *, later: bool = False) -> datetime:
    """When the month of a moment begins, or the one after it."""
    year, month = moment.year, moment.month
    if later:
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
    return datetime(year, month, 1, tzinfo=UTC)

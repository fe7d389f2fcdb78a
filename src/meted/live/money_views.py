"""Money and credentials as JSON-ready objects: one shape for the doors, the CLI and the fakes."""

from dataclasses import asdict
from typing import Any

from meted.domain.budget import Budget, Window
from meted.domain.units import NanoUSD
from meted.ledger.price_book import PriceVersion, Rented
from meted.ledger.rates import ByCost, RateCard, RateVersion
from meted.live.books import Bill, BillRow
from meted.live.dollars import MICRO_PLACES, decimal, usd
from meted.live.doors import Key
from meted.live.refusals import resets_at
from meted.live.store import AuditEntry


def key_view(key: Key) -> dict[str, Any]:
    """A key's public part."""
    return {
        "id": key.id,
        "tenant": key.tenant,
        "project": key.project,
        "name": key.name,
        "admin": key.admin,
        "prefix": key.prefix,
        "created": key.created,
        "revoked": key.revoked,
        "limits": asdict(key.limits),
    }


def budget_view(budget: Budget) -> dict[str, Any]:
    """A budget as it was made."""
    return {
        "name": budget.name,
        "tenant": budget.tenant,
        "project": budget.project,
        "key": budget.key,
        "deployment": budget.deployment,
        "period": budget.period.value,
        "limit_usd": usd(budget.limit),
        "limit_nano_usd": budget.limit,
        "hard": budget.hard,
        "alerts": list(budget.alerts),
    }


def standing_view(
    budget: Budget, window: Window, *, spent: NanoUSD, reserved: NanoUSD
) -> dict[str, Any]:
    """A budget and how its current window stands. left is never below 0."""
    return {
        **budget_view(budget),
        "spent_usd": usd(spent),
        "reserved_usd": usd(reserved),
        "left_usd": usd(max(0, budget.limit - spent - reserved)),
        "spent_nano_usd": spent,
        "reserved_nano_usd": reserved,
        "began_us": window.starts,
        "resets_us": window.ends,
        "resets_at": resets_at(window),
    }


def price_view(version: PriceVersion) -> dict[str, Any]:
    """A version of the price book, and the price per device-hour that follows from it."""
    basis = version.basis
    shown: dict[str, Any]
    if isinstance(basis, Rented):
        shown = {
            "kind": "rented",
            "usd_per_device_hour": usd(basis.nano_usd_per_device_hour),
            "spot": basis.spot,
        }
    else:
        shown = {
            "kind": "owned",
            "purchase_usd": usd(basis.purchase),
            "lifetime_hours": basis.lifetime_hours,
            "milliwatts": basis.milliwatts,
            "usd_per_kwh": usd(basis.nano_usd_per_kwh),
            "pue_permille": basis.pue_permille,
            "care_usd_per_year": usd(basis.care_per_year),
            "utilisation_permille": basis.utilisation_permille,
        }
    return {
        "device_kind": version.device_kind,
        "effective_us": version.effective,
        "recorded_us": version.recorded,
        "usd_per_device_hour": usd(basis.price.nano_usd_per_device_hour),
        "basis": shown,
        "note": version.note,
    }


def rate_view(version: RateVersion) -> dict[str, Any]:
    """A version of the rate book; rates null: this scope has none of its own from then on."""
    shown: dict[str, Any] | None
    match version.rates:
        case None:
            shown = None
        case ByCost(markup_permille=markup):
            shown = {"charge": "cost", "markup_permille": markup}
        case RateCard() as card:
            shown = {
                "charge": "card",
                "input_usd_per_million": _per_million(card.input),
                "cached_input_usd_per_million": _per_million(card.cached_input),
                "output_usd_per_million": _per_million(card.output),
                "training_usd_per_device_second": usd(card.training),
            }
    return {
        "tenant": version.tenant,
        "deployment": version.deployment,
        "effective_us": version.effective,
        "recorded_us": version.recorded,
        "rates": shown,
        "note": version.note,
    }


def bill_view(bill: Bill) -> dict[str, Any]:
    """A bill: its dimensions, its rows and their sums, cost (usd) and price (price_usd)."""
    return {
        "by": [str(dimension) for dimension in bill.by],
        "intervals": bill.intervals,
        "started_us": bill.started,
        "ended_us": bill.ended,
        "uncharged_device_nanos": bill.uncharged,
        **_sums(bill),
        "rows": [{**dict(zip(bill.by, row.key, strict=True)), **_sums(row)} for row in bill.rows],
    }


def _sums(one: Bill | BillRow) -> dict[str, Any]:
    return {
        "device_nanos": one.device_nanos,
        "device_seconds": decimal(one.device_nanos),
        "nano_usd": one.nano_usd,
        "usd": usd(one.nano_usd),
        "price_nano_usd": one.price,
        "price_usd": usd(one.price),
    }


def audit_view(entry: AuditEntry) -> dict[str, Any]:
    return {
        "at_us": entry.at,
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "detail": entry.detail,
    }


def _per_million(micro_usd: int) -> str:
    whole, part = divmod(micro_usd, 10**MICRO_PLACES)
    return f"{whole}.{part:0{MICRO_PLACES}d}"

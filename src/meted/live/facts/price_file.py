"""The price file: what devices cost, from whom, dated. Dollars in it are exact."""

import math
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import yaml

from meted.domain.catalogue import UnknownFactError, lookup_device_kind
from meted.domain.device_kind import DeviceKind
from meted.domain.market import Offer, Purchase
from meted.domain.units import NanoUSD
from meted.ledger.price_book import HOURS_PER_YEAR, PERMILLE, Owned
from meted.live.config import ConfigError, nano_usd
from meted.live.dollars import decimal, shortened
from meted.live.facts.described import Described
from meted.live.facts.errors import FactError
from meted.live.facts.facts_file import read_mapping

TOP_KEYS = ("dated", "source", "provider", "region", "offers")
OFFER_KEYS = (
    *("kind", "purchase", "usd_per_device_hour", "usd_per_hour", "owned", "devices", "available"),
    *("provider", "region", "interruptions_per_device_hour", "dated", "source"),
)
OWNED_KEYS = ("purchase_usd", "years", "watts", "usd_per_kwh", "pue", "care_usd_per_year")
MILLIS = 1_000


def read_price_file(
    path: Path, devices: Mapping[str, DeviceKind] | None = None
) -> tuple[Offer, ...]:
    """The offers of a YAML price file, in its order.

    devices: kinds of a facts file, known besides the built-in ones. Raises FactError, naming the
    offer and its fact, if a key is unknown, missing or wrong.
    """
    content = read_mapping(path)
    _refuse_unknown(content, TOP_KEYS, str(path))
    whole = Described(title=str(path), values=content)
    found = whole.items("offers")
    if not found:
        raise FactError(f"{path} lacks offers; list at least one")
    defaults = {key: content[key] for key in TOP_KEYS if key != "offers" and key in content}
    offers: list[Offer] = []
    for at, one in enumerate(found, start=1):
        if not isinstance(one, dict):
            raise FactError(f"offer {at} of {path} is {shortened(one)}, expected keys and values")
        given = {**defaults, **cast(dict[str, Any], one)}
        offers.append(_offer(Described(title=f"offer {at} of {path}", values=given), devices))
    return tuple(offers)


def _offer(given: Described, more: Mapping[str, DeviceKind] | None) -> Offer:
    _refuse_unknown(given.values, OFFER_KEYS, given.title)
    if not given.has("kind"):
        raise FactError(f"{given.title} lacks kind; name a kind of device, e.g. h100-80gb")
    purchase = _purchase(given)
    devices = given.integer("devices", default=1)
    try:
        kind = lookup_device_kind(str(given.values["kind"]), more).name
        return Offer(
            kind=kind,
            purchase=purchase,
            nano_usd_per_device_hour=_price(given, purchase, devices),
            devices=devices,
            available=given.integer("available") if given.has("available") else None,
            provider=given.text("provider"),
            region=given.text("region"),
            interruptions_per_device_hour=_number(given, "interruptions_per_device_hour", 0.0),
            dated=_dated(given),
            source=given.text("source"),
        )
    except (UnknownFactError, ConfigError) as error:
        raise FactError(f"{given.title}: {error}") from error
    except FactError:
        raise
    except ValueError as error:
        raise FactError(f"{given.title}: {error}") from error


def _purchase(given: Described) -> Purchase:
    asked = given.text("purchase") or ("owned" if given.has("owned") else "on-demand")
    try:
        purchase = Purchase(asked)
    except ValueError as error:
        raise given.wrong("purchase", f"one of {', '.join(Purchase)}") from error
    if given.has("owned") and purchase is not Purchase.OWNED:
        raise given.wrong("purchase", "owned beside the key owned")
    return purchase


def _price(given: Described, purchase: Purchase, devices: int) -> NanoUSD:
    """Of one device and hour. A part of a nano-USD that a division leaves is rounded up."""
    ways = [key for key in ("usd_per_device_hour", "usd_per_hour", "owned") if given.has(key)]
    if len(ways) != 1:
        raise FactError(
            f"{given.title} has {' and '.join(ways) or 'no price'}, expected one of "
            "usd_per_device_hour, usd_per_hour (of all its devices together) and owned"
        )
    if ways == ["owned"]:
        inner = given.inner("owned")
        assert inner is not None
        return owned_basis(inner).price.nano_usd_per_device_hour
    price = nano_usd(given.values[ways[0]], f"{ways[0]} of {given.title}")
    if ways == ["usd_per_hour"]:
        price = NanoUSD(math.ceil(Fraction(price, max(1, devices))))
    return price


def owned_basis(given: Described) -> Owned:
    """What a bought device costs: its share of the purchase, power and care, for one device.

    Raises FactError or ConfigError, naming the fact, if one is missing or wrong.
    """
    _refuse_unknown(given.values, OWNED_KEYS, given.title)
    for key in ("purchase_usd", "years", "watts", "usd_per_kwh"):
        if not given.has(key):
            raise FactError(f"{given.title} lacks {key}; add it")
    return Owned(
        purchase=_dollars(given, "purchase_usd"),
        lifetime_hours=_whole(given, "years", HOURS_PER_YEAR),
        milliwatts=_whole(given, "watts", MILLIS),
        nano_usd_per_kwh=_dollars(given, "usd_per_kwh"),
        pue_permille=_whole(given, "pue", PERMILLE) if given.has("pue") else PERMILLE,
        care_per_year=_dollars(given, "care_usd_per_year")
        if given.has("care_usd_per_year")
        else NanoUSD(0),
    )


def _dollars(given: Described, key: str) -> NanoUSD:
    return nano_usd(given.values[key], f"{key} of {given.title}")


def _whole(given: Described, key: str, unit: int) -> int:
    """A number in a smaller unit, rounded to a whole one."""
    return round(Decimal(str(_number(given, key, 0.0))) * unit)


def _number(given: Described, key: str, default: float) -> float:
    value = given.values.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise given.wrong(key, "a number")
    return value


def _dated(given: Described) -> str:
    """YAML reads 2025-06-01 as a date; in quotes it is text that must be one."""
    value = given.values.get("dated")
    if isinstance(value, date):
        return value.isoformat()
    text = given.text("dated")
    if text:
        try:
            date.fromisoformat(text)
        except ValueError as error:
            raise given.wrong("dated", "a date, e.g. 2025-06-01") from error
    return text


def _refuse_unknown(found: Mapping[str, Any], known: Sequence[str], title: str) -> None:
    unknown = {str(key) for key in found} - set(known)
    if unknown:
        raise FactError(
            f"{title} has the key {min(unknown)!r}, expected some of {', '.join(known)}"
        )


def price_file_text(offers: Sequence[Offer]) -> str:
    """The offers as a price file, which `read_price_file` reads as the same offers."""
    rows: list[dict[str, Any]] = []
    for one in offers:
        row: dict[str, Any] = {
            "kind": one.kind,
            "purchase": str(one.purchase),
            "usd_per_device_hour": decimal(one.nano_usd_per_device_hour),
            "devices": one.devices,
            "available": one.available,
            "provider": one.provider,
            "region": one.region,
            "interruptions_per_device_hour": one.interruptions_per_device_hour,
            "dated": one.dated,
            "source": one.source,
        }
        rows.append({key: value for key, value in row.items() if value not in (None, "", 0.0)})
    return yaml.safe_dump({"offers": rows}, sort_keys=False, allow_unicode=True, width=100)

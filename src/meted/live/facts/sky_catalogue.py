"""Prices from a catalogue of SkyPilot's form: a CSV with a row for each instance type and zone."""

import csv
import math
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path

from meted.domain.catalogue import UnknownFactError, lookup_device_kind
from meted.domain.market import Offer, Purchase
from meted.domain.units import NANOS_PER_SECOND, NanoUSD
from meted.live.facts.errors import FactError

COLUMNS = (
    *("InstanceType", "AcceleratorName", "AcceleratorCount", "Price", "SpotPrice", "Region"),
)
"""Those that are read; a catalogue has vCPUs, MemoryGiB, GpuInfo and AvailabilityZone, too."""

_ITS_NAMES = {"A100": "a100-40gb"}
"""Where a catalogue's name means another kind than people do who leave the memory out."""

_TPU = re.compile(r"tpu-(v5litepod|v5p)-(\d+)")
_CORES_PER_CHIP = {"v5litepod": 1, "v5p": 2}
"""A v5p slice is named by its TensorCores, two on a chip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedPrices:
    """The offers of a catalogue, and how many of its rows were left out, by reason."""

    offers: tuple[Offer, ...]
    left_out: Mapping[str, int]


def read_sky_catalogue(
    path: Path, *, provider: str = "", dated: str = "", regions: Collection[str] = ()
) -> ImportedPrices:
    """On-demand and spot offers of the devices that Meted knows, in `regions` or in all.

    A device's price is its instance's by the number of its devices, a part of a nano-USD rounded
    up. Of offers that differ in nothing but zone or instance type the cheapest is kept. Left out:
    accelerators that are not known, parts of one, and GPUs without the instance they need.
    Raises FactError, naming row and column, if one is missing or wrong.
    """
    cheapest: dict[tuple[str, Purchase, int, str], Offer] = {}
    left_out: Counter[str] = Counter()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            missing = set(COLUMNS) - set(rows.fieldnames or ())
            if missing:
                raise FactError(
                    f"{path} lacks the column {min(missing)}, expected {', '.join(COLUMNS)}; is it "
                    "a catalogue of instance types?"
                )
            for row in rows:
                region = row["Region"] or ""
                if not row["AcceleratorName"] or (regions and region not in regions):
                    continue
                found = _devices(row, f"line {rows.line_num} of {path}")
                if isinstance(found, str):
                    left_out[found] += 1
                    continue
                for purchase, column in _COLUMN_OF.items():
                    offer = _offer(
                        row, column, purchase, *found, provider=provider, dated=dated,
                        title=f"line {rows.line_num} of {path}", file=path.name,
                    )  # fmt: skip
                    if offer is None:
                        continue
                    key = (offer.kind, purchase, offer.devices, region)
                    known = cheapest.get(key)
                    if known is None or _price(offer) < _price(known):
                        cheapest[key] = offer
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FactError(f"{path} cannot be read: {error}") from error
    ordered = [cheapest[key] for key in sorted(cheapest)]
    return ImportedPrices(offers=tuple(ordered), left_out=dict(left_out))


_COLUMN_OF = {Purchase.ON_DEMAND: "Price", Purchase.SPOT: "SpotPrice"}


def _price(offer: Offer) -> int:
    return offer.nano_usd_per_device_hour


def _devices(row: Mapping[str, str], title: str) -> tuple[str, int] | str:
    """The kind of a row's devices and how many they are, or why the row is left out."""
    name = row["AcceleratorName"]
    slice_of = _TPU.fullmatch(name)
    if slice_of is not None:
        chips = int(slice_of[2]) // _CORES_PER_CHIP[slice_of[1]]
        return lookup_device_kind(f"tpu-{slice_of[1].replace('litepod', 'e')}").name, max(1, chips)
    try:
        kind = lookup_device_kind(_ITS_NAMES.get(name, name)).name
    except UnknownFactError:
        return f"{name}, not a known device kind"
    if not row["InstanceType"]:
        return f"{name}, priced without an instance"
    count = _decimal(row["AcceleratorCount"], "AcceleratorCount", title)
    if count is None or count != count.to_integral_value() or count < 1:
        return f"{name}, a part of a device"
    return kind, int(count)


def _offer(
    row: Mapping[str, str],
    column: str,
    purchase: Purchase,
    kind: str,
    devices: int,
    *,
    provider: str,
    dated: str,
    title: str,
    file: str,
) -> Offer | None:
    price = _decimal(row[column], column, title)
    if price is None:
        return None
    nanos = math.ceil(Fraction(price) * NANOS_PER_SECOND / devices)
    what = row["InstanceType"] or row["AcceleratorName"]
    return Offer(
        kind=kind,
        purchase=purchase,
        nano_usd_per_device_hour=NanoUSD(nanos),
        devices=devices,
        provider=provider,
        region=row["Region"] or "",
        dated=dated,
        source=f"{what} in {file}",
    )


def _decimal(text: str | None, column: str, title: str) -> Decimal | None:
    """A number of 0 or more, None for an empty cell."""
    if not text or text.lower() == "nan":
        return None
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal(-1)
    if not value.is_finite() or value < 0:
        raise FactError(f"{column} in {title} is {text!r}, expected a number, 0 or more")
    return value

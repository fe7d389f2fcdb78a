"""The price book: what a device-hour costs us, by device kind and time. It grows, never changes."""

import math
from dataclasses import dataclass, field
from fractions import Fraction

from meted.domain.pool import Price
from meted.domain.units import Micros, NanoUSD
from meted.ledger.versions import Timeline, check_appended

HOURS_PER_YEAR = 8_760
MILLIWATTS_PER_KILOWATT = 1_000_000
PERMILLE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rented:
    """A device paid by the hour. spot: at a price, and for a time, that the lessor may end."""

    nano_usd_per_device_hour: NanoUSD
    spot: bool = False

    def __post_init__(self) -> None:
        _expect(
            "a rented device", "nano_usd_per_device_hour", self.nano_usd_per_device_hour, least=0
        )

    @property
    def price(self) -> Price:
        return Price(nano_usd_per_device_hour=self.nano_usd_per_device_hour)


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """A device bought: its share of the node's purchase, power and care, for one device.

    milliwatts: mean draw at the wall before cooling. pue_permille: power usage effectiveness
    (ISO/IEC 30134-2), facility over equipment energy, 1000 for a desk. care_per_year: staff, space,
    repairs. utilisation_permille: part of the hours owned that the price must be earned in; leave
    it 1000 where the books enter idle hours too, as Meted's do, or they are paid twice.
    """

    purchase: NanoUSD
    lifetime_hours: int
    milliwatts: int
    nano_usd_per_kwh: NanoUSD
    pue_permille: int = PERMILLE
    care_per_year: NanoUSD = NanoUSD(0)
    utilisation_permille: int = PERMILLE

    def __post_init__(self) -> None:
        what = "an owned device"
        _expect(what, "purchase", self.purchase, least=0)
        _expect(what, "lifetime_hours", self.lifetime_hours, least=1)
        _expect(what, "milliwatts", self.milliwatts, least=0)
        _expect(what, "nano_usd_per_kwh", self.nano_usd_per_kwh, least=0)
        _expect(what, "pue_permille", self.pue_permille, least=PERMILLE)
        _expect(what, "care_per_year", self.care_per_year, least=0)
        _expect(what, "utilisation_permille", self.utilisation_permille, least=1, most=PERMILLE)

    @property
    def price(self) -> Price:
        """Nano-USD per device-hour sold, exact until it is rounded up, once, to a whole one.

        (purchase / lifetime + care per year / 8760 + kW * PUE * price per kWh) / utilisation:
        straight-line depreciation plus running cost over the hours sold; Barroso, Hölzle and
        Ranganathan, The Datacenter as a Computer, 3rd edition 2018, chapter 6.
        """
        depreciation = Fraction(self.purchase, self.lifetime_hours)
        care = Fraction(self.care_per_year, HOURS_PER_YEAR)
        energy = Fraction(
            self.milliwatts * self.pue_permille * self.nano_usd_per_kwh,
            MILLIWATTS_PER_KILOWATT * PERMILLE,
        )
        owned = depreciation + care + energy
        sold = math.ceil(owned * PERMILLE / self.utilisation_permille)
        return Price(nano_usd_per_device_hour=NanoUSD(sold))


def _expect(what: str, name: str, value: int, *, least: int, most: int | None = None) -> None:
    if value < least or (most is not None and value > most):
        bounds = f"{least} or more" if most is None else f"{least} to {most}"
        raise ValueError(f"{name} of {what} is {value}, expected {bounds}; correct its price")


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceVersion:
    """From `effective` on, a device of this kind costs this much; written down at `recorded`."""

    device_kind: str
    effective: Micros
    recorded: Micros
    basis: Rented | Owned
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBook:
    """All prices that devices ever had, in the order in which they were recorded.

    Raises ValueError if a version is there twice or was recorded before the one before it.
    """

    versions: tuple[PriceVersion, ...] = ()
    _timelines: dict[str, Timeline[PriceVersion]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_appended(self.versions, book="the price book")
        by_kind: dict[str, list[PriceVersion]] = {}
        for version in self.versions:
            by_kind.setdefault(version.device_kind, []).append(version)
        timelines = {kind: Timeline(versions) for kind, versions in by_kind.items()}
        object.__setattr__(self, "_timelines", timelines)

    def at(self, device_kind: str, moment: Micros) -> Price:
        """The price at a moment: the latest effective version, the last recorded among equals.

        Raises ValueError if the book has no price for the kind, or none yet at that moment.
        """
        timeline = self._timeline(device_kind)
        version = timeline.at(moment)
        if version is None:
            raise ValueError(
                f"device kind {device_kind!r} has no price at {moment}, its first one takes effect "
                f"at {timeline.moments[0]}; append a version that is effective earlier"
            )
        return version.basis.price

    def changes(self, device_kind: str, after: Micros, until: Micros) -> tuple[Micros, ...]:
        """Moments, after < moment <= until, at which the price becomes another one.

        The moment of the first price counts. Raises ValueError for a kind without a price.
        """
        timeline = self._timeline(device_kind)
        version = timeline.at(after)
        price = version.basis.price if version else None
        moments: list[Micros] = []
        for moment in timeline.between(after, until):
            before, price = price, self.at(device_kind, moment)
            if price != before:
                moments.append(moment)
        return tuple(moments)

    def with_version(self, version: PriceVersion) -> "PriceBook":
        """This book with one more version.

        Raises ValueError if it is there already or was recorded before the last one.
        """
        return PriceBook(versions=(*self.versions, version))

    def _timeline(self, device_kind: str) -> Timeline[PriceVersion]:
        timeline = self._timelines.get(device_kind)
        if timeline is None:
            known = ", ".join(sorted(self._timelines)) or "none"
            raise ValueError(
                f"no price for device kind {device_kind!r}; the price book knows {known}; "
                "append a version for it"
            )
        return timeline

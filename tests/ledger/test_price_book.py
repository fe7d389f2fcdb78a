"""The price book: figures by hand, and what holds at a moment against a plain search."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meted.domain.pool import Price
from meted.domain.units import Micros, NanoUSD
from meted.ledger.price_book import Owned, PriceBook, PriceVersion, Rented

USD = 1_000_000_000


def price(nanos: int) -> Price:
    return Price(nano_usd_per_device_hour=NanoUSD(nanos))


def rented(
    nanos: int, *, effective: int, recorded: int, kind: str = "h100", note: str = ""
) -> PriceVersion:
    return PriceVersion(
        device_kind=kind,
        effective=Micros(effective),
        recorded=Micros(recorded),
        basis=Rented(nano_usd_per_device_hour=NanoUSD(nanos)),
        note=note,
    )


def owned(**changes: int) -> Owned:
    """A card for $26,280 over 3 years, 700 W at $0.10 per kWh: $1 + $0.07 an hour."""
    fields = {
        "purchase": 26_280 * USD,
        "lifetime_hours": 26_280,
        "milliwatts": 700_000,
        "nano_usd_per_kwh": USD // 10,
        **changes,
    }
    return Owned(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("basis", "expected"),
    [
        (owned(), 1_070_000_000),
        (owned(pue_permille=1_500), 1_105_000_000),
        (owned(care_per_year=876 * USD), 1_170_000_000),
        (owned(utilisation_permille=500), 2_140_000_000),
        (
            owned(pue_permille=1_500, care_per_year=876 * USD, utilisation_permille=800),
            1_506_250_000,
        ),
        (owned(purchase=0, milliwatts=0), 0),
    ],
)
def test_an_owned_device_costs_depreciation_care_and_energy_per_hour_sold(
    basis: Owned, expected: int
) -> None:
    assert basis.price == price(expected)


def test_the_price_of_an_owned_device_is_rounded_up_once() -> None:
    # A third of a nano-USD for each of depreciation and (nearly) energy: 2 in all when rounded
    # apart, 1 when rounded once.
    basis = owned(purchase=1, lifetime_hours=3, milliwatts=333_333, nano_usd_per_kwh=1)
    assert basis.price == price(1)
    assert owned(purchase=10, lifetime_hours=3, milliwatts=0).price == price(4)


MONEY = st.integers(min_value=0, max_value=10**15)


@given(
    purchase=MONEY,
    lifetime=st.integers(min_value=1, max_value=10**6),
    care=MONEY,
    utilisation=st.integers(min_value=1, max_value=1000),
)
def test_selling_the_target_hours_of_a_life_recovers_what_was_spent_to_a_nano_per_hour(
    purchase: int, lifetime: int, care: int, utilisation: int
) -> None:
    basis = owned(
        purchase=purchase,
        lifetime_hours=lifetime,
        care_per_year=care,
        utilisation_permille=utilisation,
        milliwatts=0,
    )
    # Both sides in nano-USD times 8760 * 1000.
    earned = basis.price.nano_usd_per_device_hour * lifetime * utilisation * 8760
    spent = (purchase * 8760 + care * lifetime) * 1000
    assert spent <= earned < spent + lifetime * utilisation * 8760


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lifetime_hours": 0}, "lifetime_hours of an owned device is 0, expected 1 or more"),
        ({"utilisation_permille": 0}, "utilisation_permille .* is 0, expected 1 to 1000"),
        ({"utilisation_permille": 1001}, "is 1001, expected 1 to 1000"),
        ({"pue_permille": 999}, "pue_permille .* is 999, expected 1000 or more"),
        ({"purchase": -1}, "purchase .* is -1"),
        ({"milliwatts": -1}, "milliwatts .* is -1"),
        ({"nano_usd_per_kwh": -1}, "nano_usd_per_kwh .* is -1"),
        ({"care_per_year": -1}, "care_per_year .* is -1"),
    ],
)
def test_an_impossible_device_is_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        owned(**changes)


def test_a_negative_rent_is_refused() -> None:
    with pytest.raises(ValueError, match="is -1, expected 0 or more"):
        Rented(nano_usd_per_device_hour=NanoUSD(-1))


def test_a_price_holds_from_the_moment_it_takes_effect() -> None:
    book = PriceBook(
        versions=(rented(5, effective=0, recorded=0), rented(7, effective=100, recorded=50))
    )
    assert book.at("h100", Micros(99)) == price(5)
    assert book.at("h100", Micros(100)) == price(7)


def test_the_last_recorded_of_equal_moments_wins() -> None:
    book = PriceBook().with_version(rented(5, effective=0, recorded=1))
    corrected = book.with_version(rented(6, effective=0, recorded=2, note="invoice"))
    assert book.at("h100", Micros(9)) == price(5)
    assert corrected.at("h100", Micros(9)) == price(6)


def test_an_unknown_kind_is_named_with_those_there_are() -> None:
    book = PriceBook(
        versions=(
            rented(5, effective=0, recorded=0),
            rented(1, effective=0, recorded=0, kind="cpu-core"),
        )
    )
    with pytest.raises(ValueError, match="'tpu'; the price book knows cpu-core, h100;"):
        book.at("tpu", Micros(0))
    with pytest.raises(ValueError, match="'tpu'; the price book knows none;"):
        PriceBook().changes("tpu", Micros(0), Micros(1))


def test_before_its_first_price_a_device_has_none() -> None:
    book = PriceBook(versions=(rented(5, effective=10, recorded=0),))
    with pytest.raises(ValueError, match=r"'h100' has no price at 9, its first one .* at 10"):
        book.at("h100", Micros(9))


def test_the_book_only_grows() -> None:
    version = rented(5, effective=0, recorded=10)
    book = PriceBook().with_version(version)
    with pytest.raises(ValueError, match=r"last written at 10 .* recorded at 9"):
        book.with_version(rented(6, effective=50, recorded=9))
    with pytest.raises(ValueError, match=r"holds .* already"):
        book.with_version(version)
    assert book.versions == (version,)


def test_a_new_version_leaves_the_old_book_as_it_was() -> None:
    book = PriceBook().with_version(rented(5, effective=0, recorded=0))
    book.with_version(rented(6, effective=0, recorded=1))
    assert book.at("h100", Micros(1)) == price(5)


def test_changes_are_where_the_price_becomes_another_one() -> None:
    book = PriceBook(
        versions=(
            rented(5, effective=10, recorded=0),
            rented(5, effective=20, recorded=1),
            rented(7, effective=30, recorded=2),
            rented(9, effective=40, recorded=3),
            rented(7, effective=40, recorded=4),
        )
    )
    assert book.changes("h100", Micros(0), Micros(99)) == (10, 30)
    assert book.changes("h100", Micros(10), Micros(29)) == ()
    assert book.changes("h100", Micros(29), Micros(30)) == (30,)
    assert book.changes("h100", Micros(30), Micros(99)) == ()


VERSIONS = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=12
)


@given(versions=VERSIONS, moment=st.integers(0, 13))
def test_what_holds_is_what_a_plain_search_finds(
    versions: list[tuple[int, int, int]], moment: int
) -> None:
    recorded = 0
    book = PriceBook()
    winner: tuple[int, int, int] | None = None
    for order, (effective, later, nanos) in enumerate(versions):
        recorded += later
        book = book.with_version(
            rented(nanos, effective=effective, recorded=recorded, note=str(order))
        )
        if effective <= moment and (winner is None or (effective, order) > winner[:2]):
            winner = (effective, order, nanos)
    if winner is None:
        with pytest.raises(ValueError, match="has no price at"):
            book.at("h100", Micros(moment))
    else:
        assert book.at("h100", Micros(moment)) == price(winner[2])


@given(versions=VERSIONS)
def test_between_two_changes_the_price_stands_still(versions: list[tuple[int, int, int]]) -> None:
    book = PriceBook(
        versions=tuple(
            rented(nanos, effective=effective, recorded=order)
            for order, (effective, _, nanos) in enumerate(versions)
        )
    )
    first = min(effective for effective, _, _ in versions)
    changes = book.changes("h100", Micros(first - 1), Micros(13))
    for moment in range(first, 13):
        before = book.at("h100", Micros(moment - 1)) if moment > first else None
        assert (book.at("h100", Micros(moment)) != before) == (moment in changes)

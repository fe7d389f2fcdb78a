"""A price file's dollars are exact, and what is wrong in it is named."""

from pathlib import Path

import pytest

from meted.domain.catalogue import DEVICE_KINDS
from meted.domain.catalogue.example_prices import EXAMPLE_PRICES
from meted.domain.market import Offer, Purchase
from meted.domain.units import NanoUSD
from meted.ledger.price_book import Owned
from meted.live.facts.errors import FactError
from meted.live.facts.price_file import price_file_text, read_price_file

EXAMPLE = Path(__file__).parents[3] / "examples" / "prices.yaml"
NANO = 10**9


def read(tmp_path: Path, text: str) -> tuple[Offer, ...]:
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    return read_price_file(path)


def test_dollars_are_exact_to_the_nano_and_a_nodes_price_is_divided_upwards(tmp_path: Path) -> None:
    exact, node, plain = read(
        tmp_path,
        """
dated: 2025-06-01
provider: somebody
offers:
  - {kind: H100, usd_per_device_hour: "0.123456789"}
  - {kind: a100-80gb, usd_per_hour: "10", devices: 3, available: 6, provider: other}
  - {kind: t4, purchase: spot, usd_per_device_hour: 0.1, interruptions_per_device_hour: 0.01}
""",
    )
    assert (exact.kind, exact.nano_usd_per_device_hour) == ("h100-80gb", 123_456_789)
    assert (exact.purchase, exact.dated, exact.provider) == (
        *(Purchase.ON_DEMAND, "2025-06-01", "somebody"),
    )
    assert (node.nano_usd_per_device_hour, node.available) == (3_333_333_334, 6)
    assert node.provider == "other"
    assert (plain.nano_usd_per_device_hour, plain.purchase) == (100_000_000, Purchase.SPOT)


def test_an_owned_devices_price_is_the_price_books_own(tmp_path: Path) -> None:
    (owned,) = read(
        tmp_path,
        """
offers:
  - kind: rtx-4090
    owned: {purchase_usd: "2600.50", years: 3.5, watts: 451.5, usd_per_kwh: "0.301",
            pue: 1.25, care_usd_per_year: "100"}
""",
    )
    basis = Owned(
        purchase=NanoUSD(2600 * NANO + NANO // 2),
        lifetime_hours=30_660,
        milliwatts=451_500,
        nano_usd_per_kwh=NanoUSD(301_000_000),
        pue_permille=1_250,
        care_per_year=NanoUSD(100 * NANO),
    )
    assert owned.purchase is Purchase.OWNED
    assert owned.nano_usd_per_device_hour == basis.price.nano_usd_per_device_hour


@pytest.mark.parametrize(
    ("offer", "says"),
    [
        ('{kind: t4, usd_per_device_hour: "0.1234567891"}', "at most 9 decimals"),
        ('{kind: t4, usd_per_device_hour: "-1"}', "usd_per_device_hour of offer 1"),
        ("{kind: t4}", "offer 1 of .* has no price, expected one of"),
        ('{kind: t4, usd_per_device_hour: "1", usd_per_hour: "1"}', "has usd_per_device_hour and"),
        ('{usd_per_device_hour: "1"}', "lacks kind"),
        ('{kind: t5000, usd_per_device_hour: "1"}', "device kind 't5000' is not known"),
        ('{kind: t4, usd_per_device_hour: "1", colour: red}', "has the key 'colour'"),
        ('{kind: t4, usd_per_device_hour: "1", purchase: lease}', "purchase of offer 1 .* 'lease'"),
        ('{kind: t4, usd_per_device_hour: "1", devices: 0}', "devices of an offer of t4 is 0"),
        (
            '{kind: t4, usd_per_device_hour: "1", dated: June}',
            "dated of offer 1 .* expected a date",
        ),
        ("{kind: t4, owned: {years: 3}}", "owned of offer 1 of .* lacks purchase_usd"),
        (
            '{kind: t4, owned: {purchase_usd: "1", years: 3, watts: 7, usd_per_kwh: "1", vat: 1}}',
            "owned of offer 1 of .* has the key 'vat'",
        ),
        (
            '{kind: t4, owned: {purchase_usd: "1", years: 3, watts: x, usd_per_kwh: "1"}}',
            "watts of owned of offer 1 .* expected a number",
        ),
        (
            '{kind: t4, purchase: spot, owned: {purchase_usd: "1", years: 3, watts: 1, '
            'usd_per_kwh: "1"}}',
            "purchase of offer 1 .* expected owned",
        ),
        ("cheap", "offer 1 of .* is 'cheap'"),
    ],
)
def test_a_wrong_or_missing_fact_is_named(tmp_path: Path, offer: str, says: str) -> None:
    with pytest.raises(FactError, match=says):
        read(tmp_path, f"offers:\n  - {offer}\n")


def test_an_unknown_key_and_an_empty_list_are_errors(tmp_path: Path) -> None:
    with pytest.raises(FactError, match="has the key 'currency'"):
        read(tmp_path, "currency: EUR\noffers: []\n")
    with pytest.raises(FactError, match="lacks offers"):
        read(tmp_path, "offers: []\n")


def test_written_offers_are_read_as_the_same(tmp_path: Path) -> None:
    path = tmp_path / "written.yaml"
    path.write_text(price_file_text(EXAMPLE_PRICES))
    assert read_price_file(path) == EXAMPLE_PRICES


def test_the_example_file_agrees_with_the_built_in_examples() -> None:
    built_in = {
        (one.kind, one.purchase, one.provider): one.nano_usd_per_device_hour
        for one in EXAMPLE_PRICES
    }
    offers = read_price_file(EXAMPLE)
    assert len(offers) >= 8
    for one in offers:
        assert built_in[one.kind, one.purchase, one.provider] == one.nano_usd_per_device_hour


def test_every_example_price_is_of_a_known_kind_dated_and_says_where_it_was_read() -> None:
    assert {one.kind for one in EXAMPLE_PRICES} <= set(DEVICE_KINDS)
    assert {one.purchase for one in EXAMPLE_PRICES} >= {
        *(Purchase.ON_DEMAND, Purchase.SPOT, Purchase.OWNED),
    }
    for one in EXAMPLE_PRICES:
        assert one.dated.startswith("20") and "example" in one.source
        if one.purchase is Purchase.SPOT:
            assert one.interruptions_per_device_hour > 0


@pytest.mark.parametrize("fact", ["devices", "available", "nano_usd_per_device_hour"])
def test_an_offer_below_nothing_is_refused(fact: str) -> None:
    with pytest.raises(ValueError, match=rf"{fact} of an offer of t4 is -1"):
        facts = {"kind": "t4", "purchase": Purchase.SPOT, "nano_usd_per_device_hour": 1, fact: -1}
        Offer(**facts)  # type: ignore[arg-type]

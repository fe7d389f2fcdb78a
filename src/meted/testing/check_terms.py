"""Conformance of what all houses share: prices, rates and budgets."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

from meted.domain.budget import Period
from meted.domain.units import BudgetName, Micros, NanoUSD
from meted.ledger.price_book import Owned, PriceVersion, Rented
from meted.ledger.rates import ByCost, RateCard, RateVersion
from meted.live.store import Store, StoreError
from meted.testing.store_rows import TENANT, WORDS, MakeStore, budget


def check_terms(make_store: MakeStore) -> None:
    """Versions of prices and rates only come on top; budgets keep their scope; all are seen."""
    with closing(make_store()) as store, closing(make_store("there")) as other:
        _check_prices(store, other)
        _check_rates(store, other)
        _check_budgets(store, other)


def _check_prices(store: Store, other: Store) -> None:
    rented = PriceVersion(
        device_kind="cpu",
        effective=Micros(5),
        recorded=Micros(10),
        basis=Rented(nano_usd_per_device_hour=NanoUSD(7), spot=True),
    )
    owned = replace(
        rented,
        recorded=Micros(11),
        basis=Owned(
            purchase=NanoUSD(10**15),
            lifetime_hours=30_000,
            milliwatts=400_000,
            nano_usd_per_kwh=NanoUSD(10**8),
        ),
        note="bought",
    )
    assert other.price_book().versions == ()
    for version in (rented, owned):
        before = other.version()
        store.add_price(version)
        assert other.version() != before
    # What was written already, by a call whose answer was lost, is not written again.
    store.add_price(owned)
    assert other.price_book().versions == (rented, owned)
    _refuses(lambda: store.add_price(replace(rented, note="late")), says="recorded")
    assert other.price_book().versions == (rented, owned)


def _check_rates(store: Store, other: Store) -> None:
    any_tenant = RateVersion(effective=Micros(0), recorded=Micros(3), rates=ByCost())
    card = RateVersion(
        effective=Micros(1),
        recorded=Micros(4),
        rates=RateCard(input=1, cached_input=2, output=3, training=4),
        tenant=TENANT,
        deployment=WORDS,
        note="n",
    )
    ended = replace(card, effective=Micros(9), recorded=Micros(5), rates=None)
    assert other.rate_book().versions == ()
    for version in (any_tenant, card, ended):
        before = other.version()
        store.add_rate(version)
        assert other.version() != before
    store.add_rate(ended)
    assert other.rate_book().versions == (any_tenant, card, ended)
    _refuses(lambda: store.add_rate(replace(card, note="late")), says="recorded")


def _check_budgets(store: Store, other: Store) -> None:
    day, total = budget("b-day", 5, period=Period.DAY), budget("a-total", 7, deployment=WORDS)
    assert list(other.budgets()) == []
    for one in (day, total):
        before = other.version()
        store.save_budget(one)
        assert other.version() != before
    assert list(other.budgets()) == [total, day]
    changed = replace(day, limit=NanoUSD(6), hard=False, alerts=(10,))
    other.save_budget(changed)
    assert list(store.budgets()) == [total, changed]
    for other_scope in (
        replace(day, period=Period.MONTH),
        replace(day, deployment=WORDS),
        replace(day, tenant="else"),
    ):
        _refuses(lambda one=other_scope: store.save_budget(one), says="b-day")
    _refuses(lambda: store.save_budget(replace(day, limit=NanoUSD(2**63))), says="limit")
    before = other.version()
    store.remove_budget(day.name)
    assert other.version() != before
    assert list(other.budgets()) == [total]
    _refuses(lambda: store.remove_budget(day.name), says="a-total")
    _refuses(lambda: store.remove_budget(BudgetName("unknown")), says="a-total")
    store.save_budget(replace(day, period=Period.MONTH))
    assert len(other.budgets()) == 2
    for name in ("a-total", "b-day"):
        store.remove_budget(BudgetName(name))


def _refuses(call: Callable[[], object], *, says: str) -> None:
    try:
        call()
    except StoreError as error:
        assert says in str(error), error
    else:
        raise AssertionError(f"expected a refusal that says {says!r}")

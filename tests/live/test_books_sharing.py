"""Shared cost: direct, shared and unallocated are the capacity's cost, interval by interval."""

import random
from contextlib import closing
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from books_maker import HOUR_US, START, BooksMaker
from hypothesis import given, settings
from hypothesis import strategies as st

from meted.domain.line import Account, Kind
from meted.domain.units import Micros, TenantName
from meted.ledger.shares import Method
from meted.live import books
from meted.live.books import Dimension
from meted.live.store import Batch
from meted.live.stores import open_store
from meted.testing.store_rows import interval, request_account

DIMENSIONS = [one for one in Dimension if one is not Dimension.REQUEST]
A, B = TenantName("a"), TenantName("b")


def training(tenant: str) -> Account:
    return Account(kind=Kind.TRAINING, tenant=TenantName(tenant))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Second 0: a and b, half of it idle; second 1: a alone; second 2: nobody."""
    path = tmp_path / "books.sqlite"
    with closing(open_store(path, house="here")) as store:
        used = (
            {training("a"): 300_000_000, training("b"): 200_000_000},
            {training("a"): 100_000_000},
            {},
        )
        for number, parts in enumerate(used):
            store.write(Batch(closed=(interval(number, parts),)))
    return path


def shared(path: Path, method: Method, **weights: int) -> dict[str | None, int]:
    bill = books.bill(
        path,
        by=[Dimension.TENANT],
        shared=method,
        reservations={TenantName(name): weight for name, weight in weights.items()},
    )
    return {row.key[0]: row.shared for row in bill.rows}


def test_each_interval_is_shared_by_those_who_were_in_it(path: Path) -> None:
    # 1.5 s at 5,555.6 nano-USD a second are idle in seconds 0 and 1, and 1 s in second 2.
    even = shared(path, Method.EVEN)
    assert even == {"a": 1_389 + 5_001, "b": 1_389, None: -(2 * 1_389 + 5_001)}
    proportional = shared(path, Method.PROPORTIONAL)
    assert proportional["b"] == 1_111
    assert sum(proportional.values()) == 0


def test_what_nobody_can_bear_is_unallocated(path: Path) -> None:
    sharing = books.bill(path, shared=Method.EVEN).sharing
    assert sharing is not None
    assert sharing.unallocated == 5_555
    assert sharing.capacity == books.bill(path).nano_usd


def test_a_reservation_is_paid_whether_it_was_used_or_not(path: Path) -> None:
    reserved = shared(path, Method.BY_RESERVATION, b=3, c=1)
    assert reserved["c"] > 0
    assert "a" in reserved and reserved["a"] == 0
    assert sum(reserved.values()) == 0


def test_without_a_method_nothing_moves(path: Path) -> None:
    assert set(shared(path, Method.NONE).values()) == {0}


def test_a_tenant_is_not_shown_what_is_shared(path: Path) -> None:
    with pytest.raises(ValueError, match="shared"):
        books.bill(path, tenant=A, shared=Method.EVEN)


def test_a_request_bears_its_part(tmp_path: Path) -> None:
    path = tmp_path / "one.sqlite"
    with closing(open_store(path, house="here")) as store:
        store.write(Batch(closed=(interval(0, {request_account(0): 10**9 // 2}),)))
    bill = books.bill(path, by=[Dimension.REQUEST], shared=Method.EVEN)
    assert {row.key[0]: row.shared for row in bill.rows} == {"request-0": 2_778, None: -2_778}


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    method=st.sampled_from(Method),
    folded=st.booleans(),
    weights=st.dictionaries(st.sampled_from([A, B]), st.integers(0, 5)),
)
def test_direct_shared_and_unallocated_are_the_capacity_in_every_breakdown(
    seed: int, method: Method, folded: bool, weights: dict[TenantName, int]
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "books.sqlite"
        with closing(open_store(path, house="here")) as store:
            maker = BooksMaker(store, random.Random(seed))
            maker.session(hours=2)
            maker.recover()
        if folded:
            far = Micros(START + 500 * HOUR_US)
            books.compact(path, before=far, now=Micros(far + 48 * HOUR_US))
        capacity = books.bill(path).nano_usd
        for by in (*combinations(DIMENSIONS, 2), (Dimension.TENANT,)):
            bill = books.bill(path, by=by, shared=method, reservations=weights)
            assert bill.sharing is not None
            assert bill.sharing.capacity == bill.nano_usd == capacity
            assert sum(row.shared for row in bill.rows) == 0
            if Dimension.TENANT in by:
                place = by.index(Dimension.TENANT)
                house = [row for row in bill.rows if row.key[place] is None]
                left = sum(row.nano_usd + row.shared for row in house)
                assert left == bill.sharing.unallocated

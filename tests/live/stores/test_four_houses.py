"""Four house processes on one database: nobody overruns a budget, nothing is counted twice."""

import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from meted.domain.units import Micros
from meted.ledger.windows import window_of
from meted.live.stores import open_database, open_store
from meted.testing.store_rows import budget

HOUSES = 4
LIMIT = 2_000
LIVES_US = 60_000_000

HOUSE = """
import sys, time
from dataclasses import replace
from meted.domain.units import BudgetName, Micros, NanoUSD, RequestId
from meted.ledger.windows import window_of
from meted.live.store import Batch, LeaseLostError, LeaseWish
from meted.live.stores import open_store
from meted.testing.store_rows import budget, request_row

target, house, limit, starts = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
store = open_store(target, house=house)
window = window_of(budget("hard", limit), Micros(starts))
late = window_of(budget("late", limit), Micros(starts))
spent, refused, number = 0, 0, 0
print("ready", flush=True)
sys.stdin.readline()
while refused < 20:
    now = time.time_ns() // 1000
    wish = LeaseWish(window=window, granted=NanoUSD(spent + 90), least=NanoUSD(spent + 7))
    (lease,) = store.lease([wish], now=Micros(now), until=Micros(now + 60_000_000))
    assert lease.all_granted <= limit, lease
    assert lease.spent == spent, (lease, spent)
    refused = refused + 1 if lease.granted < spent + 7 else 0
    while lease.granted >= spent + 7:
        rows = []
        for price in (3, 4):
            row = request_row(0, 5, price=price, windows=(window,))
            account = replace(row.account, request=RequestId(f"{house}-{number}"))
            rows.append(replace(row, account=account, arrived=Micros(starts)))
            number += 1
        batch = Batch(session=house, requests=tuple(rows))
        store.write(batch)
        if number % 3 == 0:
            store.write(batch)
        spent += 7
    known = any(one.name == "late" for one in store.budgets())
    if house == "house-0" and number > 60 and not known:
        store.save_budget(budget("late", 2**40, hard=False))
    if known:
        wish = LeaseWish(window=late, granted=NanoUSD(0), least=NanoUSD(0))
        store.lease([wish], now=Micros(now), until=Micros(now + 60_000_000))
print(spent, number, flush=True)
"""


@pytest.fixture(params=["sqlite", "postgres"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "books.sqlite")
    dsn: str = request.getfixturevalue("postgres_dsn")
    return dsn


def test_four_houses_spend_the_budget_to_the_last_and_not_more(target: str) -> None:
    starts = time.time_ns() // 1000
    with closing(open_store(target, house="admin")) as store:
        store.save_budget(budget("hard", LIMIT))
        houses = [
            subprocess.Popen(
                [sys.executable, "-c", HOUSE, target, f"house-{n}", str(LIMIT), str(starts)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for n in range(HOUSES)
        ]
        for house in houses:
            assert house.stdout is not None
            assert house.stdout.readline() == "ready\n"
        ended = [house.communicate("go\n", timeout=120) for house in houses]
        assert [error for _, error in ended if error] == []
        told = [tuple(map(int, said.split())) for said, _ in ended]
        spent, count = (sum(values) for values in zip(*told, strict=True))
        assert LIMIT - 7 < spent <= LIMIT
        hard, late = sorted(store.standings(now=Micros(starts)), key=lambda one: one.budget.name)
        assert (hard.all_spent, late.all_spent) == (spent, spent)
        assert hard.all_granted <= LIMIT
        assert hard.window == window_of(hard.budget, Micros(starts))
    with closing(open_database(target)) as database:
        postings = database.read(lambda db: db.rows("SELECT count(*), sum(price) FROM postings"))
    assert postings == [(count, spent)]

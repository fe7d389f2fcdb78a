"""The house's money over a real store: what changes is durable, reread, and logged once."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest

from meted.domain.budget import Budget, Period
from meted.domain.tenancy import DEFAULT_PROJECT
from meted.domain.units import BudgetName, KeyId, Micros, NanoUSD, ProjectName, TenantName
from meted.ledger.price_book import PriceVersion, Rented
from meted.ledger.rates import ByCost, RateVersion
from meted.live.doors import BudgetGauge, HouseError, Key
from meted.live.house_money import HouseMoney
from meted.live.store import Store, StoreDownError
from meted.live.stores import open_store
from meted.policy.rate_limit import NO_LIMITS, Limits

T = TypeVar("T")

NOW = Micros(1_760_000_000_000_000)
ACME, OTHER = TenantName("acme"), TenantName("umbrella")
ADMIN = Key(
    id=KeyId("key-root"),
    tenant=TenantName("house"),
    admin=True,
    name="root",
    prefix="mt-root",
    created=0,
)


class Desk:
    """A `HouseMoney` under test, with a clock to move and the rereads counted."""

    def __init__(self, store: Store, books: Path) -> None:
        self.store = store
        self.now = NOW
        self.rereads = 0
        self.down = False
        self.gauges: list[BudgetGauge] = []
        self.money = HouseMoney(
            store=store,
            in_writer=self._in_writer,
            books=books,
            wall=lambda: self.now,
            on_change=self._reread,
            gauges=lambda: self.gauges,
        )

    async def _in_writer(self, call: Callable[[], T]) -> T:
        await asyncio.sleep(0)
        if self.down:
            raise StoreDownError("the database does not answer")
        return call()

    async def _reread(self) -> None:
        self.rereads += 1

    @property
    def actions(self) -> list[tuple[str, str]]:
        return [(entry.action, entry.actor) for entry in self.store.audit_log(100)][::-1]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    books = tmp_path / "books.sqlite"
    with closing(open_store(books, house="house-a")) as store:
        yield Desk(store, books)


def budget(name: str = "month", tenant: TenantName = ACME, limit: int = 10**9) -> Budget:
    return Budget(name=BudgetName(name), tenant=tenant, period=Period.MONTH, limit=NanoUSD(limit))


async def create(desk: Desk, tenant: TenantName = ACME, limits: Limits = NO_LIMITS):
    return await desk.money.create_key(
        tenant=tenant, project=DEFAULT_PROJECT, name="n", admin=False, limits=limits, actor=ADMIN
    )


async def test_a_change_is_durable_reread_and_logged_once(desk: Desk) -> None:
    limits = Limits(requests_per_minute=5)
    made = await create(desk, limits=limits)
    found = desk.store.find_key(made["secret"])
    assert found is not None
    assert found.limits == limits
    rotated = await desk.money.rotate_key(KeyId(made["id"]), actor=ADMIN)
    assert desk.store.find_key(made["secret"]) is None
    await desk.money.revoke_key(KeyId(made["id"]), actor=ADMIN)
    gone = desk.store.find_key(rotated["secret"])
    assert gone is None or gone.revoked
    await desk.money.save_budget(budget(), actor=ADMIN)
    await desk.money.remove_budget(BudgetName("month"), actor=ADMIN)
    price = PriceVersion(
        device_kind="cpu-core",
        effective=Micros(0),
        recorded=Micros(0),
        basis=Rented(nano_usd_per_device_hour=NanoUSD(5)),
    )
    await desk.money.add_price(price, actor=ADMIN)
    rate = RateVersion(effective=Micros(0), recorded=Micros(0), rates=ByCost(markup_permille=200))
    await desk.money.add_rate(rate, actor=ADMIN)
    assert desk.actions == [
        (action, "key-root")
        for action in (
            *("key.create", "key.rotate", "key.revoke", "budget.save", "budget.remove"),
            *("price.add", "rate.add"),
        )
    ]
    assert desk.rereads == 7
    log = str(await desk.money.audit_log(100))
    for secret in (made["secret"], rotated["secret"]):
        assert secret not in log
        assert secret[:7] not in log


async def test_what_is_refused_changes_nothing_and_is_not_logged(desk: Desk) -> None:
    await desk.money.save_budget(budget(), actor=ADMIN)
    with pytest.raises(HouseError) as moved:
        await desk.money.save_budget(budget(tenant=OTHER), actor=ADMIN)
    assert (moved.value.status, moved.value.param) == (409, "name")
    for refused in (
        desk.money.remove_budget(BudgetName("nope"), actor=ADMIN),
        desk.money.revoke_key(KeyId("key-nope"), actor=ADMIN),
        desk.money.rotate_key(KeyId("key-nope"), actor=ADMIN),
    ):
        with pytest.raises(HouseError) as missing:
            await refused
        assert missing.value.status == 404
    assert desk.actions == [("budget.save", "key-root")]
    assert desk.rereads == 1


async def test_a_tenant_sees_only_its_own(desk: Desk) -> None:
    for tenant in (ACME, OTHER):
        await create(desk, tenant)
        await desk.money.save_budget(budget(f"{tenant}-month", tenant), actor=ADMIN)
    assert [row["tenant"] for row in await desk.money.keys(ACME)] == ["acme"]
    assert [row["name"] for row in await desk.money.budgets(ACME)] == ["acme-month"]
    assert len(await desk.money.keys(None)) == len(await desk.money.budgets(None)) == 2


async def test_a_bill_of_empty_books_is_empty_and_a_wrong_one_is_named(desk: Desk) -> None:
    asked = {"from_us": None, "to_us": None, "tenant": None}
    bill = await desk.money.bill(by=("tenant", "kind"), **asked)
    assert (bill["rows"], bill["nano_usd"], bill["price_usd"]) == ([], 0, "0.000000000")
    for by in (("planet",), ("kind", "kind")):
        with pytest.raises(HouseError) as wrong:
            await desk.money.bill(by=by, **asked)
        assert (wrong.value.status, wrong.value.param) == (400, "by")


async def test_memory_tells_what_is_reserved(desk: Desk) -> None:
    await desk.money.save_budget(budget(limit=100), actor=ADMIN)
    desk.gauges = [
        BudgetGauge(
            name=BudgetName("month"),
            limit=NanoUSD(100),
            spent=NanoUSD(30),
            reserved=NanoUSD(60),
            refusals=0,
            alerts=0,
        )
    ]
    (row,) = await desk.money.budgets(None)
    assert (row["spent_nano_usd"], row["reserved_nano_usd"]) == (30, 60)
    assert row["left_usd"] == "0.000000010"


async def test_a_new_version_is_recorded_now_and_never_before_the_last(desk: Desk) -> None:
    def rate(markup: int) -> RateVersion:
        return RateVersion(
            effective=Micros(7), recorded=Micros(1), rates=ByCost(markup_permille=markup)
        )

    assert (await desk.money.add_rate(rate(1), actor=ADMIN))["recorded_us"] == NOW
    desk.now = Micros(NOW - 5_000_000)
    assert (await desk.money.add_rate(rate(2), actor=ADMIN))["recorded_us"] == NOW
    assert [row["rates"]["markup_permille"] for row in await desk.money.rates()] == [1, 2]


async def test_notes_are_in_the_log_before_it_is_read(desk: Desk) -> None:
    desk.money.note(actor=ADMIN, action="deploy", subject="words", detail={"replicas": 1})
    (entry,) = await desk.money.audit_log(10)
    assert (entry["action"], entry["subject"], entry["at_us"]) == ("deploy", "words", NOW)
    desk.money.note(actor=ADMIN, action="shutdown", subject="house", detail={})
    await desk.money.settle()
    assert [row["action"] for row in await desk.money.audit_log(1)] == ["shutdown"]


async def test_a_store_that_is_down_is_a_503_and_a_lost_note_is_told(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.down = True
    with pytest.raises(HouseError) as down:
        await create(desk)
    assert (down.value.status, down.value.code, down.value.retry_after_s) == (503, "store_down", 2)
    assert desk.rereads == 0
    desk.money.note(actor=ADMIN, action="deploy", subject="words", detail={})
    await desk.money.settle()
    assert "not in the audit log: deploy words by key-root" in caplog.text


async def test_a_project_and_limits_are_shown_with_the_key(desk: Desk) -> None:
    made = await desk.money.create_key(
        tenant=ACME,
        project=ProjectName("chat"),
        name="laptop",
        admin=True,
        limits=Limits(tokens_per_minute=9, concurrent=2),
        actor=ADMIN,
    )
    assert made["limits"] == {
        "requests_per_minute": None,
        "tokens_per_minute": 9,
        "concurrent": 2,
    }
    assert (made["project"], made["name"], made["admin"]) == ("chat", "laptop", True)
    assert "secret" not in (await desk.money.keys(None))[0]

"""The budget desk over the real store: no house overruns a budget, and no money stays behind."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from desk_world import PAYER, World

from meted.domain.budget import Budget, Period
from meted.domain.units import BudgetName, NanoUSD, TransferId
from meted.live.budget_desk import NoMoney
from meted.live.store import Batch, StoreDownError
from meted.testing.store_rows import budget, charge_row


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def test_without_budgets_nothing_is_set_aside(world: World) -> None:
    house = world.house("a")
    assert house.desk.windows(PAYER, None, world.now) == ()
    made = house.desk.reserve(TransferId("t"), (), NanoUSD(10**12))
    assert made is not None and not isinstance(made, NoMoney)


def test_the_first_use_of_a_budget_waits_for_its_lease(world: World) -> None:
    world.save(budget("b", 100))
    house = world.house("a")
    house.ask("t", 60)
    assert not house.running
    world.settle()
    assert house.running == {"t"}
    assert world.held() == 100, "a house alone holds all there is"


def test_what_is_not_used_goes_back_at_the_end(world: World) -> None:
    window = world.save(budget("b", 100))
    house = world.house("a")
    house.ask("t", 100)
    world.ticks()
    house.ask("u", 60)
    assert list(house.waiting) == ["u"], "all is reserved, but not spent"
    house.end("t", 40)
    assert house.running == {"u"}
    house.give_up("u")
    world.ticks()
    assert world.spent() == 40
    assert house.desk.transfers.balance(window).pending == 0


def test_who_asks_for_more_than_is_left_is_refused_with_the_numbers(world: World) -> None:
    world.save(budget("b", 100))
    house = world.house("a")
    house.ask("t", 90)
    world.ticks()
    house.end("t", 90)
    house.ask("u", 11)
    lack = house.refused["u"]
    assert lack.gone
    assert (lack.spent, lack.reserved, lack.wanted, lack.budget.limit) == (90, 0, 11, 100)
    house.ask("v", 10)
    assert house.running == {"v"}
    (gauge,) = house.desk.gauges()
    assert (gauge.spent, gauge.reserved, gauge.refusals) == (90, 10, 1)


def test_money_goes_to_the_house_that_lacks_it(world: World) -> None:
    world.save(budget("b", 100))
    a, b = world.house("a"), world.house("b")
    world.ticks()
    a.ask("small", 1)
    world.ticks()
    b.ask("large", 99)
    world.ticks(4)
    assert b.running == {"large"}
    assert world.held() <= 100
    a.end("small", 1)
    b.end("large", 0)
    world.ticks(2)
    a.ask("all", 99)
    world.ticks(4)
    assert a.running == {"all"}


def test_two_houses_that_lack_money_do_not_block_each_other(world: World) -> None:
    """Each holds a part that is too small for what it needs, and both ask again and again."""
    world.save(budget("b", 100))
    a, b = world.house("a"), world.house("b")
    for house in (a, b):
        house.ask(f"{house.name} first", 1)
        world.ticks()
    for house in (a, b):
        house.end(f"{house.name} first", 0)
        house.ask(f"{house.name} large", 80)
    world.ticks(6)
    running = [house for house in (a, b) if house.running]
    assert len(running) == 1
    (first,) = running
    first.end(f"{first.name} large", 10)
    world.ticks(6)
    assert all(house.running or not house.waiting for house in (a, b))
    assert world.held() <= 100


def test_waiting_for_money_asks_the_store_only_with_the_ticks(world: World) -> None:
    world.save(budget("b", 100))
    house = world.house("a")
    house.ask("t", 100)
    world.ticks()
    for number in range(10):
        house.ask(f"u{number}", 50)
        house.look()
    world.settle()
    asked = house.store.lease
    calls = 0

    def counting(*args, **kwargs):
        nonlocal calls
        calls += 1
        return asked(*args, **kwargs)

    house.store.lease = counting  # type: ignore[method-assign]
    for _ in range(50):
        house.look()
        world.settle()
    assert calls == 0
    world.ticks(3)
    assert calls <= 6


def test_a_house_that_crashed_blocks_nothing_once_it_begins_again(world: World) -> None:
    world.save(budget("b", 100))
    a, b = world.house("a"), world.house("b")
    a.ask("lost", 90)
    world.ticks(4)
    assert a.running
    a.crash()
    b.ask("t", 95)
    world.ticks(4)
    assert not b.running
    world.house("a")
    world.ticks(4)
    assert b.running == {"t"}


def test_a_house_that_never_comes_back_blocks_nothing_for_long(world: World) -> None:
    world.save(budget("b", 100))
    a, b = world.house("a"), world.house("b")
    a.ask("kept", 30)
    world.ticks(4)
    a.end("kept", 20)
    a.ask("lost", 70)
    world.ticks(4)
    a.crash()
    b.ask("t", 80)
    for _ in range(40):
        world.pass_seconds(1)
        world.ticks()
    assert b.running == {"t"}
    assert world.spent() == 20


def test_a_charge_whose_lease_was_lost_does_not_hold_money_for_ever(world: World) -> None:
    """A house was out of touch for so long that another took over what it held."""
    world.save(budget("b", 100))
    a, b = world.house("a"), world.house("b")
    a.ask("late", 90)
    world.ticks(4)
    del world.houses["a"]
    for _ in range(40):
        world.pass_seconds(1)
        world.ticks()
    b.ask("t", 100)
    world.ticks(2)
    assert b.running == {"t"}
    world.houses["a"] = a
    a.end("late", 50)
    world.settle()
    assert a.charged == {"late": 0}
    b.end("t", 0)
    world.ticks(2)
    assert world.spent() == 0
    a.ask("next", 100)
    world.ticks(4)
    assert a.running == {"next"}


def test_a_lease_told_before_a_charge_was_written_does_not_give_its_money_again(
    world: World,
) -> None:
    window = world.save(budget("b", 100))
    house = world.house("a")
    house.ask("t", 60)
    world.ticks()
    house.tick()
    house.write_one()
    house.end("t", 60)
    house.hear_one()
    assert house.desk.transfers.balance(window).posted == 60
    house.ask("u", 50)
    assert house.refused["u"].gone
    world.settle()
    assert house.charged == {"t": 60}


def test_what_waits_in_a_spool_is_not_forgotten(world: World) -> None:
    """A lease told while postings wait in a spool lacks them; the desk must not spend them twice.

    The writer acknowledges a posting that the store does not have yet.
    """
    window = world.save(budget("b", 100))
    house = world.house("a")
    house.ask("t", 60)
    world.ticks()
    house.running.clear()
    house.spooling = True
    house.desk.post(TransferId("t"), NanoUSD(60))
    house.desk.written(TransferId("t"))
    world.ticks(2)
    assert house.desk.transfers.balance(window).posted == 60
    house.store.write(
        Batch(session="a", charges=(replace(charge_row(1, 60, at=world.now), windows=(window,)),))
    )
    house.spooling = False
    world.ticks()
    assert house.desk.transfers.balance(window).posted == 60


def test_a_raised_limit_lets_those_in_who_wait(world: World) -> None:
    made = budget("b", 100)
    world.save(made)
    house = world.house("a")
    house.ask("t", 100)
    world.ticks()
    house.ask("u", 50)
    world.save(replace(made, limit=NanoUSD(150)))
    world.reread()
    world.ticks(2)
    assert house.running == {"t", "u"}


def test_a_lowered_limit_lets_nothing_new_in_above_it(world: World) -> None:
    """Also between the wish to hold less and the store's answer to it."""
    made = budget("b", 100)
    window = world.save(made)
    house = world.house("a")
    house.ask("t", 20)
    world.ticks()
    world.save(replace(made, limit=NanoUSD(50)))
    house.desk.load(world.books.budgets())
    house.ask("u", 40)
    assert list(house.waiting) == ["u"]
    world.ticks(2)
    assert world.held() == 50
    assert house.desk.transfers.balance(window).granted == 50
    house.ask("v", 30)
    assert list(house.waiting) == ["u", "v"]


def test_a_removed_budget_lets_go_those_who_wait_for_it(world: World) -> None:
    window = world.save(budget("b", 100))
    house = world.house("a")
    house.ask("t", 100)
    world.ticks()
    house.ask("u", 50)
    world.books.remove_budget(BudgetName("b"))
    world.reread()
    world.ticks(2)
    assert house.running == {"t", "u"}
    assert not isinstance(house.desk.resize(TransferId("t"), NanoUSD(200)), NoMoney)
    house.end("t", 100)
    house.give_up("u")
    world.ticks(2)
    assert not house.desk.transfers.knows(window)
    assert house.charged == {"t": 100}


@pytest.mark.parametrize("reread_first", [True, False])
def test_a_budget_made_anew_with_another_period_stops_nobody(
    world: World, reread_first: bool
) -> None:
    made = budget("b", 100)
    world.save(made)
    house = world.house("a")
    house.ask("t", 60)
    world.ticks()
    world.books.remove_budget(made.name)
    again = replace(made, period=Period.DAY)
    today = world.save(again)
    if reread_first:
        world.reread()
    world.ticks(2)
    world.reread()
    house.end("t", 50)
    world.ticks(2)
    house.ask("u", 40)
    world.ticks(2)
    assert "u" in house.running
    assert world.spent() in (0, 50)
    assert house.desk.transfers.balance(today).pending == 40


def test_a_budget_made_anew_counts_once_what_was_charged_before(world: World) -> None:
    made = budget("b", 100)
    window = world.save(made)
    house = world.house("a")
    house.ask("t", 60)
    world.ticks()
    house.end("t", 30)
    world.settle()
    world.books.remove_budget(made.name)
    world.save(made)
    world.reread()
    world.ticks(2)
    assert world.spent() == 30
    (gauge,) = house.desk.gauges()
    assert gauge.spent == 30
    assert house.desk.transfers.balance(window).available == 70


def test_a_soft_budget_refuses_nobody_and_alerts_once(world: World) -> None:
    world.save(replace(budget("b", 100, hard=False), alerts=(50, 100)))
    house = world.house("a")
    for number in range(3):
        house.ask(f"t{number}", 70)
        world.ticks()
        house.end(f"t{number}", 70)
        world.ticks()
    assert [(one.threshold, one.spent) for one in house.alerts] == [(50, 70), (100, 140)]
    assert world.spent() == 210


def test_a_budget_that_becomes_hard_grants_nothing_before_the_store_does(world: World) -> None:
    made = budget("b", 100, hard=False)
    window = world.save(made)
    house = world.house("a")
    house.ask("t", 90)
    world.ticks()
    world.save(replace(made, hard=True))
    house.desk.load(world.books.budgets())
    assert house.desk.transfers.balance(window).available == 0
    world.ticks()
    assert house.desk.transfers.balance(window).available == 10


def test_an_alert_is_told_once_even_by_a_house_that_begins_again(world: World) -> None:
    world.save(replace(budget("b", 100), alerts=(50,)))
    house = world.house("a")
    house.ask("t", 60)
    world.ticks()
    house.end("t", 60)
    world.ticks()
    assert [one.threshold for one in house.alerts] == [50]
    house.crash()
    again = world.house("a")
    again.ask("u", 10)
    world.ticks(2)
    again.end("u", 10)
    world.ticks()
    assert again.alerts == []


def test_a_day_that_is_over_is_forgotten_and_the_next_begins_with_nothing(world: World) -> None:
    today = world.save(budget("b", 100, period=Period.DAY))
    house = world.house("a")
    house.ask("t", 100)
    world.ticks()
    house.end("t", 100)
    world.settle()
    assert today.ends is not None
    world.pass_seconds((today.ends - world.now) / 1e6 + 40)
    house.ask("u", 100)
    world.ticks(2)
    assert house.running == {"u"}
    assert not house.desk.transfers.knows(today)


def test_more_for_work_that_goes_on_is_set_aside_or_refused(world: World) -> None:
    world.save(budget("b", 100))
    house = world.house("a")
    house.ask("t", 40)
    house.ask("u", 40)
    world.ticks()
    assert not isinstance(house.desk.resize(TransferId("t"), NanoUSD(60)), NoMoney)
    lack = house.desk.resize(TransferId("t"), NanoUSD(61))
    assert isinstance(lack, NoMoney) and not lack.gone
    assert (lack.reserved, lack.spent) == (100, 0)
    house.give_up("u")
    assert not isinstance(house.desk.resize(TransferId("t"), NanoUSD(61)), NoMoney)


def test_a_store_that_is_down_makes_nobody_wait_longer_than_it(world: World) -> None:
    world.save(budget("b", 100))
    house = world.house("a")
    working = house.store.lease

    def down(*args, **kwargs):
        raise StoreDownError("the store is down")

    house.store.lease = down  # type: ignore[method-assign]
    house.ask("t", 60)
    world.ticks(3)
    assert house.waiting
    house.store.lease = working  # type: ignore[method-assign]
    world.ticks(2)
    assert house.running == {"t"}


def test_a_charge_falls_under_every_budget_that_covers_it(world: World) -> None:
    project = Budget(
        name=BudgetName("p"),
        tenant=PAYER.tenant,
        project=PAYER.project,
        period=Period.DAY,
        limit=NanoUSD(50),
    )
    world.save(budget("b", 100))
    world.save(project)
    house = world.house("a")
    house.ask("t", 50)
    world.ticks()
    house.ask("u", 10)
    assert list(house.waiting) == ["u"]
    house.end("t", 45)
    world.ticks()
    assert house.refused["u"].budget.name == "p"
    assert (world.spent("b"), world.spent("p")) == (45, 45)

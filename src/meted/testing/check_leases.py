"""Conformance of leases: what houses may spend of a budget's window, and what counts in it."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

from meted.domain.budget import Budget, Period, Window
from meted.domain.units import BudgetName, DeploymentName, Micros, NanoUSD
from meted.ledger.windows import window_of
from meted.live.store import Batch, Lease, LeaseLostError, LeaseWish, Store, StoreError
from meted.testing.store_rows import MICROS, MakeStore, budget, charge_row, request_row

SESSION = "leases"
LIFE = 10 * MICROS
_FIRST_CHARGE = 1_000
_START = 1_750_000_000_000_000


def check_leases(make_store: MakeStore) -> None:
    """All below, each on a budget of its own, which it removes."""
    check_alone_gets_all(make_store)
    check_share_among_the_living(make_store)
    check_parts_too_small_go_back(make_store)
    check_spending_is_exactly_once(make_store)
    check_lost_lease_writes_nothing(make_store)
    check_gone_house_leaves_what_it_has_not_spent(make_store)
    check_new_window_begins_with_what_was_charged(make_store)
    check_windows_begin_anew(make_store)
    check_soft_budget_only_counts(make_store)
    check_changed_limit(make_store)
    check_removed_budget(make_store)


def wish(window: Window, granted: int, least: int = 0) -> LeaseWish:
    """To hold this much of a window, and at least so much."""
    return LeaseWish(window=window, granted=NanoUSD(granted), least=NanoUSD(least))


def lease(store: Store, wished: LeaseWish, *, at: int = 0, life: int = LIFE) -> Lease:
    """Lease one window `at` micros after the beginning, for some micros more."""
    now = Micros(_START + at)
    (granted,) = store.lease([wished], now=now, until=Micros(now + life))
    return granted


def charge(store: Store, number: int, price: int, window: Window | None) -> None:
    """Enter one charge at the beginning, reserved in this window."""
    row = charge_row(
        _FIRST_CHARGE + number, price, at=_START, windows=() if window is None else (window,)
    )
    store.write(Batch(session=SESSION, charges=(row,)))


def whole(name: str, limit: int, *, hard: bool = True) -> tuple[Budget, Window]:
    """A budget that never begins anew, and its window, in which only charges count that are made
    for no deployment after this one was named."""
    made = budget(name, limit, hard=hard)
    return made, window_of(made, Micros(_START))


def check_alone_gets_all(make_store: MakeStore) -> None:
    """A house alone gets what is left, whatever it asks; asking for less gives back."""
    with closing(make_store()) as store:
        made, window, before = _opened(store, "alone", 100)
        given = lease(store, wish(window, 10**9))
        assert (given.granted, given.spent, given.wanted) == (100, 0, 0)
        assert (given.all_granted, given.all_spent) == (before + 100, before)
        assert (given.budget, given.window) == (made, window)
        assert lease(store, wish(window, 30)).granted == 30
        charge(store, 0, 20, window)
        given = lease(store, wish(window, 5))
        assert (given.granted, given.spent) == (20, 20)
        assert (given.all_granted, given.all_spent) == (before + 20, before + 20)
        assert lease(store, wish(window, 10**9)).granted == 100
        assert store.lease((), now=Micros(_START), until=Micros(_START + LIFE)) == []
        unknown = replace(window, budget=BudgetName("unknown"))
        assert store.lease([wish(unknown, 1)], now=Micros(_START), until=Micros(_START)) == []
        _refuses(lambda: lease(store, wish(replace(window, ends=Micros(1)), 1)), StoreError)
        _end(store, "alone")


def check_share_among_the_living(make_store: MakeStore) -> None:
    """With others alive a house gets its least first and of the rest its share; shortages show."""
    with closing(make_store()) as here, closing(make_store("there")) as there:
        _, window, before = _opened(here, "shared", 100)
        there.lease((), now=Micros(_START), until=Micros(_START + LIFE))
        assert lease(here, wish(window, 100)).granted == 50
        assert lease(here, wish(window, 100)).granted == 50
        assert lease(here, wish(window, 100, least=80)).granted == 80
        given = lease(there, wish(window, 100, least=30))
        assert (given.granted, given.wanted) == (20, 0)
        assert (given.all_granted, given.all_spent) == (before + 100, before)
        # What is lacking is seen by who holds more than it needs, and only until it is there.
        assert lease(here, wish(window, 80, least=10)).wanted == 10
        assert lease(here, wish(window, 60)).granted == 60
        assert lease(there, wish(window, 100, least=30)).granted == 40
        assert lease(here, wish(window, 60)).wanted == 0
        (standing,) = here.standings(now=Micros(_START))
        assert standing == lease(here, wish(window, 60))
        _end(here, "shared", there)


def check_parts_too_small_go_back(make_store: MakeStore) -> None:
    """Houses that hold parts too small for what they need do not block each other."""
    with closing(make_store()) as here, closing(make_store("there")) as there:
        _, window, before = _opened(here, "parts", 100)
        there.lease((), now=Micros(_START), until=Micros(_START + LIFE))
        lease(here, wish(window, 50))
        lease(there, wish(window, 50))
        wished = replace(wish(window, 100, least=80), used=NanoUSD(10))
        # Nobody else lacks money yet, so what is held stays; then both lack, and one lets go.
        given = lease(here, wished)
        assert (given.granted, given.all_granted) == (50, before + 100)
        assert lease(there, wished).granted == 10
        assert lease(here, wished).granted == 80
        charge(here, 90, 30, window)
        assert lease(there, replace(wished, least=NanoUSD(60), used=NanoUSD(0))).granted == 20
        given = lease(here, replace(wished, least=NanoUSD(100), used=NanoUSD(0)))
        assert (given.granted, given.spent) == (30, 30)
        _end(here, "parts", there)


def check_spending_is_exactly_once(make_store: MakeStore) -> None:
    """Requests and charges add their price once to the window they were reserved in."""
    with closing(make_store()) as store:
        made, window, before = _opened(store, "once", 1_000)
        lease(store, wish(window, 1_000))
        asked = replace(
            request_row(0, 5, price=40),
            account=replace(request_row(900, 5).account, note="once"),
            arrived=Micros(_START),
            windows=(window,),
        )
        rows = (replace(charge_row(901, 3, at=_START), windows=(window,)),) * 2
        batch = Batch(session=SESSION, requests=(asked, asked), charges=rows)
        for _ in range(2):
            store.write(batch)
            given = lease(store, wish(window, 1_000))
            assert (given.spent, given.all_spent) == (43, before + 43)
        # A window is where a posting falls, not where somebody says it does.
        other = replace(window, starts=Micros(window.starts + 1))
        late = replace(charge_row(902, 3, at=_START), windows=(other,))
        _refuses(lambda: store.write(Batch(session=SESSION, charges=(late,))), StoreError)
        assert lease(store, wish(window, 1_000)).spent == 43
        assert made == lease(store, wish(window, 0)).budget
        _end(store, "once")


def check_lost_lease_writes_nothing(make_store: MakeStore) -> None:
    """More than was granted of a hard budget is refused with all of its batch."""
    with closing(make_store()) as store:
        _, window, before = _opened(store, "lost", 1_000)
        row = replace(charge_row(910, 11, at=_START), windows=(window,))
        free = charge_row(911, 2, at=_START)
        batch = Batch(session=SESSION, charges=(free, row))
        for granted in (0, 10):
            lease(store, wish(window, granted))
            _refuses(lambda: store.write(batch), LeaseLostError)
            given = lease(store, wish(window, granted))
            assert (given.spent, given.all_spent) == (0, before)
        lease(store, wish(window, 11))
        store.write(batch)
        given = lease(store, wish(window, 11))
        # The charge that names no window counts, but is no part of what this house holds.
        assert (given.spent, given.all_spent) == (11, before + 13)
        _end(store, "lost")


def check_gone_house_leaves_what_it_has_not_spent(make_store: MakeStore) -> None:
    """A house whose life has ended keeps what it spent; so does one that begins again."""
    with closing(make_store()) as here, closing(make_store("there")) as there:
        _, window, before = _opened(here, "gone", 100)
        lease(there, wish(window, 70, least=70))
        charge(there, 20, 30, window)
        assert lease(here, wish(window, 100), at=LIFE).granted == 30
        (standing,) = here.standings(now=Micros(_START + LIFE + 1))
        assert (standing.all_granted, standing.all_spent) == (before + 60, before + 30)
        given = lease(here, wish(window, 100), at=LIFE + 1)
        assert (given.granted, given.all_granted) == (70, before + 100)
        # Late, but what it had spent before is its own; more is not.
        row = replace(charge_row(930, 1, at=_START), windows=(window,))
        _refuses(lambda: there.write(Batch(session=SESSION, charges=(row,))), LeaseLostError)
        here.reclaim()
        (standing,) = there.standings(now=Micros(_START + LIFE + 2))
        assert (standing.all_granted, standing.all_spent) == (before + 30, before + 30)
        assert lease(there, wish(window, 100, least=100), at=LIFE + 3).granted == 100
        _end(here, "gone", there)


def check_new_window_begins_with_what_was_charged(make_store: MakeStore) -> None:
    """A budget counts what was charged before it was made, and while it was not yet leased."""
    with closing(make_store()) as store:
        charge(store, 40, 5, None)
        made, window = whole("new", 10_000)
        store.save_budget(made)
        (before,) = store.standings(now=Micros(_START))
        assert (before.granted, before.spent) == (0, 0)
        assert before.all_granted == before.all_spent
        charge(store, 41, 7, None)
        given = lease(store, wish(window, 10_000))
        assert given.all_spent == before.all_spent + 7
        assert given.granted == 10_000 - given.all_spent
        store.remove_budget(made.name)
        charge(store, 42, 1, window)
        narrow = replace(made, deployment=DeploymentName("nobody's"))
        store.save_budget(narrow)
        assert lease(store, wish(window, 10_000)).all_spent == 0
        _end(store, "new")


def check_windows_begin_anew(make_store: MakeStore) -> None:
    """What was spent on a day counts on that day, and the next one begins with nothing."""
    with closing(make_store()) as store:
        made = budget("daily", 100, period=Period.DAY)
        store.save_budget(made)
        today = window_of(made, Micros(_START + 86_400 * MICROS * 400))
        assert today.ends is not None
        tomorrow = window_of(made, today.ends)
        early = [charge_row(940 + one, 1, at=at) for one, at in enumerate(_edges(today))]
        store.write(Batch(session=SESSION, charges=tuple(early)))
        for window in (today, tomorrow):
            store.lease([wish(window, 60)], now=window.starts, until=Micros(2**62))
        last = charge_row(950, 9, at=today.ends - 1, windows=(today,))
        first = charge_row(951, 4, at=today.ends, windows=(tomorrow,))
        store.write(Batch(session=SESSION, charges=(last, first)))
        (standing,) = store.standings(now=Micros(today.ends - 1))
        assert (standing.spent, standing.all_spent) == (9, 11)
        (standing,) = store.standings(now=today.ends)
        assert (standing.spent, standing.all_spent) == (4, 5)
        _end(store, "daily")


def _edges(window: Window) -> list[int]:
    """Just before it, its first moment, its last one, just after it."""
    assert window.ends is not None
    return [window.starts - 1, window.starts, window.ends - 1, window.ends]


def check_soft_budget_only_counts(make_store: MakeStore) -> None:
    """A soft budget grants what is asked and counts what was never granted."""
    with closing(make_store()) as store:
        _, window, before = _opened(store, "soft", 10, hard=False)
        charge(store, 60, 3, window)
        assert lease(store, wish(window, 0)).granted == 0
        charge(store, 61, 50, window)
        given = lease(store, wish(window, 0))
        assert (given.granted, given.spent, given.all_spent) == (50, 50, before + 53)
        assert lease(store, wish(window, 10**6)).granted == 10**6
        _end(store, "soft")


def check_changed_limit(make_store: MakeStore) -> None:
    """A raised limit can be leased at once; a lowered one takes nothing that a house holds."""
    with closing(make_store()) as store:
        made, window, before = _opened(store, "changed", 100)
        lease(store, wish(window, 100))
        store.save_budget(replace(made, limit=NanoUSD(made.limit + 50)))
        assert lease(store, wish(window, 10**9)).granted == 150
        store.save_budget(replace(made, limit=NanoUSD(before + 10)))
        given = lease(store, wish(window, 10**9))
        assert (given.granted, given.budget.limit) == (150, before + 10)
        assert lease(store, wish(window, 40)).granted == 40
        assert lease(store, wish(window, 41)).granted == 40
        _end(store, "changed")


def check_removed_budget(make_store: MakeStore) -> None:
    """Nothing counts in a removed budget; one made anew under its name counts all there was."""
    with closing(make_store()) as store:
        made, window, before = _opened(store, "removed", 100)
        lease(store, wish(window, 100))
        charge(store, 80, 10, window)
        store.remove_budget(made.name)
        assert store.standings(now=Micros(_START)) == []
        charge(store, 81, 20, window)
        store.save_budget(made)
        given = lease(store, wish(window, 100))
        assert (given.granted, given.spent, given.all_spent) == (70, 0, before + 30)
        _end(store, "removed")


def _opened(store: Store, name: str, free: int, *, hard: bool = True) -> tuple[Budget, Window, int]:
    """A budget with so much left for the tenant of all checks; and what was charged before it."""
    probe, window = whole(name, 2**60, hard=False)
    store.save_budget(probe)
    (standing,) = store.standings(now=Micros(_START))
    store.remove_budget(probe.name)
    before = standing.all_spent
    made = replace(probe, limit=NanoUSD(before + free), hard=hard)
    store.save_budget(made)
    return made, window, before


def _end(store: Store, name: str, *others: Store) -> None:
    """Remove the budget and let every house die, so that the next check begins alone."""
    store.remove_budget(BudgetName(name))
    for one in (store, *others):
        one.lease((), now=Micros(0), until=Micros(0))


def _refuses(call: Callable[[], object], error: type[Exception]) -> None:
    try:
        call()
    except error:
        return
    raise AssertionError(f"expected a {error.__name__}")

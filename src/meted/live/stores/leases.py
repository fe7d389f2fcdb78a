"""Leases: which part of a budget's window each house may spend without asking again.

Of a hard budget, what all houses were granted never exceeds the limit, so that no house can
overrun it whatever the others do. A lease dies with its house; what it has spent stays.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from meted.domain.budget import Budget, Window
from meted.domain.units import Micros, NanoUSD
from meted.ledger.windows import window_of
from meted.live.store import Lease, LeaseWish, StoreError
from meted.live.stores.database import Database, Statements
from meted.live.stores.postings import add_outside, charged_before

Budgets = Callable[[Statements], Mapping[str, Budget]]
"""The budgets in force, by name, as the transaction sees them."""

_PLACE = "budget = ? AND starts = ?"


class _NotOpenedError(Exception):
    """A window that nobody has leased yet: it must be opened first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """A row of the leases. alive: it is open and its house lives, so that it may still spend."""

    house: str
    granted: int
    spent: int
    wanted: int
    closed: bool
    alive: bool

    @property
    def reserved(self) -> int:
        """What can be spent by this house in all."""
        return self.granted if self.alive else self.spent


class Leases:
    """The leases of one house."""

    def __init__(self, database: Database, house: str, budgets: Budgets) -> None:
        self._database = database
        self._house = house
        self._budgets = budgets

    def lease(self, wishes: Sequence[LeaseWish], *, now: Micros, until: Micros) -> list[Lease]:
        """See `Store.lease`."""

        def work(db: Statements) -> list[Lease]:
            db.change(
                "INSERT INTO houses (id, alive_until) VALUES (?, ?)"
                " ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until",
                *(self._house, until),
            )
            budgets = self._budgets(db)
            wanted = {
                (wish.window.budget, wish.window.starts): wish
                for wish in wishes
                if wish.window.budget in budgets
            }
            for place in sorted(wanted):
                _check_window(budgets[place[0]], wanted[place].window)
                _lock(db, wanted[place].window)
            houses = _living(db, now)
            given = {
                place: self._grant(db, budgets[place[0]], wish, houses=houses)
                for place, wish in sorted(wanted.items(), key=lambda item: item[0])
            }
            return list(given.values())

        return self._with_windows(work, [wish.window for wish in wishes])

    def standings(self, *, now: Micros) -> list[Lease]:
        """See `Store.standings`."""

        def work(db: Statements) -> list[Lease]:
            houses = _living(db, now)
            found: list[Lease] = []
            for _, budget in sorted(self._budgets(db).items()):
                window = window_of(budget, now)
                if not _is_open(db, window):
                    raise _NotOpenedError
                found.append(_told(budget, window, _held(db, window, houses), self._house))
            return found

        try:
            return self._database.read(work)
        except _NotOpenedError:
            return self._with_windows(work, None, now=now)

    def reclaim(self) -> None:
        """See `Store.reclaim`."""

        def work(db: Statements) -> None:
            db.share_postings()
            db.change(
                "INSERT INTO houses (id, alive_until) VALUES (?, 0) ON CONFLICT (id) DO NOTHING",
                self._house,
            )
            for place in db.rows(
                "SELECT budget, starts FROM budget_leases WHERE house = ? AND closed = 0"
                " ORDER BY budget, starts",
                self._house,
            ):
                db.rows(f"SELECT 1 FROM budget_windows WHERE {_PLACE}{db.for_update}", *place)
                _close(db, place, self._house)

        self._database.write(work)

    def _with_windows(
        self,
        work: Callable[[Statements], list[Lease]],
        windows: Sequence[Window] | None,
        *,
        now: Micros = Micros(0),
    ) -> list[Lease]:
        """Run `work`; if it misses a window, open all it needs (None: the current ones) first.

        Windows are opened while no posting comes in, so that each is counted once: either among
        those before, or by the transaction that enters it.
        """

        def shared(db: Statements) -> list[Lease]:
            db.share_postings()
            return work(db)

        def opening(db: Statements) -> list[Lease]:
            db.hold_postings()
            budgets = self._budgets(db)
            wanted = windows
            if wanted is None:
                wanted = [window_of(budget, now) for budget in budgets.values()]
            for window in sorted(wanted, key=lambda one: (one.budget, one.starts)):
                if window.budget in budgets and not _is_open(db, window):
                    _check_window(budgets[window.budget], window)
                    _open(db, budgets[window.budget], window)
            return work(db)

        try:
            return self._database.write(shared)
        except _NotOpenedError:
            return self._database.write(opening)

    def _grant(
        self, db: Statements, budget: Budget, wish: LeaseWish, *, houses: frozenset[str]
    ) -> Lease:
        place = (wish.window.budget, wish.window.starts)
        rows = _held(db, wish.window, houses)
        gone = [row.house for row in rows if not (row.alive or row.closed)]
        if gone:
            for house in gone:
                _close(db, place, house)
            # What they were writing to the last moment is durable now, and counts as spent.
            rows = _held(db, wish.window, houses)
        others = [row for row in rows if row.house != self._house]
        mine = _mine(rows, self._house)
        living = len(houses | {self._house})
        granted = _granted(budget, wish, mine=mine, others=others, living=living)
        wanted = max(0, min(wish.least, wish.granted) - granted)
        db.change(
            "INSERT INTO budget_leases (budget, starts, house, granted, spent, wanted, closed)"
            " VALUES (?, ?, ?, ?, 0, ?, 0) ON CONFLICT (budget, starts, house) DO UPDATE"
            " SET wanted = excluded.wanted, closed = 0, granted = CASE"
            " WHEN excluded.granted < budget_leases.spent THEN budget_leases.spent"
            " ELSE excluded.granted END",
            *(*place, self._house, granted, wanted),
        )
        held = replace(mine, granted=granted, wanted=wanted, closed=False, alive=True)
        return _told(budget, wish.window, [*others, held], self._house)


def _granted(
    budget: Budget, wish: LeaseWish, *, mine: _Held, others: Sequence[_Held], living: int
) -> int:
    """What a house holds from now on: never less than it has spent, nor than it holds and asks."""
    kept = max(mine.spent, min(wish.granted, mine.granted))
    if not budget.hard:
        return max(kept, wish.granted)
    left = budget.limit - sum(row.reserved for row in others)
    asked = wish.granted
    if living > 1:
        spent = mine.spent + sum(row.spent for row in others)
        share = mine.spent + max(0, budget.limit - spent) // living
        asked = min(asked, max(wish.least, share))
    granted = max(kept, min(asked, left))
    too_little = granted < min(wish.least, wish.granted)
    if too_little and wish.used is not None and any(row.alive and row.wanted for row in others):
        return max(mine.spent, min(wish.used, granted))
    return granted


def _living(db: Statements, now: Micros) -> frozenset[str]:
    rows = db.rows("SELECT id FROM houses WHERE alive_until >= ?", now)
    return frozenset(house for (house,) in rows)


def _held(db: Statements, window: Window, houses: frozenset[str]) -> list[_Held]:
    return [
        _Held(
            house=house,
            granted=granted,
            spent=spent,
            wanted=wanted,
            closed=bool(closed),
            alive=house in houses and not closed,
        )
        for house, granted, spent, wanted, closed in db.rows(
            "SELECT house, granted, spent, wanted, closed FROM budget_leases"
            f" WHERE {_PLACE} ORDER BY house",
            *(window.budget, window.starts),
        )
    ]


def _mine(rows: Sequence[_Held], house: str) -> _Held:
    for row in rows:
        if row.house == house:
            return row
    return _Held(house=house, granted=0, spent=0, wanted=0, closed=False, alive=True)


def _told(budget: Budget, window: Window, rows: Sequence[_Held], house: str) -> Lease:
    mine = _mine(rows, house)
    return Lease(
        budget=budget,
        window=window,
        granted=NanoUSD(mine.reserved),
        spent=NanoUSD(mine.spent),
        wanted=NanoUSD(sum(row.wanted for row in rows if row.house != house and row.alive)),
        all_granted=NanoUSD(sum(row.reserved for row in rows)),
        all_spent=NanoUSD(sum(row.spent for row in rows)),
    )


def _lock(db: Statements, window: Window) -> None:
    if not db.rows(
        f"SELECT 1 FROM budget_windows WHERE {_PLACE}{db.for_update}",
        *(window.budget, window.starts),
    ):
        raise _NotOpenedError


def _is_open(db: Statements, window: Window) -> bool:
    return bool(
        db.rows(f"SELECT 1 FROM budget_windows WHERE {_PLACE}", window.budget, window.starts)
    )


def _open(db: Statements, budget: Budget, window: Window) -> None:
    db.change(
        "INSERT INTO budget_windows (budget, starts, ends) VALUES (?, ?, ?)",
        *(window.budget, window.starts, window.ends),
    )
    before = charged_before(db, budget, window)
    if before:
        add_outside(db, (window.budget, window.starts), before)


def _close(db: Statements, place: tuple[str, int], house: str) -> None:
    db.change(
        f"UPDATE budget_leases SET granted = spent, wanted = 0, closed = 1 WHERE {_PLACE}"
        " AND house = ? AND closed = 0",
        *place,
        house,
    )


def _check_window(budget: Budget, window: Window) -> None:
    expected = window_of(budget, window.starts)
    if window != expected:
        raise StoreError(
            f"{window} is no window of budget {budget.name!r}; the one that begins there is "
            f"{expected}"
        )

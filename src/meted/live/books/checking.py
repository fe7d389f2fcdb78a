"""`meted bill --check`: whether all that must hold in the books does, law by law. Reads only."""

from dataclasses import dataclass

from meted.domain.units import DeviceNanos, NanoUSD
from meted.live.books.check_budgets import budget_laws
from meted.live.books.check_intervals import IntervalCheck
from meted.live.books.check_requests import RequestCheck, check_charges
from meted.live.books.laws import Law
from meted.live.books.opening import Target, opened
from meted.live.stores.database import Statements
from meted.live.stores.terms import Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """Whether the books add up. laws: each with how many things it was held against.

    hours: folded ones. requests, folded: those in rows of their own and those in hours. waiting:
    requests that ended so lately that not all of their time need be in closed intervals.
    """

    sessions: int
    intervals: int
    hours: int
    requests: int
    folded: int
    waiting: int
    capacity_nanos: DeviceNanos
    lines_nanos: DeviceNanos
    capacity_nano_usd: NanoUSD
    lines_nano_usd: NanoUSD
    laws: tuple[Law, ...]

    @property
    def fault(self) -> str | None:
        """The first thing that does not hold, with both numbers."""
        return next((law.fault for law in self.laws if law.fault is not None), None)

    @property
    def balanced(self) -> bool:
        return self.fault is None


def check(target: Target) -> CheckReport:
    """Hold the books against every law, at one moment. Raises StoreError if they cannot be read."""
    with opened(target) as database:
        book = Terms(database).price_book()

        def work(db: Statements) -> CheckReport:
            intervals = IntervalCheck(db, book)
            intervals.run()
            requests = RequestCheck(db)
            requests.run()
            return CheckReport(
                sessions=intervals.sessions,
                intervals=intervals.intervals,
                hours=intervals.hours,
                requests=requests.requests,
                folded=requests.folded,
                waiting=requests.waiting,
                capacity_nanos=DeviceNanos(intervals.capacity),
                lines_nanos=DeviceNanos(intervals.lines_nanos),
                capacity_nano_usd=NanoUSD(intervals.amount),
                lines_nano_usd=NanoUSD(intervals.lines_amount),
                laws=(
                    *intervals.laws,
                    *requests.laws,
                    check_charges(db),
                    *budget_laws(db),
                ),
            )

        return database.read(work)

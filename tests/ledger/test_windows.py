"""Windows against Python's own calendar: every moment lies in exactly one, and it is the right."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from meted.domain.budget import Budget, Period
from meted.domain.units import BudgetName, Micros, NanoUSD, TenantName
from meted.ledger.windows import civil_from_days, days_from_civil, window_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOMENTS = st.datetimes(
    min_value=datetime(1, 2, 1), max_value=datetime(9998, 12, 31), timezones=st.just(UTC)
)


def budget(period: Period) -> Budget:
    return Budget(name=BudgetName("b"), tenant=TenantName("acme"), period=period, limit=NanoUSD(1))


def micros(moment: datetime) -> Micros:
    return Micros((moment - EPOCH) // timedelta(microseconds=1))


@given(MOMENTS)
def test_a_day_is_utcs_day(moment: datetime) -> None:
    window = window_of(budget(Period.DAY), micros(moment))
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    assert window.starts == micros(midnight)
    assert window.ends == micros(midnight + timedelta(days=1))


@given(MOMENTS)
def test_a_month_is_the_calendars_month(moment: datetime) -> None:
    window = window_of(budget(Period.MONTH), micros(moment))
    first = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    assert window.starts == micros(first)
    assert window.ends == micros((first + timedelta(days=31)).replace(day=1))


@given(st.integers())
def test_a_total_never_begins_anew(moment: int) -> None:
    window = window_of(budget(Period.TOTAL), Micros(moment))
    assert (window.budget, window.starts, window.ends) == ("b", 0, None)


@given(st.integers(min_value=-(10**9), max_value=10**9))
def test_dates_go_to_days_and_back(days: int) -> None:
    assert days_from_civil(*civil_from_days(days)) == days


@given(MOMENTS)
def test_days_are_those_of_the_calendar(moment: datetime) -> None:
    days = (moment - EPOCH) // timedelta(days=1)
    assert days_from_civil(moment.year, moment.month, moment.day) == days
    assert civil_from_days(days) == (moment.year, moment.month, moment.day)

"""Which day, month or whole life of a budget a moment falls into; days and months are UTC's."""

from meted.domain.budget import Budget, Period, Window
from meted.domain.units import MICROS_PER_SECOND, Micros

_DAY_US = 86_400 * MICROS_PER_SECOND
_DAYS_PER_ERA = 146_097
"""A Gregorian era of 400 years; after it the calendar repeats."""
_EPOCH_IN_ERA_DAYS = 719_468
"""Days from 0000-03-01, where an era begins, to 1970-01-01."""


def window_of(budget: Budget, moment: Micros) -> Window:
    """The window of a budget in which a charge at `moment` (wall-clock micros) counts."""
    match budget.period:
        case Period.DAY:
            starts = moment // _DAY_US * _DAY_US
            ends = Micros(starts + _DAY_US)
        case Period.MONTH:
            year, month, _ = civil_from_days(moment // _DAY_US)
            starts = days_from_civil(year, month, 1) * _DAY_US
            later = (year, month + 1, 1) if month < 12 else (year + 1, 1, 1)
            ends = Micros(days_from_civil(*later) * _DAY_US)
        case Period.TOTAL:
            starts, ends = 0, None
    return Window(budget=budget.name, starts=Micros(starts), ends=ends)


def days_from_civil(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 to a date of the Gregorian calendar.

    Years are counted from March, so that the day that leap years add is a year's last one;
    days_from_civil in Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", 2013.
    """
    shifted = year - (month <= 2)
    era, year_of_era = divmod(shifted, 400)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * _DAYS_PER_ERA + day_of_era - _EPOCH_IN_ERA_DAYS


def civil_from_days(days: int) -> tuple[int, int, int]:
    """Year, month and day of the date that is `days` after 1970-01-01; undoes `days_from_civil`."""
    era, day_of_era = divmod(days + _EPOCH_IN_ERA_DAYS, _DAYS_PER_ERA)
    year_of_era = (
        day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted_month + 2) // 5 + 1
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    return year_of_era + era * 400 + (month <= 2), month, day

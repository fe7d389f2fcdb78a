"""Moments and times as people give them on the command line."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from meted.domain.units import MICROS_PER_SECOND, Micros

_AGO = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d|w)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_YEARS = re.compile(r"(\d+(?:\.\d+)?)y")
_MONTH = re.compile(r"(\d{4})-(\d{2})")


class Moment(click.ParamType[Micros]):
    """An ISO date-time (local time unless it says otherwise), or how long ago: 30m, 1h, 7d."""

    name = "moment"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Micros:
        if isinstance(value, int):
            return Micros(value)
        if ago := _AGO.fullmatch(value):
            at = datetime.now().astimezone() - timedelta(**{_UNITS[ago[2]]: float(ago[1])})
        else:
            try:
                at = datetime.fromisoformat(value).astimezone()
            except ValueError:
                self.fail(
                    f"{value!r} is no moment; expected e.g. 2026-01-31T18:00 or 30m, 1h, 7d ago",
                    param,
                    ctx,
                )
        return Micros(round(at.timestamp() * MICROS_PER_SECOND))


class Span(click.ParamType[timedelta]):
    """A length of time: 30m, 36h, 30d, 4w, 5y (a year has 365 days)."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        if isinstance(value, timedelta):
            return value
        if years := _YEARS.fullmatch(value):
            return timedelta(days=365 * float(years[1]))
        if found := _AGO.fullmatch(value):
            return timedelta(**{_UNITS[found[2]]: float(found[1])})
        return self.fail(f"{value!r} is no length of time; expected e.g. 36h, 30d, 5y", param, ctx)


class Month(click.ParamType[tuple[Micros, Micros]]):
    """A month of UTC, as the moments at which it begins and ends: 2026-11."""

    name = "month"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Micros, Micros]:
        if isinstance(value, tuple):
            return value  # pyright: ignore[reportUnknownVariableType]
        found = _MONTH.fullmatch(value)
        if found is None or not 1 <= int(found[2]) <= 12 or int(found[1]) < 1970:
            self.fail(f"{value!r} is no month; expected e.g. 2026-11", param, ctx)
        year, month = int(found[1]), int(found[2])
        later = (year, month + 1) if month < 12 else (year + 1, 1)
        return _micros(year, month), _micros(*later)


def _micros(year: int, month: int) -> Micros:
    return Micros(int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * MICROS_PER_SECOND)


def shown_moment(at: Micros) -> str:
    """A moment for people, in UTC."""
    return datetime.fromtimestamp(at // MICROS_PER_SECOND, UTC).strftime("%Y-%m-%d %H:%MZ")

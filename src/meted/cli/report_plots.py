"""The plots of a statement, as SVG for the page and as figures for PDF."""

import io
import re
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import matplotlib as mpl
from matplotlib import figure as mpl_figure

from meted.domain.units import NANOS_PER_SECOND
from meted.live.books import Statement

Figure = Any
"""Matplotlib's figure; its methods are typed too loosely to be checked."""

COLOURS = {
    "request": "#2563a8",
    "training": "#2f8f6b",
    "loading": "#c9922e",
    "lost": "#b8473d",
    "overhead": "#7a6fa8",
    "idle": "#c3c9d1",
}
OTHERS = ("#2563a8", "#2f8f6b", "#c9922e", "#b8473d", "#7a6fa8", "#4b9fb5", "#8c6d4f", "#9aa3ad")
MOST_NAMES = 7
INK = "#2b3138"
GRID = "#e4e7eb"
STYLE = {
    # Names are text: a dollar sign in one begins no formula.
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "meted",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#aab2bb",
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """What a plot shows, how high it is in inches, and how it is drawn on axes."""

    title: str
    height: float
    draw: Callable[[Any], None]


def plots(statement: Statement) -> list[Plot]:
    """The plots of a statement; none for what there is nothing of."""
    own = statement.tenant is not None
    made: list[Plot] = []
    if statement.days:
        title = "Charged each day" if own else "What each day cost"
        made.append(Plot(title=title, height=2.6, draw=lambda axes: _days(axes, statement)))
    if statement.payers:
        title = "Charged by project" if own else "Tenants: cost and price"
        rows = _payer_rows(statement)
        made.append(
            Plot(
                title=title,
                height=0.7 + 0.42 * len(rows),
                draw=lambda axes: _payers(axes, rows, own=own),
            )
        )
    if any(statement.idle_share):
        made.append(
            Plot(
                title="Idle share of cost by hour of the day, UTC",
                height=2.0,
                draw=lambda axes: _idle(axes, statement.idle_share),
            )
        )
    return made


def svg(plot: Plot) -> str:
    """A plot as an SVG element, without what a page must not repeat: prologue, size and date."""
    text = io.StringIO()
    with drawing():
        figure = new_figure(7.2, plot.height, layout="constrained")
        plot.draw(figure.subplots())
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    element = text.getvalue()
    element = element[element.index("<svg") :]
    return re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", element, count=1)


def _days(axes: Any, statement: Statement) -> None:
    first, last = statement.days[0][0], statement.days[-1][0]
    days = range(first, last + 1)
    money = dict(statement.days)
    names = _names(money.values(), list(COLOURS) if statement.tenant is None else [])
    bottom = [0.0] * len(days)
    for index, name in enumerate(names):
        heights = [_dollars_of(money.get(day, {}), name, names) for day in days]
        colour = COLOURS.get(name) if statement.tenant is None else None
        axes.bar(
            list(days),
            heights,
            bottom=bottom,
            width=0.78,
            label=_short(name),
            color=colour or OTHERS[index % len(OTHERS)],
        )
        bottom = [below + height for below, height in zip(bottom, heights, strict=True)]
    step = max(1, len(days) // 8)
    ticks = list(days)[::step]
    axes.set_xticks(ticks, [_day_name(day) for day in ticks])
    axes.set_xlim(first - 0.6, max(last, first + 6) + 0.6)
    axes.set_ylabel("USD")
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.0, 1.02), frameon=False, reverse=True, handlelength=1
    )


def _payer_rows(statement: Statement) -> list[tuple[str, list[float]]]:
    """Cost and price in dollars by tenant (of a tenant: by project), the most charged first."""
    sums: dict[str, list[float]] = {}
    for one in statement.payers:
        row = sums.setdefault(one.project if statement.tenant else one.tenant, [0.0, 0.0])
        row[0] += one.cost / NANOS_PER_SECOND
        row[1] += one.price / NANOS_PER_SECOND
    return sorted(sums.items(), key=lambda row: -row[1][1])[: 2 * MOST_NAMES]


def _payers(axes: Any, rows: Sequence[tuple[str, list[float]]], *, own: bool) -> None:
    places = list(range(len(rows)))
    prices = [money[1] for _, money in rows]
    if own:
        axes.barh(places, prices, height=0.5, color=OTHERS[0], label="charged")
    else:
        costs = [money[0] for _, money in rows]
        axes.barh([at - 0.19 for at in places], costs, height=0.36, color="#9fb4cc", label="cost")
        axes.barh([at + 0.19 for at in places], prices, height=0.36, color=OTHERS[0], label="price")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.02), frameon=False, handlelength=1)
    axes.set_yticks(places, [_short(name) for name, _ in rows])
    axes.invert_yaxis()
    axes.grid(axis="x")
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("USD")


def _idle(axes: Any, shares: Sequence[float | None]) -> None:
    heights = [100 * (share or 0.0) for share in shares]
    axes.bar(range(len(shares)), heights, width=0.78, color="#9aa3ad")
    for hour, share in enumerate(shares):
        if share is None:
            axes.text(hour, 1.5, "·", ha="center", color="#9aa3ad")
    axes.set_xticks(range(0, len(shares), 3), [f"{hour:02}" for hour in range(0, len(shares), 3)])
    axes.set_xlim(-0.6, len(shares) - 0.4)
    axes.set_ylim(0, 100)
    axes.set_ylabel("idle, %")


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """A figure with nothing on it, so wide and high in inches."""
    return mpl_figure.Figure(figsize=(width, height), **options)


def _names(days: Iterable[Mapping[str, int]], known: Sequence[str]) -> list[str]:
    """Names by their money, the rest as one; kinds in their own order."""
    sums: dict[str, int] = {}
    for day in days:
        for name, money in day.items():
            sums[name] = sums.get(name, 0) + money
    if known:
        return [name for name in known if name in sums]
    names = sorted(sums, key=lambda name: (-sums[name], name))
    return names if len(names) <= MOST_NAMES else [*names[: MOST_NAMES - 1], "others"]


def _dollars_of(day: Mapping[str, int], name: str, names: Sequence[str]) -> float:
    if name == "others" and name not in day:
        rest = [money for one, money in day.items() if one not in names]
        return sum(rest) / NANOS_PER_SECOND
    return day.get(name, 0) / NANOS_PER_SECOND


def _day_name(day: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).strftime("%d %b").lstrip("0")


def _short(name: str, most: int = 28) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


@contextmanager
def drawing() -> Generator[None]:
    """With this look. Names may hold characters that matplotlib's own font lacks, which it would
    warn of; the reader's fonts have them."""
    context: Any = getattr(mpl, "rc_context")  # noqa: B009
    with context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield

"""A statement as pages of PDF: the same numbers and plots as the page of HTML."""

import textwrap
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from meted.cli.report_page import day_name, device_hours, moment_name, percent
from meted.cli.report_plots import INK, Figure, Plot, drawing, new_figure, plots
from meted.ledger.statement import margin_permille, short_dollars
from meted.live.books import Statement

WIDTH, HEIGHT = 8.27, 11.69
"""A4 in inches."""
TOP, BOTTOM, LEFT, RIGHT = 0.92, 0.06, 0.09, 0.91
LINE = 0.021
ROWS_A_PAGE = 34
TEXT_COLUMNS = 88


def write_pdf(statement: Statement, file: Path, *, made_us: int) -> None:
    """Write the pages. made_us: when it was made, in wall-clock micros."""
    pages: Any = import_module("matplotlib.backends.backend_pdf").PdfPages
    with drawing(), pages(file, metadata={"Creator": "Meted", "CreationDate": None}) as pdf:
        pdf.savefig(_summary(statement, made_us))
        drawn = plots(statement)
        if drawn:
            pdf.savefig(_plots(drawn))
        for page in _table_pages(statement):
            pdf.savefig(page)


def _summary(statement: Statement, made_us: int) -> Figure:
    page = new_figure(WIDTH, HEIGHT)
    page.text(LEFT, TOP, statement.tenant or "Statement of the house", size=20, weight="bold")
    period = f"{day_name(statement.from_us)} to {day_name(statement.to_us - 1)}, UTC"
    page.text(LEFT, TOP - 0.03, period, color="#66707b")
    y = TOP - 0.085
    for name, value in _totals(statement):
        page.text(LEFT, y, name, color="#66707b")
        page.text(0.42, y, value, weight="bold")
        y -= LINE
    if statement.findings:
        y -= LINE
        page.text(LEFT, y, "What to fix first", size=13, weight="bold")
        for finding in statement.findings[:8]:
            y -= 0.4 * LINE
            for line in textwrap.wrap(finding.says, TEXT_COLUMNS):
                y -= LINE
                page.text(LEFT, y, line)
    page.text(LEFT, 0.05, f"Made by Meted, {moment_name(made_us)}", size=7, color="#66707b")
    return page


def _totals(statement: Statement) -> Iterator[tuple[str, str]]:
    if statement.tenant is None:
        yield "Capacity cost", short_dollars(statement.cost)
        yield "Charged to tenants", short_dollars(statement.price)
        yield "Idle", short_dollars(statement.idle)
    else:
        yield "Charged", short_dollars(statement.price)
    yield "Requests", f"{statement.requests:,}"
    yield "Device-hours", device_hours(statement.device_nanos)


def _plots(drawn: Sequence[Plot]) -> Figure:
    """All plots on one page, below each other."""
    page = new_figure(WIDTH, HEIGHT)
    heights = [plot.height + 1.0 for plot in drawn]
    scale = min(1.0, (HEIGHT - 1.2) / sum(heights))
    y = TOP
    for plot, height in zip(drawn, heights, strict=True):
        page.text(LEFT, y, plot.title, size=13, weight="bold")
        room = plot.height * scale / HEIGHT
        plot.draw(page.add_axes((LEFT + 0.17, y - 0.02 - room, 0.51, room)))
        y -= height * scale / HEIGHT
    return page


Table = tuple[str, Sequence[str], list[Sequence[str]]]


def _tables(statement: Statement) -> Iterator[Table]:
    own = statement.tenant is not None
    if statement.kinds:
        kinds = [
            (kind, device_hours(nanos), short_dollars(cost))
            for kind, nanos, cost in statement.kinds
        ]
        yield "Where the capacity went", ("Kind", "Device-hours", "Cost"), [*kinds]
    payers = [
        _without_house(
            own,
            one.project if own else f"{one.tenant}, {one.project}",
            f"{one.requests:,}",
            short_dollars(one.cost),
            short_dollars(one.price),
            percent(margin_permille(one.cost, one.price)),
        )
        for one in statement.payers
    ]
    yield "Who", _without_house(own, "Who", "Requests", "Cost", "Charged", "Margin"), payers
    served = [
        _without_house(
            own,
            one.name,
            f"{one.requests:,}",
            short_dollars(one.cost),
            short_dollars(one.price),
            percent(margin_permille(one.cost, one.price)),
        )
        for one in statement.served
    ]
    yield (
        "Deployments",
        _without_house(own, "Deployment", "Requests", "Cost", "Charged", "Margin"),
        served,
    )
    trained = [
        _without_house(
            own,
            one.name,
            f"{one.steps or 0:,}",
            short_dollars(one.cost),
            short_dollars(one.price),
            short_dollars(one.lost),
        )
        for one in statement.trained
    ]
    yield "Training", _without_house(own, "Job", "Steps", "Cost", "Charged", "Lost"), trained
    budgets = [
        (one.budget.name, short_dollars(one.spent), short_dollars(one.budget.limit))
        for one in statement.budgets
    ]
    yield "Budgets", ("Budget", "Spent", "Limit"), [*budgets]


def _without_house(
    own: bool, name: str, count: str, cost: str, price: str, last: str
) -> Sequence[str]:
    """A row; a tenant's has neither the cost nor what follows from it."""
    return (name, count, price) if own else (name, count, cost, price, last)


def _table_pages(statement: Statement) -> Iterator[Figure]:
    """All tables, as many on a page as there is room for."""
    page, y = new_figure(WIDTH, HEIGHT), TOP
    for title, header, rows in _tables(statement):
        if not rows:
            continue
        for start in range(0, len(rows), ROWS_A_PAGE):
            part = rows[start : start + ROWS_A_PAGE]
            if y < TOP and y - (len(part) + 4) * LINE < BOTTOM:
                yield page
                page, y = new_figure(WIDTH, HEIGHT), TOP
            y = _table(page, y, title, header, part)
    if y < TOP:
        yield page


def _table(
    page: Figure, y: float, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]
) -> float:
    """Write a table from y down; returns where the next one can begin."""
    page.text(LEFT, y, title, size=13, weight="bold")
    y -= 1.5 * LINE
    ends = [RIGHT - (len(header) - 1 - index) * 0.13 for index in range(len(header))]
    for number, row in enumerate((header, *rows)):
        style = {"color": "#66707b", "weight": "bold"} if number == 0 else {"color": INK}
        page.text(LEFT, y, textwrap.shorten(row[0], 44, placeholder="…") or "–", **style)
        for end, cell in zip(ends[1:], row[1:], strict=True):
            page.text(end, y, cell, ha="right", **style)
        y -= LINE
    return y - 1.5 * LINE

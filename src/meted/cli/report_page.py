"""A statement as one page of HTML: everything is inside it, and every name is escaped."""

from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from meted.cli.render import dollars
from meted.cli.report_plots import plots, svg
from meted.domain.units import MICROS_PER_SECOND, NANOS_PER_SECOND
from meted.ledger.statement import margin_permille, short_dollars
from meted.live.books import Statement


def page(statement: Statement, *, made_us: int) -> str:
    """The page. made_us: when it was made, in wall-clock micros."""
    environment = Environment(
        loader=PackageLoader("meted.cli"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {
        "usd": short_dollars,
        "exact": dollars,
        "hours": device_hours,
        "count": _count,
        "day": day_name,
        "percent": percent,
        "micro": _per_million,
    }
    known: Any = environment
    known.filters.update(filters)
    return environment.get_template("statement.html").render(
        statement=statement,
        # Matplotlib escapes the texts in its elements.
        plots=[(plot.title, Markup(svg(plot))) for plot in plots(statement)],
        margin=margin_permille,
        made=moment_name(made_us),
        last_day=statement.to_us - 1,
    )


def device_hours(nanos: int) -> str:
    return f"{nanos / NANOS_PER_SECOND / 3_600:,.2f}"


def _count(number: int) -> str:
    return f"{number:,}"


def day_name(at: int) -> str:
    return datetime.fromtimestamp(at // MICROS_PER_SECOND, UTC).strftime("%-d %B %Y")


def moment_name(at: int) -> str:
    return datetime.fromtimestamp(at // MICROS_PER_SECOND, UTC).strftime("%Y-%m-%d %H:%M UTC")


def percent(permille: int | None) -> str:
    return "–" if permille is None else f"{permille / 10:,.1f} %".replace("-", "−")


def _per_million(nano: int | None) -> str:
    return "–" if nano is None else short_dollars(nano)

"""Numbers and tables for people: exact money, plain columns where nobody looks at a terminal."""

import sys
from collections.abc import Collection, Sequence
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from meted.domain.units import NANOS_PER_SECOND


def decimal(nanos: int) -> str:
    """Billionths as an exact decimal number with nine places."""
    whole, part = divmod(abs(nanos), NANOS_PER_SECOND)
    return f"{'-' if nanos < 0 else ''}{whole}.{part:09d}"


def dollars(nano_usd: int) -> str:
    """Nano-USD as exact dollars: `$0.000123456`."""
    text = decimal(abs(nano_usd))
    return f"-${text}" if nano_usd < 0 else f"${text}"


def number(value: float | None, digits: int = 4) -> str:
    """A measured number, or `-` while there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def duration(seconds: float) -> str:
    """A length of time for people."""
    whole = int(seconds)
    days, hours, minutes = whole // 86_400, whole // 3_600 % 24, whole // 60 % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (whole % 60, "s")]
    shown = [f"{amount} {unit}" for amount, unit in parts if amount]
    return " ".join(shown[:2]) or "0 s"


def print_table(
    headers: Sequence[str], rows: Sequence[Sequence[Any]], *, right: Collection[str] = ()
) -> None:
    """Print rows under headers. right: the headers of columns of numbers."""
    numeric = [header in right for header in headers]
    texts = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        table = Table(box=SIMPLE_HEAD)
        for header, is_number in zip(headers, numeric, strict=True):
            table.add_column(header, justify="right" if is_number else "left", overflow="fold")
        for row in texts:
            table.add_row(*(Text(cell) for cell in row))
        Console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(headers, *texts, strict=True)]
    for row in ([header.upper() for header in headers], *texts):
        cells = [
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(row, widths, numeric, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())

"""FOCUS records as a file of CSV or Parquet."""

import csv
from collections.abc import Sequence
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from meted.domain.units import Micros, TenantName
from meted.live.books.focus import (
    COLUMNS,
    DECIMAL,
    HOUSE_ONLY,
    INTEGER,
    MOMENT,
    FocusRecord,
    Value,
    focus_records,
)
from meted.live.books.opening import Target

DIGITS, PLACES = 38, 9


def write_focus(
    target: Target,
    file: Path,
    *,
    from_us: Micros,
    to_us: Micros,
    tenant: TenantName | None = None,
) -> tuple[int, int]:
    """Write the records of a period; how many there are, and the nano-USD of their BilledCost."""
    writers = {".csv": _write_csv, ".parquet": _write_parquet}
    write = writers.get(file.suffix.lower())
    if write is None:
        raise click.UsageError(f"{file} must end with {' or '.join(writers)}")
    records = focus_records(target, from_us=from_us, to_us=to_us, tenant=tenant)
    columns = [name for name in COLUMNS if tenant is None or name not in HOUSE_ONLY]
    write(file, columns, records)
    return len(records), sum(record.billed for record in records)


def _write_csv(file: Path, columns: Sequence[str], records: Sequence[FocusRecord]) -> None:
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(columns)
        for record in records:
            writer.writerow([_text(record.values[name]) for name in columns])


def _text(value: Value) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return value.strftime("%Y-%m-%dT%H:%M:%SZ")
        case int() | str():
            return str(value)
        case _:
            return f"{value:f}"


def _write_parquet(file: Path, columns: Sequence[str], records: Sequence[FocusRecord]) -> None:
    # Only who writes Parquet waits for its library, whose types are not stated.
    arrow: Any = import_module("pyarrow")
    parquet: Any = import_module("pyarrow.parquet")
    types = {
        DECIMAL: arrow.decimal128(DIGITS, PLACES),
        MOMENT: arrow.timestamp("us", tz="UTC"),
        INTEGER: arrow.int64(),
    }
    schema = arrow.schema([(name, types.get(COLUMNS[name], arrow.string())) for name in columns])
    table = arrow.table(
        {name: [record.values[name] for record in records] for name in columns}, schema=schema
    )
    parquet.write_table(table, file)

"""The books' requests as traffic: order, tokens, and what generated nothing left out."""

from contextlib import closing
from pathlib import Path

import pytest

from meted.domain.units import DeploymentName
from meted.live.books.recorded import recorded_arrivals
from meted.live.store import Batch, StoreError
from meted.live.stores import open_store
from meted.testing.store_rows import interval, request_account, request_row


def test_requests_come_back_as_they_arrived(tmp_path: Path) -> None:
    path = tmp_path / "books.sqlite"
    rows = [request_row(number, 100_000_000) for number in range(4)]
    with closing(open_store(path, house="here")) as store:
        used = {request_account(number): 100_000_000 for number in range(4)}
        store.write(Batch(closed=(interval(0, used),), requests=tuple(reversed(rows))))
    found = recorded_arrivals(path)
    first = min(row.arrived for row in rows)
    assert [(one.at, one.prompt_tokens, one.output_tokens, one.cached_tokens) for one in found] == [
        (row.arrived - first, row.prompt_tokens, row.completion_tokens, row.cached_tokens)
        for row in sorted(rows, key=lambda row: row.arrived)
    ]
    name = rows[0].account.deployment
    assert name is not None
    assert recorded_arrivals(path, name) == found
    assert recorded_arrivals(path, DeploymentName("another")) == []


def test_no_books_are_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there are no books at"):
        recorded_arrivals(tmp_path / "none.sqlite")

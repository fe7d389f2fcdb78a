"""Batches as the spool keeps them: to records and back, and as many as fit in one transaction."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from meted.domain.line import Interval
from meted.live.store import Batch, StoreError
from meted.live.stores.postings import session_of
from meted.live.stores.spool_file import Record, SpoolError

GROUP_BYTES = 1 << 18


def encoded(batch: Batch, session: str) -> tuple[bytes, bytes]:
    """What must be kept of a batch, and its open interval; empty where there is nothing.

    Raises StoreError for what cannot be stored: numbers beyond 64 bits, half of a surrogate pair.
    """
    parts = (batch.closed, batch.requests, batch.charges, batch.losses)
    try:
        return (
            msgspec.msgpack.encode(replace(batch, session=session, open=None))
            if any(parts)
            else b"",
            b"" if batch.open is None else msgspec.msgpack.encode(batch.open),
        )
    except (OverflowError, UnicodeEncodeError) as error:
        raise StoreError(f"a batch of session {session} cannot be stored: {error}") from error


def decoded(path: Path, record: Record) -> Batch:
    """The batch of a record of this file. Raises SpoolError if another version wrote it."""
    try:
        batch = msgspec.msgpack.decode(record.kept, type=Batch) if record.kept else Batch()
        if record.opened:
            batch = replace(batch, open=msgspec.msgpack.decode(record.opened, type=Interval))
    except msgspec.DecodeError as error:
        raise SpoolError(
            f"{path}: the record at byte {record.start} is whole but not of this version of "
            f"Meted: {error}; start once with the version that wrote it"
        ) from error
    return replace(batch, session=session_of(batch))


def groups(path: Path, records: Iterator[Record]) -> Iterator[list[tuple[Record, Batch]]]:
    """Records in a row of one session, as many as go into one transaction."""
    group: list[tuple[Record, Batch]] = []
    for record in records:
        batch = decoded(path, record)
        if group and (
            batch.session != group[-1][1].session or record.end - group[0][0].start > GROUP_BYTES
        ):
            yield group
            group = []
        group.append((record, batch))
    if group:
        yield group


def merged(batches: Sequence[Batch]) -> Batch:
    """Batches of one session as one: of its open intervals the last is the one that counts."""
    opens = [batch.open for batch in batches if batch.open is not None]
    return Batch(
        session=batches[0].session,
        closed=tuple(one for batch in batches for one in batch.closed),
        open=opens[-1] if opens else None,
        requests=tuple(one for batch in batches for one in batch.requests),
        charges=tuple(one for batch in batches for one in batch.charges),
        losses=tuple(one for batch in batches for one in batch.losses),
    )

"""The books' SQLite file: its schema, how it is opened, and what can be wrong with it."""

import contextlib
import os
import sqlite3
from collections.abc import Generator, Iterator
from pathlib import Path

from meted.live.store import StoreError

APPLICATION_ID = 0x4D455444
BUSY_SECONDS = 10.0
OLDEST_SQLITE = (3, 37, 0)

_FIRST = """
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    resolved INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE intervals (
    session INTEGER NOT NULL REFERENCES sessions (id),
    number INTEGER NOT NULL,
    started INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    devices INTEGER NOT NULL,
    nano_usd_per_device_hour INTEGER NOT NULL,
    capacity_nanos INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (session, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX intervals_by_start ON intervals (started);

CREATE TABLE lines (
    session INTEGER NOT NULL,
    number INTEGER NOT NULL,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    tenant TEXT,
    deployment TEXT,
    job TEXT,
    request TEXT,
    note TEXT NOT NULL,
    device_nanos INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (session, number, position),
    FOREIGN KEY (session, number) REFERENCES intervals (session, number)
        DEFERRABLE INITIALLY DEFERRED
) STRICT, WITHOUT ROWID;
CREATE INDEX lines_by_job ON lines (job, device_nanos, amount) WHERE job IS NOT NULL;

CREATE TABLE provisional (
    session INTEGER PRIMARY KEY REFERENCES sessions (id),
    number INTEGER NOT NULL,
    interval BLOB NOT NULL
) STRICT;

CREATE TABLE requests (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    key_id TEXT NOT NULL,
    deployment TEXT NOT NULL,
    arrived INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    ttft_us INTEGER,
    device_nanos INTEGER NOT NULL,
    cost INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE losses (
    job TEXT NOT NULL,
    step INTEGER NOT NULL,
    moment TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    loss REAL,
    held_out REAL,
    device_nanos INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    PRIMARY KEY (job, step, moment)
) STRICT;

CREATE TABLE deployments (name TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE TABLE jobs (name TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT;

CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    admin INTEGER NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    prefix TEXT NOT NULL,
    created INTEGER NOT NULL,
    revoked INTEGER NOT NULL DEFAULT 0
) STRICT;

-- What is closed is closed: an interval's lines come before it, and nothing follows.
CREATE TRIGGER lines_are_complete BEFORE INSERT ON lines
WHEN EXISTS (SELECT 1 FROM intervals WHERE session = NEW.session AND number = NEW.number)
BEGIN SELECT RAISE(ABORT, 'the interval is closed; a later one may correct it'); END;
"""

_APPEND_ONLY = """
CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table}
BEGIN SELECT RAISE(ABORT, '{table} are append-only; a later interval may correct them'); END;
"""

MIGRATIONS = (
    _FIRST
    + "".join(
        _APPEND_ONLY.format(table=table, verb=verb)
        for table in ("intervals", "lines", "requests")
        for verb in ("UPDATE", "DELETE")
    ),
)
"""Forward only: the file's user_version counts those it has had. Never edit one; add the next."""


@contextlib.contextmanager
def explained(path: Path) -> Generator[None]:
    """Turn SQLite's errors into a StoreError that names the file and the next move."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StoreError(
            f"{path}: {error}; check that the disk is not full, that the file can be written "
            "and that no other program holds it"
        ) from error
    except sqlite3.IntegrityError as error:
        raise StoreError(f"{path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"{path} cannot be read as the books: {error}; move it away to begin new books, "
            "or put back a copy"
        ) from error


def open_books(path: Path) -> sqlite3.Connection:
    """A connection for writing, the file created or brought to the newest schema.

    Raises StoreError if the file is no SQLite file, is another program's or has a newer schema.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StoreError(
            f"SQLite is {sqlite3.sqlite_version}, expected 3.37 or newer; use a newer Python"
        )
    _create(path)
    with explained(path):
        connection = _connect(path)
        try:
            _check_schema(connection, path)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            _migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection


def read_books(path: Path) -> sqlite3.Connection:
    """A connection that only reads, beside a running house or without one.

    Raises StoreError if there are no books yet, or for what `open_books` raises it.
    """
    if not path.exists():
        raise StoreError(f"there are no books at {path} yet; `meted up` begins them")
    with explained(path):
        connection = _connect(path)
        try:
            if _check_schema(connection, path) < len(MIGRATIONS):
                raise StoreError(f"{path} has an older schema; start `meted up` once to renew it")
            connection.execute("PRAGMA query_only = ON")
        except BaseException:
            connection.close()
            raise
        return connection


def _create(path: Path) -> None:
    """Make an empty file that only its owner can read; journals take over its mode.

    A file that is there is not even opened: closing it would drop the locks that SQLite holds on
    it for this process's other connections, and the next reader to leave would delete the journal.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise StoreError(f"cannot open the books {path}: {error.strerror}") from error


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _check_schema(connection: sqlite3.Connection, path: Path) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    program: int = connection.execute("PRAGMA application_id").fetchone()[0]
    tables: int = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if program != APPLICATION_ID and (program or version or tables):
        raise StoreError(f"{path} is a database of another program; choose another home")
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{path} has schema {version}, this version of Meted knows up to {len(MIGRATIONS)}; "
            "use the newer Meted that wrote it"
        )
    return version


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date, each migration in one transaction, whoever comes first."""
    while True:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version >= len(MIGRATIONS):
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            if connection.execute("PRAGMA user_version").fetchone()[0] == version:
                for statement in _statements(MIGRATIONS[version]):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def _statements(script: str) -> Iterator[str]:
    """A script's statements one by one, because `executescript` would commit before it."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""

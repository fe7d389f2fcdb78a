"""SQLite under the store: how the file is opened and migrated, and what can be wrong with it."""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

from meted.live.store import StoreDownError, StoreError
from meted.live.stores.database import Row, Statements, T, Value, halves, marks
from meted.live.stores.schema.sqlite_1 import FIRST
from meted.live.stores.schema.sqlite_2 import SECOND
from meted.live.stores.schema.sqlite_3 import THIRD

APPLICATION_ID = 0x4D455444
BUSY_SECONDS = 10.0
OLDEST_SQLITE = (3, 37, 0)

MIGRATIONS = (FIRST, SECOND, THIRD)
"""Forward only: the file's user_version counts those it has had. Never edit one; add the next."""


class SqliteDatabase:
    """`Database` in one file, which several processes may write to, one transaction at a time."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Create the file or bring it to the newest schema; read_only does neither.

        Raises StoreError if it is no SQLite file, is another program's or has a newer schema.
        """
        self._path = path
        self._db = _open_to_read(path) if read_only else _open_to_write(path)
        self._statements = _Statements(self._db)

    def write(self, work: Callable[[Statements], T]) -> T:
        return self._transaction("BEGIN IMMEDIATE", work)

    def read(self, work: Callable[[Statements], T]) -> T:
        return self._transaction("BEGIN", work)

    def close(self) -> None:
        self._db.close()

    def _transaction(self, begin: str, work: Callable[[Statements], T]) -> T:
        with explained(self._path):
            self._db.execute(begin)
            try:
                result = work(self._statements)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            return result


class _Statements:
    """`Statements` on SQLite, where a transaction that writes is alone anyway."""

    for_update = ""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def rows(self, statement: str, *values: Value) -> list[Row]:
        return self._db.execute(statement, values).fetchall()

    def stream(self, statement: str, *values: Value) -> Iterator[Row]:
        return self._db.execute(statement, values)

    def change(self, statement: str, *values: Value) -> int:
        return self._db.execute(statement, values).rowcount

    def insert(self, table: str, columns: str, rows: Sequence[Row]) -> None:
        self._db.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks(columns)})", rows)

    def insert_new(self, table: str, columns: str, rows: Sequence[Row], *, key: str) -> list[bool]:
        statement = (
            f"INSERT INTO {table} ({columns}) VALUES ({marks(columns)})"
            f" ON CONFLICT ({key}) DO NOTHING"
        )
        return [self._db.execute(statement, row).rowcount == 1 for row in rows]

    def exact_sum(self, column: str) -> str:
        return halves(column)

    def share_postings(self) -> None:
        pass

    def hold_postings(self) -> None:
        pass


_DOWN = {
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR),
    *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM),
}


@contextlib.contextmanager
def explained(path: Path) -> Generator[None]:
    """Turn SQLite's errors into a StoreError that names the file and the next move."""
    try:
        yield
    except sqlite3.OperationalError as error:
        # The low byte of an extended code is the code.
        down = getattr(error, "sqlite_errorcode", 0) & 0xFF in _DOWN
        raise (StoreDownError if down else StoreError)(
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
    except OverflowError as error:
        raise StoreError(f"{path}: {error}; a number is beyond 64 bits") from error
    except UnicodeEncodeError as error:
        raise StoreError(f"{path}: a text cannot be stored: {error}") from error


def _open_to_write(path: Path) -> sqlite3.Connection:
    """A connection for writing, the file created or brought to the newest schema."""
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
            connection.execute("PRAGMA foreign_keys = OFF")
            _migrate(connection)
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
        return connection


def _open_to_read(path: Path) -> sqlite3.Connection:
    """A connection that only reads, beside a running house or without one."""
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
        raise StoreDownError(
            f"cannot open the books {path}: {error.strerror}; make the folder, or choose another"
        ) from error


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
    """Bring the schema up to date, each migration in one transaction, whoever comes first.

    Foreign keys are off meanwhile, because tables are replaced, and all are checked at the end.
    """
    while True:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version >= len(MIGRATIONS):
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            if connection.execute("PRAGMA user_version").fetchone()[0] == version:
                for statement in _statements(MIGRATIONS[version]):
                    connection.execute(statement)
                broken = connection.execute("PRAGMA foreign_key_check").fetchall()
                if broken:
                    raise StoreError(f"schema {version + 1} would leave rows alone: {broken[:3]}")
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

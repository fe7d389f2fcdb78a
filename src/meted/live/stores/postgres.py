"""PostgreSQL under the store: connecting, again after a loss; migrations; what can be wrong."""

import contextlib
import itertools
import random
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import lru_cache
from typing import Any, LiteralString, cast

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.numeric import Int8Dumper

from meted.live.store import StoreDownError, StoreError
from meted.live.stores.database import Row, Statements, T, Value
from meted.live.stores.schema.postgres_1 import FIRST
from meted.live.stores.schema.postgres_2 import SECOND

OLDEST_POSTGRES = 13
APPLICATION = "meted"
MIGRATIONS = (FIRST, SECOND)
"""Forward only: the table `meted` counts those that the database has had. Add the next."""

CONNECT_SECONDS = 5
SILENCE_MS = 15_000
"""A server that acknowledges nothing for so long is gone."""
TRIES = 10
LONGEST_PAUSE_S = 0.05

_LOCKS = 0x4D455444
_MIGRATING, _POSTING = 1, 2

_DOWN = (
    *("08", "53", "58"),  # connection, resources (disk full, too many connections), system
    *("57P01", "57P02", "57P03"),  # shut down, crashed, starting
    "25006",  # a stand-by that only reads
)
_AGAIN = ("40001", "40P01")  # not serializable, deadlock


class PostgresDatabase:
    """`Database` at an address; several houses on several machines may share it."""

    def __init__(self, dsn: str, *, read_only: bool = False) -> None:
        """Connect, and bring the database to the newest schema; read_only asks that it is there.

        Raises StoreDownError if it cannot be reached, StoreError if it is another program's, has a
        newer schema, or is older than PostgreSQL 13.
        """
        self._dsn = dsn
        self._read_only = read_only
        self.name, self._password = _public_name(dsn)
        self._db: psycopg.Connection[Row] | None = None
        with self._explained():
            self._connection()

    def write(self, work: Callable[[Statements], T]) -> T:
        return self._transaction("BEGIN ISOLATION LEVEL READ COMMITTED", work)

    def read(self, work: Callable[[Statements], T]) -> T:
        return self._transaction("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", work)

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _transaction(self, begin: LiteralString, work: Callable[[Statements], T]) -> T:
        for attempt in itertools.count(1):
            try:
                with self._explained():
                    return self._once(begin, work)
            except _ContendedError as error:
                if attempt == TRIES:
                    raise StoreDownError(
                        f"{self.name}: {error.__cause__}, {TRIES} times; too many write there"
                    ) from error
                time.sleep(random.uniform(0, LONGEST_PAUSE_S))
        raise AssertionError("unreachable")

    def _once(self, begin: LiteralString, work: Callable[[Statements], T]) -> T:
        db = self._connection()
        try:
            db.execute(begin)
            result = work(_Statements(db))
            db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(psycopg.Error):
                db.execute("ROLLBACK")
            raise
        return result

    def _connection(self) -> psycopg.Connection[Row]:
        if self._db is not None and (self._db.closed or self._db.broken):
            self.close()
        if self._db is None:
            db = psycopg.connect(
                self._dsn,
                autocommit=True,
                connect_timeout=CONNECT_SECONDS,
                tcp_user_timeout=SILENCE_MS,
                application_name=APPLICATION,
                prepare_threshold=2,
            )
            try:
                # One type for all integers: a statement is prepared once, not for each size.
                db.adapters.register_dumper(int, Int8Dumper)
                db.execute("SET synchronous_commit = on")
                db.execute("SET TIME ZONE 'UTC'")
                self._migrate(db)
            except BaseException:
                db.close()
                raise
            self._db = db
        return self._db

    def _migrate(self, db: psycopg.Connection[Row]) -> None:
        """Bring the schema up to date in one transaction, whoever comes first."""
        version = self._check(db)
        if version == len(MIGRATIONS):
            return
        if self._read_only:
            raise StoreError(
                f"{self.name} has no books yet"
                if version == 0
                else f"{self.name} has an older schema; start `meted up` once to renew it"
            )
        with db.transaction():
            db.execute("SELECT pg_advisory_xact_lock(%s::int, %s::int)", (_LOCKS, _MIGRATING))
            version = self._check(db)
            if version == 0:
                db.execute(
                    "CREATE TABLE meted (application text NOT NULL, version bigint NOT NULL)"
                )
                db.execute("INSERT INTO meted VALUES (%s, 0)", (APPLICATION,))
            for migration in MIGRATIONS[version:]:
                db.execute(migration)
            db.execute("UPDATE meted SET version = %s", (len(MIGRATIONS),))

    def _check(self, db: psycopg.Connection[Row]) -> int:
        """The schema's version. Raises StoreError where Meted must not write."""
        server, encoding = db.info.server_version // 10_000, _one(db, "SHOW server_encoding")
        if server < OLDEST_POSTGRES or encoding != "UTF8":
            raise StoreError(
                f"{self.name} is PostgreSQL {server} with encoding {encoding}, expected "
                f"{OLDEST_POSTGRES} or newer with UTF8; make another database"
            )
        if _one(db, "SELECT to_regclass('meted') IS NULL"):
            if _one(db, _THEIR_TABLES):
                raise StoreError(
                    f"{self.name} is a database of another program; make one of its own for Meted"
                )
            return 0
        columns = db.execute(_COLUMNS, ("meted",)).fetchall()
        if {name for name, _ in columns} != {"application", "version"} or (
            _one(db, "SELECT min(application) FROM meted") != APPLICATION
        ):
            raise StoreError(
                f"{self.name} is a database of another program; make one of its own for Meted"
            )
        version: int = _one(db, "SELECT max(version) FROM meted")
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{self.name} has schema {version}, this version of Meted knows up to "
                f"{len(MIGRATIONS)}; use the newer Meted that wrote it"
            )
        return version

    @contextlib.contextmanager
    def _explained(self) -> Generator[None]:
        """Turn errors into ones that name the database, not its password, and the next move."""
        try:
            yield
        except psycopg.Error as error:
            state = error.sqlstate or ""
            if state in _AGAIN:
                raise _ContendedError from error
            lost = self._db is None or self._db.closed or self._db.broken
            text = self._public(str(error).strip())
            if lost or state.startswith(_DOWN):
                self.close()
                raise StoreDownError(
                    f"{self.name}: {text}; check that the server runs and can be reached"
                ) from None
            raise StoreError(f"{self.name}: {text}") from None
        except UnicodeEncodeError as error:
            raise StoreError(f"{self.name}: a text cannot be stored: {error}") from error

    def _public(self, text: str) -> str:
        return text.replace(self._password, "***") if self._password else text


class _ContendedError(Exception):
    """Another transaction was in the way: the same one may succeed at once."""


class _Statements:
    """`Statements` on PostgreSQL."""

    for_update = " FOR UPDATE"

    def __init__(self, db: psycopg.Connection[Row]) -> None:
        self._db = db
        self._streams = 0

    def rows(self, statement: str, *values: Value) -> list[Row]:
        return self._db.execute(_native(statement), values).fetchall()

    def stream(self, statement: str, *values: Value) -> Iterator[Row]:
        self._streams += 1
        with self._db.cursor(name=f"stream_{self._streams}") as cursor:
            cursor.itersize = 2_000
            yield from cursor.execute(_native(statement), values)

    def change(self, statement: str, *values: Value) -> int:
        return self._db.execute(_native(statement), values).rowcount

    def insert(self, table: str, columns: str, rows: Sequence[Row]) -> None:
        if rows:
            self._db.execute(self._bulk(table, columns), (_records(columns, rows),))

    def insert_new(self, table: str, columns: str, rows: Sequence[Row], *, key: str) -> list[bool]:
        if not rows:
            return []
        statement = self._bulk(table, columns, f" ON CONFLICT ({key}) DO NOTHING RETURNING {key}")
        new = set(self._db.execute(statement, (_records(columns, rows),)).fetchall())
        names = columns.split(", ")
        places = [names.index(name) for name in key.split(", ")]
        answers: list[bool] = []
        for row in rows:
            identity = tuple(row[place] for place in places)
            answers.append(identity in new)
            # Where a key comes twice, the first one is entered.
            new.discard(identity)
        return answers

    def _bulk(self, table: str, columns: str, conflict: str = "") -> LiteralString:
        """One statement for any number of rows, which come as one JSON text."""
        types = _types(self._db, table)
        record = ", ".join(f"{name} {types[name]}" for name in columns.split(", "))
        return cast(
            LiteralString,
            f"INSERT INTO {table} ({columns})"
            f" SELECT {columns} FROM json_to_recordset(%s::json) AS record ({record}){conflict}",
        )

    def exact_sum(self, column: str) -> str:
        return f"sum({column}::numeric)"

    def share_postings(self) -> None:
        self._db.execute(
            "SELECT pg_advisory_xact_lock_shared(%s::int, %s::int)", (_LOCKS, _POSTING)
        )

    def hold_postings(self) -> None:
        self._db.execute("SELECT pg_advisory_xact_lock(%s::int, %s::int)", (_LOCKS, _POSTING))


_THEIR_TABLES = """
SELECT count(*) > 0 FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')
    AND NOT EXISTS (SELECT 1 FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e')
"""

_COLUMNS = """
SELECT attname, format_type(atttypid, NULL) FROM pg_attribute
WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
"""

_types_by_table: dict[str, dict[str, str]] = {}
"""Columns' types; the schema of a version is the same in every database."""


def _types(db: psycopg.Connection[Row], table: str) -> dict[str, str]:
    if table not in _types_by_table:
        _types_by_table[table] = dict(db.execute(_COLUMNS, (table,)).fetchall())
    return _types_by_table[table]


def _records(columns: str, rows: Sequence[Row]) -> str:
    names = columns.split(", ")
    return msgspec.json.encode([dict(zip(names, row, strict=True)) for row in rows]).decode()


def _one(db: psycopg.Connection[Row], statement: LiteralString) -> Any:
    row = db.execute(statement).fetchone()
    assert row is not None
    return row[0]


@lru_cache(maxsize=1_000)
def _native(statement: str) -> LiteralString:
    """A statement with PostgreSQL's placeholders; no statement of ours has a literal `?`."""
    return cast(LiteralString, statement.replace("%", "%%").replace("?", "%s"))


def _public_name(dsn: str) -> tuple[str, str | None]:
    """What may be shown of an address, and the password, which may not."""
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.Error:
        # The parser's own message may quote the password.
        raise StoreError(
            "the address of the database cannot be read, expected "
            "postgresql://user:password@host:port/database"
        ) from None
    where = parts.get("host") or parts.get("hostaddr") or "local socket"
    port = f":{parts['port']}" if parts.get("port") else ""
    password = parts.get("password")
    return f"database {parts.get('dbname') or ''!r} at {where}{port}", (
        str(password) if password else None
    )

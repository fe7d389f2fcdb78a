"""PostgreSQL as the store: conformance, a server that is killed, and what it must refuse."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg
import pytest

from meted.live.store import Batch, StoreDownError, StoreError
from meted.live.stores import open_database, open_store
from meted.live.stores.database import Statements
from meted.live.stores.postgres import MIGRATIONS
from meted.testing.check_store import check_batches_are_whole, check_store
from meted.testing.postgres import PostgresServer
from meted.testing.store_rows import TRAINING, charge_row, interval, request_row

WRITER = """
import sys
from meted.live.stores import open_store
from meted.testing.check_store import write_forever
write_forever(open_store(sys.argv[1], house="here"), lambda number: print(number, flush=True))
"""


@pytest.fixture
def raw(postgres_dsn: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A connection of somebody else's to a store with one row of each kind."""
    with closing(open_store(postgres_dsn, house="here")) as store:
        store.write(
            Batch(
                closed=(interval(0, {TRAINING: 5}),),
                requests=(request_row(0, 5),),
                charges=(charge_row(0, 5),),
            )
        )
    with closing(psycopg.connect(postgres_dsn, autocommit=True)) as connection:
        yield connection


def test_postgres_is_a_store(postgres_dsn: str) -> None:
    def stored_bytes() -> bytes:
        with closing(psycopg.connect(postgres_dsn)) as connection, connection.cursor() as cursor:
            with cursor.copy("COPY keys TO STDOUT") as keys:
                return b"".join(bytes(part) for part in keys)

    check_store(
        lambda house="here": open_store(postgres_dsn, house=house), stored_bytes=stored_bytes
    )


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE lines SET amount = amount + 1",
        "DELETE FROM lines",
        "UPDATE intervals SET amount = amount + 1",
        "DELETE FROM intervals",
        "UPDATE requests SET cost = 0",
        "DELETE FROM requests",
        "DELETE FROM charges",
        "TRUNCATE requests",
        "DELETE FROM audit",
        "INSERT INTO lines VALUES (1, 0, 99, 1, null, 1, 1)",
        "INSERT INTO lines VALUES (1, 7, 0, 1, null, 1, 1)",
        "INSERT INTO folding DEFAULT VALUES",
    ],
)
def test_the_database_itself_refuses_to_edit_what_is_closed(
    raw: psycopg.Connection[tuple[object, ...]], statement: str
) -> None:
    with pytest.raises(psycopg.IntegrityError):
        raw.execute(statement)


def test_folding_says_so_and_may_take_away_but_never_edit(
    raw: psycopg.Connection[tuple[object, ...]],
) -> None:
    with raw.transaction():
        raw.execute("INSERT INTO folding DEFAULT VALUES")
        raw.execute("DELETE FROM requests")
        raw.execute("DELETE FROM folding")
    with pytest.raises(psycopg.IntegrityError), raw.transaction():
        raw.execute("INSERT INTO folding DEFAULT VALUES")
        raw.execute("UPDATE charges SET price = 0")
    assert raw.execute("SELECT count(*) FROM requests").fetchone() == (0,)


def test_killed_writer_leaves_every_batch_whole(postgres_dsn: str) -> None:
    acknowledged = _written_until(postgres_dsn, lambda process: process.kill())
    check_batches_are_whole(
        lambda house="here": open_store(postgres_dsn, house=house), acknowledged=acknowledged
    )


def test_killed_server_keeps_what_it_acknowledged(
    postgres_server: PostgresServer, postgres_dsn: str
) -> None:
    acknowledged = _written_until(postgres_dsn, lambda process: postgres_server.kill())
    postgres_server.start()
    check_batches_are_whole(
        lambda house="here": open_store(postgres_dsn, house=house), acknowledged=acknowledged
    )


def _written_until(dsn: str, end: Callable[[subprocess.Popen[str]], object]) -> int:
    """Let a process write until the end; returns the last batch that it was told is durable."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, dsn],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for _ in range(25):
        process.stdout.readline()
    end(process)
    rest, error = process.communicate(timeout=60)
    assert not error or "StoreDownError" in error, error
    return int(rest.splitlines()[-1]) if rest.endswith("\n") and rest else 24


def test_a_call_after_the_server_came_back_connects_again(
    postgres_server: PostgresServer, postgres_dsn: str
) -> None:
    batch = Batch(session="s", charges=(charge_row(0, 5),))
    with closing(open_store(postgres_dsn, house="here")) as store:
        store.write(batch)
        postgres_server.restart()
        with pytest.raises(StoreDownError):
            store.write(batch)
        store.write(batch)
        postgres_server.kill()
        for _ in range(2):
            with pytest.raises(StoreDownError, match="can be reached"):
                store.version()
        postgres_server.start()
        store.write(Batch(session="s", charges=(charge_row(1, 5),)))
        assert [one.price for one in store.job_totals()] == [10]


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://meted:tell-nobody@127.0.0.1:1/books",
        "postgresql://meted:tell-nobody@[oops/books",
        "postgresql://meted:tell-nobody@127.0.0.1:port/books",
        "postgresql:///books?host=/nowhere&password=tell-nobody",
        "postgresql://meted:tell-nobody@127.0.0.1:1/books?unknown=1",
    ],
)
def test_no_error_tells_the_password(dsn: str) -> None:
    with pytest.raises(StoreError) as caught:
        open_store(dsn, house="here")
    error: BaseException | None = caught.value
    while error is not None:
        assert "tell-nobody" not in str(error)
        error = None if error.__suppress_context__ else error.__cause__ or error.__context__


def test_a_server_that_does_not_listen_is_down(postgres_server: PostgresServer) -> None:
    with pytest.raises(StoreDownError, match="check that the server runs"):
        open_store("postgresql://meted@127.0.0.1:1/books", house="here")
    with pytest.raises(StoreError, match="does not exist"):
        open_store(postgres_server.dsn("unknown"), house="here")


@pytest.mark.parametrize(
    "theirs", ["CREATE TABLE theirs (id int)", "CREATE TABLE meted (application text, other int)"]
)
def test_another_programs_database_is_refused_and_untouched(postgres_dsn: str, theirs: str) -> None:
    with closing(psycopg.connect(postgres_dsn, autocommit=True)) as connection:
        connection.execute(theirs)
        with pytest.raises(StoreError, match="another program"):
            open_store(postgres_dsn, house="here")
        assert connection.execute(
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        ).fetchone() == (1,)


def test_newer_schema_is_refused_by_number(
    raw: psycopg.Connection[tuple[object, ...]], postgres_dsn: str
) -> None:
    raw.execute("UPDATE meted SET version = version + 1")
    newer = len(MIGRATIONS) + 1
    with pytest.raises(StoreError, match=f"schema {newer}.*up to {newer - 1}"):
        open_store(postgres_dsn, house="here")


def test_reading_makes_no_books(postgres_dsn: str) -> None:
    with pytest.raises(StoreError, match="no books yet"):
        open_database(postgres_dsn, read_only=True)
    open_store(postgres_dsn, house="here").close()
    open_database(postgres_dsn, read_only=True).close()


def test_a_read_sees_one_moment_and_streams(postgres_dsn: str) -> None:
    with (
        closing(open_store(postgres_dsn, house="here")) as store,
        closing(open_database(postgres_dsn, read_only=True)) as reader,
    ):
        rows = tuple(request_row(number, 5) for number in range(5_000))
        store.write(Batch(session="s", requests=rows))

        def look() -> tuple[int, int, int]:
            def work(db: Statements) -> tuple[int, int, int]:
                before = sum(1 for _ in db.stream("SELECT id FROM requests"))
                store.write(Batch(session="s", requests=(request_row(9_999, 5),)))
                ((after,),) = db.rows(
                    "SELECT count(*) FROM requests WHERE id LIKE '%' OR id = ?", ""
                )
                return before, after, db.rows("SELECT 7 % 4")[0][0]

            return reader.read(work)

        assert look() == (5_000, 5_000, 3)
        assert look()[0] == 5_001


def test_numbers_beyond_64_bits_are_refused_and_sums_beyond_them_are_exact(
    postgres_dsn: str,
) -> None:
    with closing(open_store(postgres_dsn, house="here")) as store:
        with pytest.raises(StoreError, match="out of range"):
            store.write(Batch(session="s", charges=(charge_row(0, 2**63),)))
        charges = tuple(charge_row(number, 2**62 + number) for number in range(5))
        store.write(Batch(session="s", charges=charges))
        assert [one.price for one in store.job_totals()] == [5 * 2**62 + 10]

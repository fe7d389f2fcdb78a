"""SQLite as the store: the conformance suite, a killed writer, and files that are not the books."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from meted.domain.units import Micros
from meted.live.store import AuditEntry, Batch, Document, StoreDownError, StoreError
from meted.live.stores import open_database, open_store
from meted.live.stores.database import Statements
from meted.live.stores.sql_store import SqlStore
from meted.live.stores.sqlite import MIGRATIONS, SqliteDatabase
from meted.testing.check_store import (
    TRAINING,
    check_batches_are_whole,
    check_store,
    interval,
    request_row,
)
from meted.testing.store_rows import charge_row

WRITER = """
import sys
from pathlib import Path
from meted.live.stores import open_store
from meted.testing.check_store import write_forever
write_forever(open_store(Path(sys.argv[1]), house="here"), lambda number: print(number, flush=True))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "books.sqlite"


def test_sqlite_is_a_store(path: Path) -> None:
    def stored_bytes() -> bytes:
        return b"".join(file.read_bytes() for file in path.parent.iterdir())

    check_store(lambda house="here": open_store(path, house=house), stored_bytes=stored_bytes)


def test_killed_writer_leaves_every_batch_whole(path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(25):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    acknowledged = int(rest.splitlines()[-1]) if rest.endswith("\n") and rest else 24
    check_batches_are_whole(
        lambda house="here": open_store(path, house=house), acknowledged=acknowledged
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
        "UPDATE charges SET price = 0",
        "DELETE FROM charges",
        "DELETE FROM audit",
        "DELETE FROM documents",
        "UPDATE documents SET body = '{}'",
        "INSERT INTO folding DEFAULT VALUES",
        "INSERT INTO lines VALUES (1, 0, 99, 1, null, 1, 1)",
        "INSERT INTO lines VALUES (1, 7, 0, 1, null, 1, 1)",
    ],
)
def test_the_file_itself_refuses_to_edit_what_is_closed(path: Path, statement: str) -> None:
    store = open_store(path, house="here")
    store.write(
        Batch(
            closed=(interval(0, {TRAINING: 5}),),
            requests=(request_row(0, 5),),
            charges=(charge_row(0, 5),),
        )
    )
    store.audit(AuditEntry(at=Micros(0), actor="a", action="b", subject="c", detail={}))
    store.append_documents([Document(kind="receipt", name="chat~2", body="{}")])
    store.close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)
    connection.close()


def test_folding_says_so_and_may_take_away_but_never_edit(path: Path) -> None:
    with closing(open_store(path, house="here")) as store:
        store.write(Batch(session="s", requests=(request_row(0, 5),), charges=(charge_row(0, 5),)))
    with closing(open_database(path)) as database:

        def fold(db: Statements) -> None:
            db.change("INSERT INTO folding DEFAULT VALUES")
            db.change("DELETE FROM requests")

        with pytest.raises(StoreError):
            database.write(fold)
        database.write(lambda db: (fold(db), db.change("DELETE FROM folding")))
        with pytest.raises(StoreError, match="append-only"):
            database.write(
                lambda db: (
                    db.change("INSERT INTO folding DEFAULT VALUES"),
                    db.change("UPDATE charges SET price = 0"),
                )
            )
        assert database.read(lambda db: db.rows("SELECT count(*) FROM requests")) == [(0,)]


def test_full_disk_is_down_and_the_same_batch_goes_in_later(path: Path) -> None:
    database = SqliteDatabase(path)
    batch = Batch(session="s", requests=tuple(request_row(number, 5) for number in range(2_000)))
    with closing(SqlStore(database, house="here")) as store:
        database.read(lambda db: db.rows("PRAGMA max_page_count = 1"))
        with pytest.raises(StoreDownError, match="disk"):
            store.write(batch)
        database.read(lambda db: db.rows("PRAGMA max_page_count = 1000000"))
        for _ in range(2):
            store.write(batch)
    with closing(open_database(path, read_only=True)) as reader:
        assert reader.read(lambda db: db.rows("SELECT count(*) FROM requests")) == [(2_000,)]
        with pytest.raises(StoreError):
            reader.write(lambda db: db.change("INSERT INTO no_row VALUES (1)"))


def test_numbers_beyond_64_bits_are_refused_and_sums_beyond_them_are_exact(path: Path) -> None:
    with closing(open_store(path, house="here")) as store:
        with pytest.raises(StoreError, match="64"):
            store.write(Batch(session="s", charges=(charge_row(0, 2**63),)))
        charges = tuple(charge_row(number, 2**62 + number) for number in range(5))
        store.write(Batch(session="s", charges=charges))
        assert [one.price for one in store.job_totals()] == [5 * 2**62 + 10]


def test_only_the_owner_can_read_the_books(path: Path) -> None:
    store = open_store(path, house="here")
    store.write(Batch(open=interval(0, {})))
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    store.close()


def test_newer_schema_is_refused_by_name_and_number(path: Path) -> None:
    open_store(path, house="here").close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(StoreError, match=f"schema {len(MIGRATIONS) + 1}.*up to {len(MIGRATIONS)}"):
        open_store(path, house="here")


@pytest.mark.parametrize("content", [b"not a database at all, " * 50, b"\x00" * 4096])
def test_file_that_is_no_database_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreError, match=str(path)):
        open_store(path, house="here")
    assert path.read_bytes() == content


def test_another_programs_database_is_refused_and_untouched(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (id)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        open_store(path, house="here")
    assert path.read_bytes() == before


def test_damaged_books_are_a_store_error(path: Path) -> None:
    store = open_store(path, house="here")
    store.write(Batch(closed=tuple(interval(n, {TRAINING: n + 1}) for n in range(500))))
    store.close()
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="books"):
        open_store(path, house="here").job_totals()


def test_folder_that_does_not_exist_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere"):
        open_store(tmp_path / "nowhere" / "books.sqlite", house="here")


def test_two_processes_writing_at_once_both_succeed(path: Path) -> None:
    stores = [open_store(path, house="here") for _ in range(2)]
    for number in range(20):
        for index, store in enumerate(stores):
            store.write(Batch(closed=(interval(number, {TRAINING: 1}, session=f"s{index}"),)))
    assert [total.device_nanos for total in stores[0].job_totals()] == [40]
    for store in stores:
        store.close()

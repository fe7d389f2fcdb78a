"""The spool's file: what is appended is found again; torn ends are cut off, damage is refused."""

import os
import resource
import stat
from pathlib import Path

import pytest

from meted.live.stores.spool_file import (
    Record,
    SpoolError,
    SpoolFile,
    begin_spool,
    open_spool,
    record_bytes,
)

OWNER = "books.sqlite"
PARTS = [(b"one", b""), (b"two" * 50, b"open"), (b"", b"open only"), (b"\x00MTS1\xff" * 9, b"")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def filled(path: Path, parts: list[tuple[bytes, bytes]] = PARTS) -> list[Record]:
    file = begin_spool(path, OWNER)
    for kept, opened in parts:
        file.append(kept, opened)
    records = list(file.records(file.first))
    file.close()
    return records


def again(path: Path) -> tuple[SpoolFile, int]:
    file, torn = open_spool(path, OWNER)
    assert file is not None
    return file, torn


def parts_of(file: SpoolFile) -> list[tuple[bytes, bytes]]:
    return [(record.kept, record.opened) for record in file.records(file.first)]


def test_records_come_back_in_order_and_from_any_of_them(path: Path) -> None:
    records = filled(path)
    file, torn = again(path)
    assert torn == 0
    assert parts_of(file) == PARTS
    assert list(file.records(records[2].start)) == records[2:]
    assert [one.end - one.start for one in records] == [record_bytes(*one) for one in PARTS]
    assert path.stat().st_size == file.end == records[-1].end
    file.close()


def test_only_its_owner_can_read_it(path: Path) -> None:
    filled(path)
    file, _ = again(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    file.rewrite(file.first, ())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    file.close()


def test_a_record_torn_at_any_byte_is_cut_off_and_what_follows_is_whole(path: Path) -> None:
    """A kill in mid-append leaves a part of the last record; a power failure may leave zeros."""
    *_, last = filled(path)
    content = path.read_bytes()
    for kept in range(last.start, last.end):
        for filler in (b"", b"\x00" * (last.end - kept), b"\xff" * (last.end - kept + 100)):
            if content[: last.end] == (content[:kept] + filler)[: last.end]:
                continue
            path.write_bytes(content[:kept] + filler)
            file, torn = again(path)
            assert torn == kept + len(filler) - last.start
            assert path.stat().st_size == file.end == last.start
            assert parts_of(file) == PARTS[:-1]
            file.append(b"next", b"")
            assert parts_of(file) == [*PARTS[:-1], (b"next", b"")]
            file.close()


def test_a_file_whose_beginning_was_torn_holds_nothing(path: Path) -> None:
    begin_spool(path, OWNER).close()
    content = path.read_bytes()
    for kept in range(len(content)):
        path.write_bytes(content[:kept])
        assert open_spool(path, OWNER) == (None, kept)
        assert not path.exists()


def test_damage_anywhere_before_the_last_record_is_refused_with_its_place(path: Path) -> None:
    records = filled(path)
    content = path.read_bytes()
    for place in range(records[-1].start):
        damaged = bytearray(content)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        start = next((one.start for one in records if one.start <= place < one.end), 0)
        with pytest.raises(SpoolError) as caught:
            open_spool(path, OWNER)
        if place >= 4:
            for words in (str(path), f"byte {start} of {len(content)}", "move it away"):
                assert words in str(caught.value)
        assert path.read_bytes() == damaged


def test_a_record_that_was_moved_is_damaged(path: Path) -> None:
    records = filled(path, [(b"same", b""), (b"same", b""), (b"other", b"")])
    content = path.read_bytes()
    first = content[records[0].start : records[0].end]
    path.write_bytes(content[: records[1].start] + first + content[records[1].end :])
    with pytest.raises(SpoolError, match=f"byte {records[1].start}"):
        open_spool(path, OWNER)


def test_what_is_no_spool_is_left_alone(path: Path) -> None:
    path.write_bytes(b"my notes")
    with pytest.raises(SpoolError, match="no spool of Meted's"):
        open_spool(path, OWNER)
    assert path.read_bytes() == b"my notes"


def test_a_spool_of_other_books_is_refused_by_both_names(path: Path) -> None:
    filled(path)
    with pytest.raises(SpoolError, match=r"into books\.sqlite.*the books are db/meted"):
        open_spool(path, "db/meted")


def test_two_cannot_hold_one_spool(path: Path) -> None:
    file = begin_spool(path, OWNER)
    with pytest.raises(SpoolError, match="two houses cannot share"):
        open_spool(path, OWNER)
    with pytest.raises(FileExistsError):
        begin_spool(path, OWNER)
    file.append(b"one", b"open")
    file.rewrite(file.first, ())
    with pytest.raises(SpoolError, match="two houses cannot share"):
        open_spool(path, OWNER)
    file.close()
    again(path)[0].close()


def test_rewriting_keeps_what_must_be_and_says_where_it_is(path: Path) -> None:
    parts = [(b"gone", b"old"), (b"kept", b"old"), (b"", b"old"), (b"", b"new"), (b"last", b"")]
    records = filled(path, parts)
    file, _ = again(path)
    moved = file.rewrite(records[1].start, {records[3].start})
    expected = [(b"kept", b""), (b"", b"new"), (b"last", b"")]
    assert parts_of(file) == expected
    assert list(moved) == [records[3].start]
    assert next(file.records(moved[records[3].start])).opened == b"new"
    file.append(b"after", b"")
    file.close()
    file, torn = again(path)
    assert (parts_of(file), torn) == ([*expected, (b"after", b"")], 0)
    assert [one.name for one in path.parent.iterdir()] == ["spool"]
    file.close()


def test_a_rewriting_that_was_killed_is_forgotten(path: Path) -> None:
    filled(path)
    path.with_name(".spool.draft").write_bytes(b"half of it")
    file, _ = again(path)
    assert parts_of(file) == PARTS
    assert [one.name for one in path.parent.iterdir()] == ["spool"]
    file.close()


@pytest.mark.parametrize("room", [0, 1, 200])
def test_what_the_disk_does_not_take_is_not_there(path: Path, room: int) -> None:
    """The limit on a file's size is met in mid-record, like a full disk."""
    file = begin_spool(path, OWNER)
    file.append(b"one", b"")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.end + room, hard))
    try:
        with pytest.raises(OSError):
            file.append(b"x" * 1000, b"")
        with pytest.raises(OSError):
            file.append(b"x" * 1000, b"")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.stat().st_size == file.end
    file.append(b"two", b"")
    file.close()
    file, torn = again(path)
    assert (parts_of(file), torn) == ([(b"one", b""), (b"two", b"")], 0)
    file.close()


def test_every_append_is_on_disk_before_it_returns(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No kill can tell, only a power failure: so the system is asked what it was told to sync."""
    synced: list[tuple[int, int]] = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        sync(descriptor)
        status = os.fstat(descriptor)
        synced.append((status.st_ino, status.st_size))

    monkeypatch.setattr(os, "fsync", watched)
    file = begin_spool(path, OWNER)
    assert path.parent.stat().st_ino in [inode for inode, _ in synced]
    for kept, opened in PARTS:
        file.append(kept, opened)
        assert synced[-1] == (path.stat().st_ino, file.end)
    file.rewrite(file.first, ())
    assert (path.stat().st_ino, file.end) in synced
    file.close()


def test_removed_spool_is_gone(path: Path) -> None:
    filled(path)
    again(path)[0].remove()
    assert open_spool(path, OWNER) == (None, 0)

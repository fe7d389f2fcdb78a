"""The spool's file: records that are durable once appended, found whole again after a crash.

A record is its magic, two lengths, a checksum, and two parts: what must be kept, and an open
interval that a later one replaces. The checksum also covers the place in the file, so that no
record can be taken for another. The first record says whose file it is.
"""

import contextlib
import mmap
import os
import struct
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from meted.live.store import StoreError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_MAGIC = b"MTS1"
_HEAD = struct.Struct("<4sIII")
_PLACE = struct.Struct("<QII")
_COPIED_BYTES = 1 << 20


class SpoolError(StoreError):
    """The spool's file is damaged or not this house's: which file, where in it, what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record, from byte `start` of the file to `end`; a part may be empty."""

    start: int
    end: int
    kept: bytes
    opened: bytes


def record_bytes(kept: bytes, opened: bytes) -> int:
    """How long a record of these parts is."""
    return _HEAD.size + len(kept) + len(opened)


class SpoolFile:
    """A spool that holds something, open in this process only."""

    def __init__(self, path: Path, file: FileIO, *, first: int, end: int) -> None:
        """Use `begin_spool` or `open_spool`. first, end: of its records behind the owner's."""
        self.path = path
        self.first = first
        self.end = end
        self._file = file

    def append(self, kept: bytes, opened: bytes) -> int:
        """Make one record durable; returns where it starts. OSError: nothing was appended."""
        start = self.end
        record = _packed(start, kept, opened)
        try:
            _write(self._file, start, record)
            os.fsync(self._file.fileno())
        except BaseException:
            # What is left behind, should even this fail, is overwritten by the next record, or cut
            # off as a torn one.
            with contextlib.suppress(OSError):
                self._file.truncate(start)
            raise
        self.end = start + len(record)
        return start

    def records(self, start: int) -> Iterator[Record]:
        """All records from the one at `start` on."""
        while start < self.end:
            record = _read(self._file, start, self.end)
            if record is None:
                raise SpoolError(_damaged(self.path, start, self.end))
            yield record
            start = record.end

    def rewrite(self, start: int, opens: Collection[int]) -> Mapping[int, int]:
        """Keep only what must be: records from `start` on, open intervals only of those that start
        at `opens`; returns where these start now. OSError: the file is as it was."""
        moved: dict[int, int] = {}
        draft = _draft(self.path)
        draft.unlink(missing_ok=True)
        file = _create(draft)
        try:
            owner = _read(self._file, 0, self.first)
            assert owner is not None
            copied = bytearray(_packed(0, owner.kept, owner.opened))
            written = 0
            for record in self.records(start):
                opened = record.opened if record.start in opens else b""
                if not (record.kept or opened):
                    continue
                place = written + len(copied)
                if opened:
                    moved[record.start] = place
                copied += _packed(place, record.kept, opened)
                if len(copied) > _COPIED_BYTES:
                    _write(file, written, copied)
                    written += len(copied)
                    copied.clear()
            _write(file, written, copied)
            os.fsync(file.fileno())
            draft.replace(self.path)
            # Where this fails the rename may not be durable yet; both files hold what is needed,
            # and this one, which is the one seen, must be written on.
            with contextlib.suppress(OSError):
                _sync_folder(self.path)
        except BaseException:
            file.close()
            draft.unlink(missing_ok=True)
            raise
        self._file.close()
        self._file = file
        self.end = written + len(copied)
        return moved

    def remove(self) -> None:
        """All of it is elsewhere now."""
        self.path.unlink(missing_ok=True)
        self.close()
        with contextlib.suppress(OSError):
            # A file that came back after a power failure would be replayed once more, to no effect.
            _sync_folder(self.path)

    def close(self) -> None:
        self._file.close()


def begin_spool(path: Path, owner: str) -> SpoolFile:
    """A new file for what belongs to `owner`. OSError: it is there already or cannot be made."""
    file = _create(path)
    try:
        record = _packed(0, owner.encode(), b"")
        _write(file, 0, record)
        os.fsync(file.fileno())
        _sync_folder(path)
    except BaseException:
        file.close()
        path.unlink(missing_ok=True)
        raise
    return SpoolFile(path, file, first=len(record), end=len(record))


def open_spool(path: Path, owner: str) -> tuple[SpoolFile | None, int]:
    """The file that an earlier process left, and how many torn bytes were cut off its end.

    None if there is none, or one of which not even the beginning was durable. A record that was
    torn by a crash is the last one and was never acknowledged. Raises SpoolError if records
    follow a damaged one, if it is no spool, if another process holds it or another owner wrote it.
    """
    try:
        file = FileIO(os.open(path, os.O_RDWR), "r+")
    except FileNotFoundError:
        return None, 0
    except OSError as error:
        raise SpoolError(f"cannot open {path}: {error.strerror}; run as its owner") from error
    try:
        _lock(file, path)
        _draft(path).unlink(missing_ok=True)
        size = file.seek(0, os.SEEK_END)
        if not _MAGIC.startswith(_bytes(file, 0, min(size, len(_MAGIC)))):
            raise SpoolError(f"{path} is no spool of Meted's; move it away")
        found = _read(file, 0, size)
        if found is None:
            _refuse_damage(file, path, 0, size)
            path.unlink()
            file.close()
            return None, size
        if found.kept != owner.encode():
            raise SpoolError(
                f"{path} holds what was to be written into {found.kept.decode(errors='replace')}, "
                f"but the books are {owner} now; start once with books.store as it was, or move "
                "the file away, and what it holds will be missing there"
            )
        end = found.end
        while (record := _read(file, end, size)) is not None:
            end = record.end
        if end < size:
            _refuse_damage(file, path, end, size)
            file.truncate(end)
            os.fsync(file.fileno())
        return SpoolFile(path, file, first=found.end, end=end), size - end
    except BaseException:
        file.close()
        raise


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.draft")


def _create(path: Path) -> FileIO:
    file = FileIO(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), "r+")
    try:
        _lock(file, path)
    except BaseException:
        file.close()
        raise
    return file


def _lock(file: FileIO, path: Path) -> None:
    """Hold the file for this process, however it ends."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = os.fstat(file.fileno()).st_nlink == 0  # it was replaced before the lock came
    except BlockingIOError:
        held = True
    if held:
        raise SpoolError(
            f"another process holds {path}; two houses cannot share a spool, give each its home"
        )


def _packed(start: int, kept: bytes, opened: bytes) -> bytes:
    checksum = _checksum(start, len(kept), len(opened), kept + opened)
    return _HEAD.pack(_MAGIC, len(kept), len(opened), checksum) + kept + opened


def _checksum(start: int, kept: int, opened: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(_PLACE.pack(start, kept, opened)))


def _read(file: FileIO, start: int, size: int) -> Record | None:
    """The record at `start` of a file of this size, or None if there is no whole one."""
    if size - start < _HEAD.size:
        return None
    magic, kept, opened, checksum = _HEAD.unpack(_bytes(file, start, _HEAD.size))
    body = start + _HEAD.size
    end = body + kept + opened
    if magic != _MAGIC or end > size:
        return None
    content = _bytes(file, body, kept + opened)
    if _checksum(start, kept, opened, content) != checksum:
        return None
    return Record(start=start, end=end, kept=content[:kept], opened=content[kept:])


def _refuse_damage(file: FileIO, path: Path, start: int, size: int) -> None:
    """Raise if a whole record follows the one at `start`, which then was acknowledged."""
    if size == 0:
        return
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        later = start
        while (later := content.find(_MAGIC, later + 1)) >= 0:
            if _read(file, later, size) is not None:
                raise SpoolError(_damaged(path, start, size))


def _damaged(path: Path, start: int, size: int) -> str:
    return (
        f"{path}: the record at byte {start} of {size} is damaged, and others follow it; put back "
        "a copy of the file, or move it away, and the requests and charges that it holds will be "
        "missing in the books"
    )


def _bytes(file: FileIO, start: int, length: int) -> bytes:
    file.seek(start)
    content = bytearray()
    while len(content) < length and (more := file.read(length - len(content))):
        content += more
    return bytes(content)


def _write(file: FileIO, start: int, content: bytes | bytearray) -> None:
    file.seek(start)
    with memoryview(content) as view:
        written = 0
        while written < len(view):
            written += file.write(view[written:])


def _sync_folder(path: Path) -> None:
    if os.name != "posix":
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

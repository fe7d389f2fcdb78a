"""The running house over its admin doors: one small HTTP client, errors as the house's words."""

import http.client
from typing import Any
from urllib.parse import quote, urlsplit

import click
import msgspec

from meted.cli.common import NoHouseError, RefusedError
from meted.live.home import Home

TIMEOUT_SECONDS = 10.0
IMPORT_TIMEOUT_SECONDS = 30 * 60.0


class HouseClient:
    """Asks the house that runs in a home."""

    def __init__(self, url: str, key: str) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname or "127.0.0.1", address.port or 80
        self._key = key
        self.url = url

    def get(self, *path: str) -> Any:
        return self._call("GET", path)

    def post(
        self, *path: str, body: dict[str, Any] | None = None, timeout: float = TIMEOUT_SECONDS
    ) -> Any:
        return self._call("POST", path, body or {}, timeout)

    def delete(self, *path: str) -> Any:
        return self._call("DELETE", path)

    def _call(
        self,
        method: str,
        path: tuple[str, ...],
        body: dict[str, Any] | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> Any:
        """The reply to one call. Raises a ClickException whose exit code says what went wrong."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        target = "/".join(("/meted/v1", *(quote(part, safe="") for part in path)))
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        try:
            connection.request(
                method, target, None if body is None else msgspec.json.encode(body), headers
            )
            response = connection.getresponse()
            status, content = response.status, response.read()
        except TimeoutError as error:
            raise NoHouseError(
                f"the house at {self.url} did not answer within {timeout:.0f} s; see its log, "
                "or stop it with `meted down`"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise NoHouseError(
                f"the house at {self.url} does not answer ({error or type(error).__name__})"
            ) from error
        finally:
            connection.close()
        return _reply(status, content, self.url)


def connect(home: Home) -> HouseClient:
    """A client of the house that runs in `home`. Exits 3 if none does, 4 without its key."""
    running = home.running()
    if running is None and home.locked():
        raise NoHouseError(f"the house in {home.folder} is still starting; try again soon")
    if running is None:
        raise NoHouseError(f"no house runs in {home.folder}; start one with `meted up`")
    key = home.read_admin_key()
    if key is None:
        raise RefusedError(f"{home.admin_key} is missing; restart the house to make a new key")
    return HouseClient(running.url, key)


def _reply(status: int, content: bytes, url: str) -> Any:
    try:
        value: Any = msgspec.json.decode(content or b"null")
    except msgspec.DecodeError as error:
        raise click.ClickException(
            f"{url} answered {status} without JSON; is it a house of Meted?"
        ) from error
    if status < 400:
        return value
    try:
        sentence = str(value["error"]["message"])
    except (KeyError, TypeError):
        sentence = f"the house answered {status}: {value}"
    if status in (401, 403):
        raise RefusedError(sentence)
    raise click.ClickException(sentence)

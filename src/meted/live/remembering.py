"""What a house must remember (deployments, jobs), written in order, also across an outage."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from meted.live.budget_desk import InWriter
from meted.live.store import StoreDownError

log = logging.getLogger(__name__)

PAUSE_S = 0.5
LAST_TRIES = 20
"""Tries of a house that ends while its store is down."""


class Remembering:
    """Calls to the store, one after the other; one that finds it down is made again."""

    def __init__(
        self, *, in_writer: InWriter, spawn: Callable[[Coroutine[Any, Any, None]], object]
    ) -> None:
        self._in_writer = in_writer
        self._spawn = spawn
        self._calls: deque[Callable[[], None]] = deque()
        self.ending = False

    def later(self, call: Callable[[], None]) -> None:
        """Make this call after all before it."""
        self._calls.append(call)
        if len(self._calls) == 1:
            self._spawn(self._write())

    async def _write(self) -> None:
        tries = 0
        while self._calls:
            try:
                await self._in_writer(self._calls[0])
            except StoreDownError as error:
                tries += 1 if self.ending else 0
                if tries > LAST_TRIES:
                    log.error("%d changes are not remembered: %s", len(self._calls), error)
                    return
                await asyncio.sleep(PAUSE_S)
            else:
                self._calls.popleft()

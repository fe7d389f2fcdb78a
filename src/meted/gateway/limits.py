"""Rate limits of keys at the doors: what a request may take at most, taken before, settled after.

Each gateway process counts for itself. A key without limits is never looked up here.
"""

import time
from collections.abc import Callable

from meted.domain.request import EmbeddingPrompt, Prompt
from meted.domain.units import MICROS_PER_SECOND, KeyId, Micros
from meted.gateway.headers import Header
from meted.live.doors import HouseError, Key, Usage
from meted.live.pricing import prompt_tokens_most
from meted.policy.rate_limit import (
    MICROS_PER_MINUTE,
    NO_LIMITS,
    Limited,
    RateLimiter,
    rate_headers,
)

DEFAULT_ANSWER_TOKENS = 1_024
"""Taken for an answer whose request does not say max_tokens; a longer one is owed."""
FEWEST_SWEPT = 64

_UNITS = {
    "requests": "requests per minute",
    "tokens": "tokens per minute",
    "concurrent": "requests at once",
}


def monotonic_micros() -> Micros:
    """The gateway's own clock, which never steps back."""
    return Micros(time.monotonic_ns() // 1_000)


def most_tokens(prompt: Prompt, max_tokens: int | None) -> int:
    """The most tokens that a request uses; DEFAULT_ANSWER_TOKENS where it does not say how many.

    Where it uses more after all, `Admission.settle` lets the key owe them.
    """
    if isinstance(prompt, EmbeddingPrompt):
        return prompt_tokens_most(prompt)
    answer = DEFAULT_ANSWER_TOKENS if max_tokens is None else max_tokens
    return prompt_tokens_most(prompt) + answer


class Admission:
    """A request that was let in: settled once, when it is known what it used."""

    __slots__ = ("_key", "_open", "_taken")

    def __init__(self, key: "KeyLimit", taken: int) -> None:
        self._key = key
        self._taken = taken
        self._open = True

    def settle(self, tokens: int) -> None:
        """The request is over and used so many tokens; the rest comes back."""
        if self._open:
            self._open = False
            self._key.over(self._taken, tokens)

    def abandon(self) -> None:
        """The request is over and nobody knows what it used: all that was taken."""
        self.settle(self._taken)


class KeyLimit:
    """One key's limits as they stand. last: when it was last asked."""

    __slots__ = ("_key", "_limiter", "_now", "_owed", "last")

    def __init__(self, key: Key, now: Callable[[], Micros]) -> None:
        self._key = key
        self._now = now
        self._owed = 0
        self.last = now()
        self._limiter = RateLimiter(key.limits, self.last)

    def same(self, key: Key) -> bool:
        return self._key.limits == key.limits

    def admit(self, tokens: int) -> Admission:
        """Let a request in that uses at most so many tokens. Raises HouseError (429)."""
        self.last = self._now()
        limit = self._key.limits.tokens_per_minute
        # What earlier answers used beyond what was taken is paid as far as the limit has room.
        paid = 0 if limit is None else min(self._owed, max(0, limit - tokens))
        limited = self._limiter.take(self.last, tokens + paid)
        if limited is not None:
            raise _too_many(self._key, limited, tokens)
        self._owed -= paid
        return Admission(self, tokens)

    def over(self, taken: int, used: int) -> None:
        """A request is over, with so many tokens taken before and used in truth."""
        self.last = self._now()
        self._limiter.ended()
        self._limiter.give_back(self.last, max(0, taken - used))
        if self._key.limits.tokens_per_minute is not None:
            self._owed += max(0, used - taken)

    def headers(self) -> list[Header]:
        """OpenAI's headers of a limited key, as they stand now."""
        states = self._limiter.state(self._now())
        # Our own names and numbers, which need no escaping.
        return [(name.encode(), value.encode()) for name, value in rate_headers(states).items()]

    def idle(self, now: Micros) -> bool:
        """Whether a new one would stand just the same: nothing runs or is owed, all is full."""
        rested = now - self.last >= MICROS_PER_MINUTE
        return rested and self._limiter.running == 0 and self._owed == 0


class KeyLimits:
    """The limits of all keys that have some and were used in the last minute."""

    def __init__(self, now: Callable[[], Micros] = monotonic_micros) -> None:
        self._now = now
        self._keys: dict[KeyId, KeyLimit] = {}
        self._sweep_at = FEWEST_SWEPT

    def __len__(self) -> int:
        return len(self._keys)

    def of(self, key: Key) -> KeyLimit | None:
        """The key's limits; None if it has none. Changed limits begin anew."""
        if key.limits is NO_LIMITS or key.limits == NO_LIMITS:
            return None
        found = self._keys.get(key.id)
        if found is None or not found.same(key):
            if len(self._keys) >= self._sweep_at:
                self._sweep()
            found = self._keys[key.id] = KeyLimit(key, self._now)
        return found

    def forget(self, key_id: KeyId) -> None:
        """The key is revoked."""
        self._keys.pop(key_id, None)

    def _sweep(self) -> None:
        """Forget keys that rested: at most as many are kept as were used within a minute, twice."""
        now = self._now()
        self._keys = {name: one for name, one in self._keys.items() if not one.idle(now)}
        self._sweep_at = max(FEWEST_SWEPT, 2 * len(self._keys))


def used_tokens(usage: Usage) -> int:
    """What counts against tokens per minute, cached prompt tokens too, as OpenAI counts."""
    return usage.prompt_tokens + usage.completion_tokens


def _too_many(key: Key, limited: Limited, tokens: int) -> HouseError:
    unit = _UNITS[limited.which]
    wanted = f", and this request may use {tokens} tokens" if limited.which == "tokens" else ""
    said = f"the API key '{key.prefix}...' may have {limited.limit} {unit}, "
    said += f"{limited.remaining} are left{wanted}; "
    seconds: int | None = None
    if limited.retry_after is None:
        said += "lower max_tokens or shorten the prompt, or ask for a higher limit"
    else:
        seconds = max(1, -(-limited.retry_after // MICROS_PER_SECOND))
        said += f"try again in {seconds} s, or ask for a higher limit"
    return HouseError(
        said,
        status=429,
        type="rate_limit_exceeded",
        code="rate_limit_exceeded",
        retry_after_s=seconds,
        details={
            "limited_by": limited.which,
            "limit": limited.limit,
            "remaining": limited.remaining,
        },
    )

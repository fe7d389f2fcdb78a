"""Rate limits of one key: requests and tokens per minute, and requests at once; all or nothing.

Each rate is a bucket that holds one minute's worth and fills steadily (token bucket, Turner 1986).
It counts in 60-millionths of a unit, of which a limit of n per minute brings exactly n in a
microsecond, so that nothing drifts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from meted.domain.units import MICROS_PER_SECOND, Micros

MICROS_PER_MINUTE = 60 * MICROS_PER_SECOND
RETRY_WHEN_ONE_HAS_ENDED = Micros(1 * MICROS_PER_SECOND)
"""Nobody knows when a running request ends; a client that asks once a second does no harm."""

Which = Literal["requests", "tokens", "concurrent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a key may do; None is no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "tokens_per_minute", "concurrent"):
            limit = getattr(self, name)
            if limit is not None and limit < 1:
                raise ValueError(
                    f"{name} is {limit}, expected 1 or more or none; to refuse all, revoke the key"
                )


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limited:
    """Why a request may not go on now.

    limit, remaining: requests or tokens per minute, or requests at once. retry_after: what is
    missing is there by then if nobody else takes it; None if waiting does not help, because the
    request alone is larger than the limit.
    """

    which: Which
    limit: int
    remaining: int
    retry_after: Micros | None

    @property
    def waiting_helps(self) -> bool:
        return self.retry_after is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class RateState:
    """What is left of a limit per minute, and the time until all of it is there again."""

    limit: int
    remaining: int
    reset: Micros


@dataclass(frozen=True, slots=True, kw_only=True)
class RateStates:
    """The state of both limits per minute; None where there is no limit."""

    requests: RateState | None
    tokens: RateState | None


class _Bucket:
    """One minute's worth of a limit; a unit takes MICROS_PER_MINUTE of the level."""

    __slots__ = ("_capacity", "_level", "_seen", "limit")

    def __init__(self, limit: int, now: Micros) -> None:
        self.limit = limit
        self._capacity = self._level = limit * MICROS_PER_MINUTE
        self._seen = now

    def fill(self, now: Micros) -> None:
        """A clock that steps back fills nothing."""
        elapsed = now - self._seen
        if elapsed > 0:
            self._level = min(self._capacity, self._level + elapsed * self.limit)
            self._seen = now

    def wait(self, units: int) -> int:
        """Micros until so many units are there; 0 if they are."""
        return max(0, -((self._level - units * MICROS_PER_MINUTE) // self.limit))

    def take(self, units: int) -> None:
        self._level -= units * MICROS_PER_MINUTE

    def put(self, units: int) -> None:
        self._level = min(self._capacity, self._level + units * MICROS_PER_MINUTE)

    @property
    def remaining(self) -> int:
        return self._level // MICROS_PER_MINUTE

    @property
    def state(self) -> RateState:
        return RateState(
            limit=self.limit,
            remaining=self.remaining,
            reset=Micros(-((self._level - self._capacity) // self.limit)),
        )


class RateLimiter:
    """The limits of one key over time; whoever owns it passes the time in.

    `take` before a request, with the most tokens it may use; `give_back` what it did not use;
    `ended` when it is over, however it ended.
    """

    __slots__ = ("_concurrent", "_requests", "_running", "_tokens", "limits")

    def __init__(self, limits: Limits, now: Micros) -> None:
        """Both buckets start full."""
        self.limits = limits
        requests, tokens = limits.requests_per_minute, limits.tokens_per_minute
        self._requests = None if requests is None else _Bucket(requests, now)
        self._tokens = None if tokens is None else _Bucket(tokens, now)
        self._concurrent = limits.concurrent
        self._running = 0

    @property
    def running(self) -> int:
        """Requests taken and not ended."""
        return self._running

    def take(self, now: Micros, tokens: int) -> Limited | None:
        """Take one request with so many tokens from all limits, or say why not and take nothing.

        If several limits stand in the way, the one with the longest wait is told. Raises
        ValueError for negative tokens.
        """
        if tokens < 0:
            raise ValueError(f"a request asks for {tokens} tokens, expected 0 or more")
        self._fill(now)
        request_bucket, token_bucket = self._requests, self._tokens
        if (
            (request_bucket is not None and request_bucket.wait(1))
            or (token_bucket is not None and token_bucket.wait(tokens))
            or (self._concurrent is not None and self._running >= self._concurrent)
        ):
            return self._limited(tokens)
        if request_bucket is not None:
            request_bucket.take(1)
        if token_bucket is not None:
            token_bucket.take(tokens)
        self._running += 1
        return None

    def give_back(self, now: Micros, tokens: int) -> None:
        """Tokens that were taken and not used come back, up to the limit.

        Raises ValueError for negative tokens.
        """
        if tokens < 0:
            raise ValueError(f"a request gives back {tokens} tokens, expected 0 or more")
        self._fill(now)
        if self._tokens is not None:
            self._tokens.put(tokens)

    def ended(self) -> None:
        """One running request is over. Raises ValueError if none is running."""
        if self._running == 0:
            raise ValueError("no request of this key is running; call ended once for each taken")
        self._running -= 1

    def state(self, now: Micros) -> RateStates:
        self._fill(now)
        return RateStates(
            requests=None if self._requests is None else self._requests.state,
            tokens=None if self._tokens is None else self._tokens.state,
        )

    def _fill(self, now: Micros) -> None:
        if self._requests is not None:
            self._requests.fill(now)
        if self._tokens is not None:
            self._tokens.fill(now)

    def _limited(self, tokens: int) -> Limited:
        bucket = self._tokens
        if bucket is not None and tokens > bucket.limit:
            return Limited(
                which="tokens", limit=bucket.limit, remaining=bucket.remaining, retry_after=None
            )
        return max(self._waits(tokens), key=lambda limited: limited.retry_after or 0)

    def _waits(self, tokens: int) -> Iterator[Limited]:
        wanted: tuple[tuple[Which, _Bucket | None, int], ...] = (
            ("requests", self._requests, 1),
            ("tokens", self._tokens, tokens),
        )
        for which, bucket, units in wanted:
            if bucket is not None and (wait := bucket.wait(units)):
                yield Limited(
                    which=which,
                    limit=bucket.limit,
                    remaining=bucket.remaining,
                    retry_after=Micros(wait),
                )
        if self._concurrent is not None and self._running >= self._concurrent:
            yield Limited(
                which="concurrent",
                limit=self._concurrent,
                remaining=0,
                retry_after=RETRY_WHEN_ONE_HAS_ENDED,
            )


def rate_headers(states: RateStates) -> dict[str, str]:
    """OpenAI's rate limit headers; a limit that a key does not have has none.

    https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers
    """
    headers: dict[str, str] = {}
    for name, state in (("requests", states.requests), ("tokens", states.tokens)):
        if state is not None:
            headers[f"x-ratelimit-limit-{name}"] = str(state.limit)
            headers[f"x-ratelimit-remaining-{name}"] = str(state.remaining)
            headers[f"x-ratelimit-reset-{name}"] = duration(state.reset)
    return headers


def duration(micros: Micros) -> str:
    """A time as OpenAI's headers write it, rounded up to milliseconds: 120ms, 1.5s, 6m0s, 1h0m0s.

    The form of Go's time.Duration.String. Raises ValueError for a negative time.
    """
    if micros < 0:
        raise ValueError(f"a duration is {micros} micros, expected 0 or more")
    millis = -(-micros // 1_000)
    if 0 < millis < 1_000:
        return f"{millis}ms"
    seconds, millis = divmod(millis, 1_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{seconds}.{millis:03}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text

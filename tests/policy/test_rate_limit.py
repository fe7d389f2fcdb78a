"""Rate limits: all or nothing, never more than burst and refill, and a wait that is right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meted.domain.units import Micros
from meted.policy.rate_limit import (
    Limited,
    Limits,
    RateLimiter,
    RateState,
    RateStates,
    duration,
    rate_headers,
)

SECOND = 1_000_000
MINUTE = 60 * SECOND


def limiter(
    *, requests: int | None = None, tokens: int | None = None, concurrent: int | None = None
) -> RateLimiter:
    limits = Limits(requests_per_minute=requests, tokens_per_minute=tokens, concurrent=concurrent)
    return RateLimiter(limits, Micros(0))


def take(limiter: RateLimiter, at: int, tokens: int = 0) -> Limited | None:
    return limiter.take(Micros(at), tokens)


def test_without_limits_all_is_granted() -> None:
    free = limiter()
    assert [take(free, 0, 10**9) for _ in range(99)] == [None] * 99
    assert free.running == 99
    assert free.state(Micros(0)) == RateStates(requests=None, tokens=None)


def test_a_minutes_worth_may_come_at_once_and_then_one_by_one() -> None:
    three = limiter(requests=3)
    assert [take(three, 0) for _ in range(3)] == [None] * 3
    assert take(three, 0) == Limited(
        which="requests", limit=3, remaining=0, retry_after=Micros(20 * SECOND)
    )
    assert take(three, 20 * SECOND - 1) == Limited(
        which="requests", limit=3, remaining=0, retry_after=Micros(1)
    )
    assert take(three, 20 * SECOND) is None
    assert take(three, 20 * SECOND) is not None


def test_tokens_that_were_not_used_are_there_for_the_next() -> None:
    hundred = limiter(tokens=100)
    assert take(hundred, 0, 90) is None
    assert take(hundred, 0, 50) == Limited(
        which="tokens", limit=100, remaining=10, retry_after=Micros(24 * SECOND)
    )
    hundred.give_back(Micros(0), 40)
    assert take(hundred, 0, 50) is None


def test_a_request_above_the_whole_limit_is_told_that_waiting_does_not_help() -> None:
    limited = take(limiter(requests=1, tokens=100), 0, 101)
    assert limited == Limited(which="tokens", limit=100, remaining=100, retry_after=None)
    assert not limited.waiting_helps


def test_a_request_as_large_as_the_limit_waits_for_a_full_bucket() -> None:
    hundred = limiter(tokens=100)
    assert take(hundred, 0, 1) is None
    assert take(hundred, 0, 100) == Limited(
        which="tokens", limit=100, remaining=99, retry_after=Micros(600_000)
    )
    assert take(hundred, 600_000, 100) is None


def test_at_most_so_many_run_at_once() -> None:
    two = limiter(concurrent=2)
    assert take(two, 0) is None
    assert take(two, 0) is None
    limited = take(two, 0)
    assert limited is not None
    assert (limited.which, limited.limit, limited.remaining) == ("concurrent", 2, 0)
    assert limited.waiting_helps
    two.ended()
    assert take(two, 0) is None


@pytest.mark.parametrize(
    ("limits", "second", "which"),
    [
        (Limits(requests_per_minute=1, tokens_per_minute=100, concurrent=9), 1, "requests"),
        (Limits(requests_per_minute=9, tokens_per_minute=100, concurrent=9), 51, "tokens"),
        (Limits(requests_per_minute=9, tokens_per_minute=100, concurrent=1), 1, "concurrent"),
    ],
)
def test_a_refusal_takes_nothing_from_any_limit(limits: Limits, second: int, which: str) -> None:
    limiter = RateLimiter(limits, Micros(0))
    assert limiter.take(Micros(0), 50) is None
    before = limiter.state(Micros(0)), limiter.running
    limited = limiter.take(Micros(0), second)
    assert limited is not None
    assert limited.which == which
    assert (limiter.state(Micros(0)), limiter.running) == before


def test_of_several_limits_the_longest_wait_is_told() -> None:
    both = limiter(requests=60, tokens=60, concurrent=1)
    for at in range(60):
        assert take(both, 0, 1 if at else 0) is None
        both.ended()
    limited = take(both, 0, 31)
    assert limited is not None
    assert (limited.which, limited.retry_after) == ("tokens", 30 * SECOND)


def test_a_clock_that_steps_back_brings_and_takes_nothing() -> None:
    one = limiter(requests=1)
    one.state(Micros(MINUTE))
    assert one.state(Micros(0)) == one.state(Micros(MINUTE))
    assert take(one, MINUTE) is None
    assert take(one, 0) is not None
    assert take(one, 2 * MINUTE - 1) is not None
    assert take(one, 2 * MINUTE) is None


@pytest.mark.parametrize("name", ["requests_per_minute", "tokens_per_minute", "concurrent"])
def test_a_limit_below_one_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0, expected 1 or more"):
        Limits(**{name: 0})


def test_negative_tokens_and_an_end_without_a_start_are_refused() -> None:
    hundred = limiter(tokens=100)
    with pytest.raises(ValueError, match="asks for -1 tokens"):
        take(hundred, 0, -1)
    with pytest.raises(ValueError, match="gives back -1 tokens"):
        hundred.give_back(Micros(0), -1)
    with pytest.raises(ValueError, match="no request of this key is running"):
        hundred.ended()


LIMIT = st.integers(min_value=1, max_value=1_000)
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "give_back"]),
        st.one_of(st.integers(0, 1_000), st.integers(0, 2 * MINUTE)),
        st.integers(min_value=0, max_value=400),
    ),
    max_size=40,
)


@given(limit=LIMIT, requests=LIMIT, operations=OPERATIONS)
def test_no_window_grants_more_than_burst_and_refill(
    limit: int, requests: int, operations: list[tuple[str, int, int]]
) -> None:
    both = limiter(requests=requests, tokens=limit)
    now = 0
    granted: list[tuple[int, int, int]] = []
    for kind, later, tokens in operations:
        now += later
        if kind == "take":
            if take(both, now, tokens) is None:
                granted.append((now, 1, tokens))
        else:
            both.give_back(Micros(now), tokens)
            granted.append((now, 0, -tokens))
    for first in range(len(granted)):
        count = used = 0
        for at, one, tokens in granted[first:]:
            count, used = count + one, used + tokens
            window = at - granted[first][0]
            assert count * MINUTE <= requests * (MINUTE + window)
            assert used * MINUTE <= limit * (MINUTE + window)


@given(limit=LIMIT, operations=OPERATIONS)
def test_what_is_left_lies_between_nothing_and_the_limit(
    limit: int, operations: list[tuple[str, int, int]]
) -> None:
    tokens_only = limiter(tokens=limit)
    now = 0
    for kind, later, tokens in operations:
        now += later
        if kind == "take":
            take(tokens_only, now, tokens)
        else:
            tokens_only.give_back(Micros(now), tokens)
        state = tokens_only.state(Micros(now)).tokens
        assert state is not None
        assert 0 <= state.remaining <= limit
        assert 0 <= state.reset <= MINUTE
        assert (state.reset == 0) == (state.remaining == limit)


@given(limit=LIMIT, operations=OPERATIONS)
def test_after_the_wait_it_is_granted_and_a_microsecond_before_it_is_not(
    limit: int, operations: list[tuple[str, int, int]]
) -> None:
    both = limiter(requests=limit, tokens=limit)
    now = 0
    for _, later, tokens in operations:
        now += later
        limited = take(both, now, tokens)
        if limited is not None and limited.retry_after is not None:
            now += limited.retry_after
            assert take(both, now - 1, tokens) is not None
            assert take(both, now, tokens) is None
            states = both.state(Micros(now))
            assert states.requests is not None
            assert states.tokens is not None
            assert min(states.requests.remaining, states.tokens.remaining) >= 0


@given(limit=LIMIT, steps=st.lists(st.integers(min_value=1, max_value=SECOND), max_size=60))
def test_looking_often_neither_loses_nor_wins_tokens(limit: int, steps: list[int]) -> None:
    often, once = limiter(tokens=limit), limiter(tokens=limit)
    for one in (often, once):
        assert take(one, 0, limit) is None
    now = 0
    for step in steps:
        now += step
        often.state(Micros(now))
    assert often.state(Micros(now)) == once.state(Micros(now))


def test_headers_are_those_that_openais_clients_read() -> None:
    both = limiter(requests=60, tokens=150_000)
    assert take(both, 0, 984) is None
    assert rate_headers(both.state(Micros(0))) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "150000",
        "x-ratelimit-remaining-tokens": "149016",
        "x-ratelimit-reset-tokens": "394ms",
    }
    requests = RateStates(
        requests=RateState(limit=1, remaining=0, reset=Micros(MINUTE)), tokens=None
    )
    assert rate_headers(requests) == {
        "x-ratelimit-limit-requests": "1",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1m0s",
    }


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (0, "0s"),
        (1, "1ms"),
        (120_000, "120ms"),
        (999_001, "1s"),
        (SECOND, "1s"),
        (1_500_000, "1.5s"),
        (8_640_000, "8.64s"),
        (10 * SECOND, "10s"),
        (59_999_001, "1m0s"),
        (6 * MINUTE, "6m0s"),
        (72_500_000, "1m12.5s"),
        (60 * MINUTE, "1h0m0s"),
        (61 * MINUTE + SECOND, "1h1m1s"),
    ],
)
def test_a_duration_reads_as_in_openais_headers(micros: int, text: str) -> None:
    assert duration(Micros(micros)) == text


def test_a_negative_duration_is_refused() -> None:
    with pytest.raises(ValueError, match="is -1 micros"):
        duration(Micros(-1))

"""Continuous batching: the grouped replay against one that goes step by step, and its laws."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meted.domain.algorithm import ServingAlgorithm
from meted.domain.catalogue import lookup_architecture, lookup_device_kind
from meted.domain.units import Micros
from meted.predict.batching import BLOCK_TOKENS, Arrival, Batcher, Served
from meted.predict.replay import (
    latencies,
    least_outstanding,
    quantile,
    replay,
    replay_fleet,
)
from meted.predict.replica import ReplicaModel
from meted.predict.roofline import Setup, predict_replica
from meted.predict.step_time import StepCost, StepWork

COST = StepCost(fixed=1_000.0, prefill=100.0, decode=50.0, context=1.0, attention=2.0)
"""Whole numbers, so that a sum of steps is the same however it is grouped."""


def replica(*, kv_tokens: int = 100_000, chunk: int = 64, batch: int = 8) -> ReplicaModel:
    return ReplicaModel(step=COST, kv_tokens=kv_tokens, chunk_tokens=chunk, max_batch=batch)


@dataclass
class Slow:
    """One request of the reference, all its state in plain sight."""

    arrival: Arrival
    computed: int = 0
    made: int = 0
    first: int = -1
    last: int = -1
    preempted: int = 0
    target: int = field(init=False)

    def __post_init__(self) -> None:
        self.target = self.arrival.prompt_tokens

    @property
    def decoding(self) -> bool:
        return self.computed >= self.target

    @property
    def blocks(self) -> int:
        return -(-max(self.computed, self.target) // BLOCK_TOKENS)


def step_by_step(model: ReplicaModel, arrivals: list[Arrival], *, ahead: bool) -> list[Slow]:
    """The same scheduler without any grouping: each step anew, each block counted."""
    capacity = model.kv_tokens // BLOCK_TOKENS
    requests = [Slow(one) for one in arrivals]
    waiting, batch = list(requests), list[Slow]()
    now = scheduled = 0
    unseen_blocks = unseen_ends = 0
    while waiting or batch:
        if not batch:
            now = scheduled = max(now, waiting[0].arrival.at)
            unseen_blocks = unseen_ends = 0
        if not ahead:
            unseen_blocks = unseen_ends = 0
        used = sum(one.blocks for one in batch) + unseen_blocks
        growing = [one for one in batch if one.decoding and one.computed % BLOCK_TOKENS == 0]
        gave_way = False
        while used + len(growing) > capacity and len(batch) > 1:
            victim = batch.pop()
            used -= victim.blocks
            growing = [one for one in growing if one is not victim]
            victim.preempted += 1
            victim.computed, victim.target = 0, victim.arrival.prompt_tokens + victim.made
            waiting.insert(0, victim)
            gave_way = True
        used += len(growing)
        decoders = [one for one in batch if one.decoding]
        room = model.chunk_tokens - len(decoders)
        chunk = pairs = 0
        context = sum(one.computed for one in decoders)
        complete: list[Slow] = []
        sight = scheduled if ahead else now
        for one in [one for one in batch if not one.decoding]:
            if room > 0:
                taken = min(room, one.target - one.computed)
                pairs += taken * one.computed + taken * taken // 2
                one.computed += taken
                chunk, room = chunk + taken, room - taken
                complete += [one] if one.computed == one.target else []
        while not gave_way and room > 0 and waiting and len(batch) < model.max_batch - unseen_ends:
            one = waiting[0]
            if one.arrival.at > sight or used + one.blocks > capacity:
                break
            used += one.blocks
            batch.append(waiting.pop(0))
            one.computed = min(one.arrival.cached_tokens, one.target - 1)
            taken = min(room, one.target - one.computed)
            pairs += taken * one.computed + taken * taken // 2
            one.computed += taken
            chunk, room = chunk + taken, room - taken
            complete += [one] if one.computed == one.target else []
        unseen_blocks = unseen_ends = 0
        scheduled = now
        now += max(
            1,
            round(
                model.step.micros(
                    StepWork(
                        prefill_tokens=chunk,
                        decode_tokens=len(decoders),
                        context_tokens=context,
                        attended=pairs,
                    )
                )
            ),
        )
        for one in decoders:
            one.computed += 1
            one.made += 1
        for one in complete:
            one.made += 1
            one.first = now if one.first < 0 else one.first
        for one in [*decoders, *complete]:
            if one.made >= one.arrival.output_tokens:
                one.last = now
                batch.remove(one)
                unseen_blocks += one.blocks
                unseen_ends += 1
    return requests


def some_arrivals(seed: int, *, count: int = 60, gap: float = 20_000) -> list[Arrival]:
    draw = np.random.default_rng(seed)
    moments = np.cumsum(draw.exponential(gap, count)).astype(int)
    return [
        Arrival(
            at=Micros(int(at)),
            prompt_tokens=int(draw.integers(1, 200)),
            output_tokens=int(draw.integers(1, 120)),
            cached_tokens=int(draw.integers(0, 20)),
        )
        for at in moments
    ]


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("kv_tokens", [1_000, 100_000])
@given(seed=st.integers(0, 10_000))
def test_grouped_steps_equal_single_steps(seed: int, kv_tokens: int, ahead: bool) -> None:
    arrivals = some_arrivals(seed, count=40)
    model = replica(kv_tokens=kv_tokens)
    fast = replay(model, arrivals, ahead=ahead)
    slow = step_by_step(model, arrivals, ahead=ahead)
    assert [(one.first_token, one.last_token, one.preempted) for one in fast] == [
        (one.first, one.last, one.preempted) for one in slow
    ]


def test_grouped_steps_of_a_roofline_take_what_single_ones_take() -> None:
    """Its step time is curved in the context, so a sum by Simpson's rule is not exact; a step's
    rounding to a microsecond is all that may differ."""
    setup = Setup(
        architecture=lookup_architecture("llama-3.1-8b"),
        kind=lookup_device_kind("rtx-4090"),
        algorithm=ServingAlgorithm(max_batch=32, chunk_tokens=512),
    )
    model = replace(predict_replica(setup), kv_tokens=20_000)
    arrivals = [replace(one, output_tokens=9 * one.output_tokens) for one in some_arrivals(12)]
    fast, slow = replay(model, arrivals), step_by_step(model, arrivals, ahead=False)
    for one, other in zip(fast, slow, strict=True):
        assert one.last_token == pytest.approx(other.last, rel=1e-4)
        assert one.preempted == other.preempted


def test_memory_that_runs_out_preempts_and_loses_no_token() -> None:
    arrivals = some_arrivals(3, gap=1_000)
    model = replica(kv_tokens=800)
    batcher = Batcher(replica=model)
    served = [Served(one) for one in arrivals]
    for one in served:
        batcher.add(one)
    ended = batcher.advance()
    assert len(ended) == len(arrivals)
    assert sum(one.preempted for one in served) > 0
    cached = sum(min(one.cached_tokens, one.prompt_tokens - 1) for one in arrivals)
    least = sum(one.prompt_tokens + one.output_tokens - 1 for one in arrivals) - cached
    assert batcher.computed_tokens > least
    assert batcher.running == batcher.queued == 0


def test_without_preemption_every_token_is_computed_once() -> None:
    arrivals = some_arrivals(4)
    batcher = Batcher(replica=replica())
    for one in arrivals:
        batcher.add(Served(one))
    batcher.advance()
    cached = sum(min(one.cached_tokens, one.prompt_tokens - 1) for one in arrivals)
    whole = sum(one.prompt_tokens + one.output_tokens - 1 for one in arrivals)
    assert batcher.computed_tokens == whole - cached


@given(seed=st.integers(0, 1_000))
def test_requests_in_the_system_are_their_sojourns(seed: int) -> None:
    """Little's law, exactly: the integral of the number in the system is the sum of the stays."""
    served = replay(replica(), some_arrivals(seed))
    changes = sorted(
        [(one.arrival.at, 1) for one in served] + [(one.last_token, -1) for one in served]
    )
    inside, area, before = 0, 0, 0
    for moment, change in changes:
        area += inside * (moment - before)
        inside, before = inside + change, moment
    assert inside == 0
    assert area == sum(one.last_token - one.arrival.at for one in served)


def test_advance_in_pieces_changes_nothing() -> None:
    arrivals = some_arrivals(5)
    whole = replay(replica(), arrivals)
    batcher = Batcher(replica=replica())
    served = [Served(one) for one in arrivals]
    for one in served:
        batcher.advance(one.arrival.at)
        batcher.add(one)
    batcher.advance()
    for one, other in zip(served, whole, strict=True):
        assert one.last_token == pytest.approx(other.last_token, abs=0)


def test_a_replica_works_while_there_is_work() -> None:
    arrivals = some_arrivals(6, gap=100.0)
    batcher = Batcher(replica=replica())
    for one in arrivals:
        batcher.add(Served(one))
    batcher.advance()
    assert batcher.busy_micros == batcher.now - arrivals[0].at


def test_what_never_fits_is_refused_with_its_numbers() -> None:
    with pytest.raises(ValueError, match=r"900 prompt and 200 output tokens.*1008 at most"):
        replay(replica(kv_tokens=1_010), [Arrival(Micros(0), 900, 200)])


def test_two_replicas_share_what_one_would_queue() -> None:
    arrivals = some_arrivals(7, gap=8_000.0)
    alone = latencies(replay_fleet([replica()], arrivals))
    shared = replay_fleet([replica(), replica()], arrivals, least_outstanding)
    assert {one.replica for one in shared} == {0, 1}
    assert quantile(latencies(shared).ttft, 0.9) < quantile(alone.ttft, 0.9)


def test_a_fleet_of_one_is_a_replica() -> None:
    arrivals = some_arrivals(8)
    one, other = replay(replica(), arrivals), replay_fleet([replica()], arrivals)
    for left, right in zip(one, other, strict=True):
        assert left.last_token == pytest.approx(right.last_token, abs=0)


def test_single_requests_meet_no_queue() -> None:
    """One at a time, one server, exponential gaps: M/D/1 waits (Pollaczek-Khinchine)."""
    draw = np.random.default_rng(11)
    service = COST.micros(
        StepWork(prefill_tokens=10, decode_tokens=0, context_tokens=0, attended=50)
    )
    load = 0.7
    moments = np.cumsum(draw.exponential(service / load, 40_000)).astype(int)
    model = replica(batch=1, chunk=10)
    served = replay(model, [Arrival(Micros(int(at)), 10, 1) for at in moments])
    waits = latencies(served).ttft - round(service)
    expected = load * service / (2 * (1 - load))
    batches = waits.reshape(40, -1).mean(axis=1)
    error = 3 * batches.std() / np.sqrt(len(batches))
    assert abs(waits.mean() - expected) < error
    assert error < 0.2 * expected

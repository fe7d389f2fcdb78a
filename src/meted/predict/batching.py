"""A replica that batches continuously, as its scheduler works: the heart of every replay."""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import NamedTuple

from meted.domain.units import Micros
from meted.predict.replica import ReplicaModel
from meted.predict.step_time import StepWork

BLOCK_TOKENS = 16
"""Tokens of one block of a paged KV cache (Kwon et al. 2023)."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request that comes: when, and its lengths. cached_tokens: of the prompt, found in the
    prefix cache besides the replica's own `prefix_hit` share."""

    at: Micros
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int = 0


@dataclass(slots=True)
class Served:
    """What became of one request; moments on the replay's clock, -1 while they are to come.

    started: it was let into the batch for the first time. preempted: times it had to give its
    memory up and be computed anew.
    """

    arrival: Arrival
    replica: int = 0
    started: int = -1
    first_token: int = -1
    last_token: int = -1
    preempted: int = 0


class Steps(NamedTuple):
    """Steps that followed one another with the same requests in the batch.

    first: their first one's number among all of the replica. micros: of all together; last: of the
    last. prefill, attended: prompt tokens and pairs of the only step that has any. decode: requests
    that decode, which read `context` tokens in the first step, and one more each in each later
    step. prompts: those that it completes, with a first token each.
    """

    began: int
    first: int
    steps: int
    micros: int
    last: int
    prefill: int
    decode: int
    context: int
    attended: int = 0
    prompts: int = 0

    def ended_by(self, at: int) -> int:
        """How many of them have ended at a moment: their time grows evenly with the context."""
        spent = at - self.began
        if spent >= self.micros or spent <= 0:
            return self.steps if spent > 0 else 0
        first, growth = self._pace()
        middle = first - growth / 2
        root = math.sqrt(max(0.0, middle * middle + 2 * growth * spent))
        return min(self.steps, math.floor(2 * spent / (middle + root) + 1e-6))

    def middle(self, begin: int, end: int) -> tuple[StepWork, float]:
        """What the middle one of steps `begin` to `end` computed, counted from the first of these,
        and its micros."""
        at = begin + (end - begin - 1) // 2
        first, growth = self._pace()
        work = StepWork(
            prefill_tokens=self.prefill,
            decode_tokens=self.decode,
            context_tokens=self.context + at * self.decode,
            attended=self.attended,
        )
        return work, first + at * growth

    def _pace(self) -> tuple[float, float]:
        """Micros of the first step, and by how many each takes longer than the one before."""
        if self.steps == 1:
            return float(self.micros), 0.0
        first = 2 * self.micros / self.steps - self.last
        return first, (self.last - first) / (self.steps - 1)


@dataclass(slots=True)
class _Running:
    """A request in the batch. computed: tokens in its cache; target: tokens to be computed before
    it decodes. made: tokens it has generated when its decoding began, at step `since`."""

    served: Served
    computed: int
    target: int
    made: int
    since: int = -1
    blocks: int = 0

    def compute(self, room: int) -> tuple[int, int]:
        """Compute up to `room` more tokens: how many, and the pairs that they attend to."""
        taken = min(room, self.target - self.computed)
        pairs = taken * self.computed + taken * taken // 2
        self.computed += taken
        return taken, pairs


@dataclass(slots=True)
class Batcher:
    """Continuous batching with chunked prefill (Yu et al. 2022; Agrawal et al. 2024), as vLLM's V1
    scheduler does it: running requests first, one token each; then prompts, first come first
    served, until the chunk or the memory is full; the last to come gives way when memory runs out
    and is computed anew.

    The time of steps in which nothing but decoding happens is summed at once by Simpson's rule.
    `ahead` schedules each step while the one before it runs, as engines with asynchronous
    scheduling do: what comes or ends during a step is seen one step later. log: where it notes its
    steps; whoever gives one empties it.
    """

    replica: ReplicaModel
    ahead: bool = False
    log: list[Steps] | None = None
    now: int = 0
    steps: int = 0
    busy_micros: int = 0
    computed_tokens: int = 0
    _waiting: deque[_Running] = field(default_factory=deque[_Running])
    _batch: dict[int, _Running] = field(default_factory=dict[int, _Running])
    _prompts: dict[int, _Running] = field(default_factory=dict[int, _Running])
    _ends: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    _phases: list[int] = field(default_factory=lambda: [0] * BLOCK_TOKENS)
    _free: int = 0
    _freeing: int = 0
    _ending: int = 0
    _context: int = 0
    _decoding: int = 0
    _next: int = 0
    _scheduled_at: int = 0
    _planned: tuple[int, int, int, float, float] = (-1, -1, -1, 0.0, 0.0)

    def __post_init__(self) -> None:
        self._free = max(1, self.replica.kv_tokens // BLOCK_TOKENS)

    @property
    def queued(self) -> int:
        """Requests that wait to be let in."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Requests in the batch."""
        return len(self._batch)

    @property
    def kv_used(self) -> float:
        """Share of the KV cache's blocks that are taken."""
        whole = max(1, self.replica.kv_tokens // BLOCK_TOKENS)
        return 1.0 - (self._free + self._freeing) / whole

    @property
    def idle(self) -> bool:
        return not self._batch and not self._waiting

    def add(self, served: Served) -> None:
        """A request comes; requests come in the order of their arrival.

        Raises ValueError if it could never be served: its tokens do not fit in the cache.
        """
        arrival = served.arrival
        whole = arrival.prompt_tokens + arrival.output_tokens
        most = max(1, self.replica.kv_tokens // BLOCK_TOKENS) * BLOCK_TOKENS
        if whole > most or arrival.prompt_tokens < 1 or arrival.output_tokens < 1:
            raise ValueError(
                f"a request has {arrival.prompt_tokens} prompt and {arrival.output_tokens} output "
                f"tokens, expected 1 or more each and {most} at most together, what the replica's "
                "KV cache holds; shorten it or give the replica more memory"
            )
        self._waiting.append(
            _Running(served=served, computed=0, target=arrival.prompt_tokens, made=0)
        )

    def advance(self, until: int | None = None) -> list[Served]:
        """Run the steps that begin before `until`, all there are if None; who ended in them."""
        ended: list[Served] = []
        while not self.idle and (until is None or self.now < until):
            if not self._batch:
                self._begin()
                if until is not None and self.now >= until:
                    break
            self._step(until, ended)
        return ended

    def step(self) -> list[Served]:
        """Run one step, or all decoding up to the next end; who ended in it. Nothing if idle."""
        ended: list[Served] = []
        if not self._batch and self._waiting:
            self._begin()
        if not self.idle:
            self._step(None, ended)
        return ended

    def steady_until(self) -> int | None:
        """The moment up to which nothing but decoding happens if no request comes: its next end.
        None if its next step may also compute a prompt, or has to make room."""
        if self._prompts or self._waiting or not self._batch or self.ahead:
            return None
        most = self._until_end()
        if self._growing(most) > self._free + self._freeing:
            return None
        self._planned = (self.steps, self.now, most, *self._decode_all(most))
        return self.now + max(1, round(self._planned[3]))

    def under_way(self) -> Steps | None:
        """The steps from `now` to its next end if they only decode; nothing has run them yet."""
        if self._prompts or self._waiting or not self._batch:
            return None
        most = self._until_end()
        planned = self._planned
        if planned[:3] == (self.steps, self.now, most):
            spent, last = planned[3:]
        else:
            spent, last = self._decode_all(most)
        took, last = max(1, round(spent)), max(1, round(last))
        return Steps(self.now, self.steps, most, took, last, 0, self._decoding, self._context)

    def progress(self) -> Iterator[tuple[Served, int, int]]:
        """Each request in the batch, its computed prompt tokens and those it has generated."""
        for one in self._batch.values():
            made = one.made + (self.steps - one.since if one.since >= 0 else 0)
            yield one.served, min(one.computed, one.served.arrival.prompt_tokens), made

    def _begin(self) -> None:
        """An idle replica sees the next request when it comes."""
        self.now = max(self.now, self._waiting[0].served.arrival.at)
        self._scheduled_at = self.now
        self._release()

    def _release(self) -> None:
        """The ends of the last steps are seen: their memory and places are free."""
        self._free += self._freeing
        self._freeing = self._ending = 0

    def _step(self, until: int | None, ended: list[Served]) -> None:
        changed = False
        if not self.ahead:
            self._release()
        chunk, pairs, first_tokens = self._schedule()
        if self.ahead:
            changed = self._ending > 0
            self._release()
        started = self.now
        if chunk:
            work = StepWork(
                prefill_tokens=chunk,
                decode_tokens=self._decoding,
                context_tokens=self._context,
                attended=pairs,
            )
            self.now += max(1, round(self.replica.step.micros(work)))
            count, last_step = 1, self.now - started
            self.computed_tokens += chunk
        else:
            count, last_step = self._decode(until, changed=changed)
        self.computed_tokens += self._decoding * count
        self.busy_micros += self.now - started
        self._scheduled_at = self.now - last_step
        if self.log is not None:
            took, decode, prompts = self.now - started, self._decoding, len(first_tokens)
            what = (chunk, decode, self._context, pairs, prompts)
            self.log.append(Steps(started, self.steps, count, took, last_step, *what))
        self._advance_decoders(count, ended)
        for one in first_tokens:
            self._first_token(one, ended)

    def _schedule(self) -> tuple[int, int, list[_Running]]:
        """The step's prompt tokens, the pairs they attend to, and whose prompts it completes."""
        seen_at = self._scheduled_at if self.ahead else self.now
        gave_way = self._make_room()
        if not self._prompts and not self._waiting:
            return 0, 0, []
        room = self.replica.chunk_tokens - self._decoding
        chunk = pairs = 0
        complete: list[_Running] = []
        for one in list(self._prompts.values()):
            if room <= 0:
                break
            taken, attended = one.compute(room)
            chunk, room, pairs = chunk + taken, room - taken, pairs + attended
            if one.computed == one.target:
                complete.append(one)
        limit = 0 if gave_way else self.replica.max_batch - self._ending
        while room > 0 and self._waiting and len(self._batch) < limit:
            one = self._waiting[0]
            if one.served.arrival.at > seen_at or not self._admit(one):
                break
            self._waiting.popleft()
            taken, attended = one.compute(room)
            chunk, room, pairs = chunk + taken, room - taken, pairs + attended
            if one.computed == one.target:
                complete.append(one)
        return chunk, pairs, complete

    def _admit(self, one: _Running) -> bool:
        blocks = -(-one.target // BLOCK_TOKENS)
        if blocks > self._free - self._growing(1):
            return False
        self._free -= blocks
        one.blocks = blocks
        arrival = one.served.arrival
        hit = int(self.replica.prefix_hit * arrival.prompt_tokens)
        one.computed = min(max(arrival.cached_tokens, hit), one.target - 1)
        if one.served.started < 0:
            one.served.started = self.now
        self._batch[self._next] = one
        self._prompts[self._next] = one
        self._next += 1
        return True

    def _make_room(self) -> bool:
        """Blocks for the token that each decoding request writes next; the last to come gives way
        where there are none. Whether one did: then nobody is let in, or it would come back at once.
        """
        gave_way = False
        while self._growing(1) > self._free and len(self._batch) > 1:
            number, one = self._batch.popitem()
            self._prompts.pop(number, None)
            self._free += one.blocks
            made = one.made
            if one.since >= 0:
                made += self.steps - one.since
                self._leave(one)
                self._free += self._grown(one)
            one.served.preempted += 1
            one.computed, one.since, one.blocks = 0, -1, 0
            one.made = made
            one.target = one.served.arrival.prompt_tokens + made
            self._waiting.appendleft(one)
            gave_way = True
        return gave_way

    def _growing(self, steps: int) -> int:
        """Blocks that the decoding requests need for their next `steps` tokens."""
        if steps == 1:
            return self._phases[self.steps % BLOCK_TOKENS]
        whole, rest = divmod(steps, BLOCK_TOKENS)
        at = self.steps % BLOCK_TOKENS
        part = sum(self._phases[at : at + rest])
        if at + rest > BLOCK_TOKENS:
            part += sum(self._phases[: at + rest - BLOCK_TOKENS])
        return whole * self._decoding + part

    def _grown(self, one: _Running) -> int:
        """Blocks that a decoding request has taken since its prompt was computed."""
        context = one.target + self.steps - one.since
        return -(-context // BLOCK_TOKENS) - one.blocks

    def _phase(self, one: _Running) -> int:
        """The step, modulo a block, in which a request needs its next block."""
        return (one.since - one.target) % BLOCK_TOKENS

    def _leave(self, one: _Running) -> None:
        self._decoding -= 1
        self._context -= one.target + self.steps - one.since
        self._phases[self._phase(one)] -= 1

    def _decode(self, until: int | None, *, changed: bool) -> tuple[int, int]:
        """Decode until something else can happen: how many steps, and how long the last took.

        changed: an end has been seen after this step was scheduled, so the next one may differ.
        """
        most = 1 if changed and self._waiting else self._until_end()
        if self._waiting and self._could_join():
            gap = self._waiting[0].served.arrival.at - self.now
            most = min(most, self._steps_in(gap, most)) if gap > 0 else 1
        if until is not None:
            most = min(most, self._steps_in(until - self.now, most))
        while most > 1 and self._growing(most) > self._free:
            most //= 2
        planned = self._planned
        if planned[:3] == (self.steps, self.now, most):
            spent, last = planned[3:]
        else:
            spent, last = self._decode_all(most)
        self.now += max(1, round(spent))
        return most, max(1, round(last))

    def _decode_all(self, steps: int) -> tuple[float, float]:
        """Time of so many steps that only decode, by Simpson's rule, and of the last of them."""
        first = self._decode_micros(0)
        if steps == 1:
            return first, first
        last = self._decode_micros(steps - 1)
        if steps == 2:
            return first + last, last
        middle = self._decode_micros((steps - 1) // 2)
        if steps % 2 == 0:
            middle = (middle + self._decode_micros(steps // 2)) / 2
        return steps * (first + 4 * middle + last) / 6, last

    def _until_end(self) -> int:
        while self._ends[0][1] not in self._batch or not self._is_current(*self._ends[0]):
            heappop(self._ends)
        return self._ends[0][0] - self.steps

    def _is_current(self, end: int, number: int) -> bool:
        one = self._batch[number]
        return one.since >= 0 and self._end(one) == end

    def _end(self, one: _Running) -> int:
        return one.since + one.served.arrival.output_tokens - one.made

    def _could_join(self) -> bool:
        """Whether the head of the queue will be let in as soon as it has come."""
        if len(self._batch) >= self.replica.max_batch:
            return False
        return -(-self._waiting[0].target // BLOCK_TOKENS) <= self._free

    def _steps_in(self, micros: int, most: int) -> int:
        """Steps that begin within `micros`, at least one; too few rather than too many."""
        planned = self._planned
        if planned[:3] == (self.steps, self.now, most):
            slowest = planned[4]
        else:
            slowest = self._decode_micros(most - 1)
        return max(1, min(most, math.floor(micros / slowest)))

    def _decode_micros(self, steps_later: int) -> float:
        return self.replica.step.micros(
            StepWork(
                prefill_tokens=0,
                decode_tokens=self._decoding,
                context_tokens=self._context + self._decoding * steps_later,
            )
        )

    def _advance_decoders(self, count: int, ended: list[Served]) -> None:
        self._free -= self._growing(count)
        self.steps += count
        self._context += self._decoding * count
        while self._ends and self._ends[0][0] <= self.steps:
            end, number = heappop(self._ends)
            if number not in self._batch or not self._is_current(end, number):
                continue
            one = self._batch.pop(number)
            self._leave(one)
            self._free_later(one.blocks + self._grown(one))
            one.served.last_token = self.now
            ended.append(one.served)

    def _first_token(self, one: _Running, ended: list[Served]) -> None:
        """A prompt is complete: its step also made a token."""
        number = next(key for key, value in self._prompts.items() if value is one)
        del self._prompts[number]
        arrival = one.served.arrival
        if one.served.first_token < 0:
            one.served.first_token = self.now
        one.made += 1
        if one.made >= arrival.output_tokens:
            del self._batch[number]
            self._free_later(one.blocks)
            one.served.last_token = self.now
            ended.append(one.served)
            return
        one.since = self.steps
        self._decoding += 1
        self._context += one.target
        self._phases[self._phase(one)] += 1
        heappush(self._ends, (self._end(one), number))

    def _free_later(self, blocks: int) -> None:
        """Memory and a place in the batch are free for the next schedule that sees the end."""
        self._freeing += blocks
        self._ending += 1

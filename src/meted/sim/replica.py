"""One simulated replica: its batch, its prefix cache, and whose work its busy time was."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from meted.domain.units import ReplicaId, TenantName
from meted.ledger.split import largest_remainder
from meted.predict.batching import BLOCK_TOKENS as BLOCK_OF_CACHE
from meted.predict.batching import Arrival, Batcher, Served, Steps
from meted.predict.replica import ReplicaModel
from meted.predict.step_time import StepWork
from meted.sim.prefix import BLOCK_TOKENS, PrefixCache
from meted.sim.scenario import SimRequest

Held = tuple[Served, SimRequest]


class Ended(NamedTuple):
    """A request that was answered to its end. prefill: prompt tokens that were computed for it."""

    at: int
    prefill: int
    output: int


class StepsSeen(NamedTuple):
    """Steps as an engine reports them, all told as the middle one of them. micros: of each.
    tokens: generated in all of them; a prompt's first costs nothing beside its prompt.
    """

    work: StepWork
    micros: float
    steps: int
    tokens: int


@dataclass(slots=True, eq=False)
class SimReplica:
    """A replica from its start to its end.

    number: its place among all replicas ever. inside: requests that it has and that have not ended,
    by identity. ending: those of them whose last token is computed already, in its order; it may
    lie ahead. place: its place among the replicas that take requests. version: makes older turns
    void.
    """

    id: ReplicaId
    number: int
    devices: tuple[int, ...]
    model: ReplicaModel
    ready: bool = False
    draining: bool = False
    gone: bool = False
    place: int = -1
    version: int = 0
    batcher: Batcher = field(init=False)
    inside: dict[int, Held] = field(default_factory=dict[int, Held])
    ending: deque[Served] = field(default_factory=deque[Served])
    _prefixes: PrefixCache = field(init=False)
    _log: list[Steps] = field(default_factory=list[Steps])
    _told: int = 0
    _answered: list[Ended] = field(default_factory=list[Ended])
    _split_busy: int = 0
    _ended: list[Held] = field(default_factory=list[Held])
    _billed: dict[int, float] = field(default_factory=dict[int, float])
    _token_micros: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        self.batcher = Batcher(replica=self.model, log=self._log)
        self._prefixes = PrefixCache(self.model.kv_tokens // BLOCK_TOKENS)

    def fits(self, request: SimRequest) -> bool:
        """Whether its cache could hold the request alone."""
        most = max(1, self.model.kv_tokens // BLOCK_OF_CACHE) * BLOCK_OF_CACHE
        return request.prompt_tokens + request.output_tokens <= most

    def add(self, served: Served, request: SimRequest, now: int) -> None:
        """A request comes to it at `now`, and joins the batch at its next step."""
        batcher = self.batcher
        self.ending.extend(batcher.advance(now))
        if batcher.idle and batcher.now < now:
            batcher.now = now
        served.replica = self.number
        if request.prefix:
            served.arrival = Arrival(
                at=request.at,
                prompt_tokens=request.prompt_tokens,
                output_tokens=request.output_tokens,
                cached_tokens=self._prefixes.hit_tokens(request.prefix),
            )
        batcher.add(served)
        self.inside[id(served)] = (served, request)

    def step(self) -> None:
        """Run its next step, or all decoding up to its next end."""
        self.ending.extend(self.batcher.step())

    def finish(self) -> int:
        """Run until it has nothing left; when that is."""
        self.ending.extend(self.batcher.advance())
        return self.batcher.now

    def settle(self, at: int, *, tenants: bool) -> None:
        """Requests that have ended by `at` are no longer inside."""
        ending = self.ending
        while ending and ending[0].last_token <= at:
            served = ending.popleft()
            held = self.inside.pop(id(served))
            self._answered.append(self._ended_one(served))
            if tenants:
                self._ended.append(held)

    def take_ended(self) -> list[Ended]:
        """Requests that have ended since the last call."""
        ended, self._answered = self._answered, []
        return ended

    def take_steps(self, at: int) -> Iterator[StepsSeen]:
        """The steps that have ended since the last call, up to a moment; it runs none."""
        log, whole = self._log, 0
        for one in log:
            if one.began + one.micros <= at:
                whole += 1
            elif one.began >= at:
                break
            yield from self._untold(one, at)
        del log[:whole]
        batcher = self.batcher
        if batcher.now < at and (more := batcher.under_way()) is not None:
            yield from self._untold(more, at)

    def _untold(self, one: Steps, at: int) -> Iterator[StepsSeen]:
        begin, end = max(0, self._told - one.first), one.ended_by(at)
        if begin < end:
            self._told = one.first + end
            tokens = (one.decode + one.prompts) * (end - begin)
            yield StepsSeen(*one.middle(begin, end), end - begin, tokens)

    def _ended_one(self, served: Served) -> Ended:
        arrival = served.arrival
        hit = int(self.model.prefix_hit * arrival.prompt_tokens)
        prefill = arrival.prompt_tokens - max(arrival.cached_tokens, hit)
        return Ended(served.last_token, prefill, arrival.output_tokens)

    def busy_until(self, at: int) -> int:
        """Time up to `at` in which it had work."""
        batcher = self.batcher
        if batcher.now > at:
            return batcher.busy_micros - (batcher.now - at)
        return batcher.busy_micros + (0 if batcher.idle else at - batcher.now)

    def take_busy(self, at: int) -> int:
        """Time since the last call in which it had work."""
        busy = self.busy_until(at)
        since, self._split_busy = busy - self._split_busy, busy
        return since

    def shares(self, busy: int, at: int, otherwise: TenantName) -> list[tuple[TenantName, int]]:
        """Busy time since the last call over tenants, by the predicted cost of the tokens that were
        computed for each since then; it adds up exactly."""
        self.ending.extend(self.batcher.advance(at))
        prompt, output = self._costs()
        work: dict[TenantName, float] = {}

        def bill(held: Held, computed: int, made: int) -> None:
            served, request = held
            total = prompt * max(0, computed - served.arrival.cached_tokens) + output * made
            key = id(served)
            more = max(0.0, total - self._billed.get(key, 0.0))
            self._billed[key] = max(total, self._billed.get(key, 0.0))
            tenant = request.tenant or otherwise
            work[tenant] = work.get(tenant, 0.0) + more

        for served, request in self._ended:
            bill((served, request), request.prompt_tokens, request.output_tokens)
            del self._billed[id(served)]
        self._ended.clear()
        for served in self.ending:
            arrival = served.arrival
            bill(self.inside[id(served)], arrival.prompt_tokens, arrival.output_tokens)
        for served, computed, made in self.batcher.progress():
            if (held := self.inside.get(id(served))) is not None:
                bill(held, computed, made)
        work = {tenant: more for tenant, more in work.items() if more > 0} or {otherwise: 1.0}
        parts = largest_remainder(busy, list(work.values()))
        return list(zip(work, parts, strict=True))

    def _costs(self) -> tuple[float, float]:
        """Micros of a prompt token in a full chunk, and of a generated one in a half full batch."""
        if self._token_micros is None:
            chunk, half = self.model.chunk_tokens, max(1, self.model.max_batch // 2)
            step = self.model.step
            self._token_micros = (
                step.micros(StepWork(prefill_tokens=chunk, decode_tokens=0, context_tokens=0))
                / chunk,
                step.micros(StepWork(prefill_tokens=0, decode_tokens=half, context_tokens=0))
                / half,
            )
        return self._token_micros

    def give_up(self) -> list[Held]:
        """It dies: its unended requests, as if they had never begun."""
        held = list(self.inside.values())
        self.inside.clear()
        self.ending.clear()
        for served, _ in held:
            served.started = served.first_token = served.last_token = -1
        self.gone, self.ready = True, False
        self.version += 1
        return held

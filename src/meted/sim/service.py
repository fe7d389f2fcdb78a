"""One deployment's requests: they come, wait, are routed, and end, between the world's events."""

from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush

from meted.policy.admission import admit
from meted.policy.routing import least_loaded
from meted.predict.batching import Arrival, Served
from meted.sim.replica import Held, SimReplica
from meted.sim.request_money import RequestMoney
from meted.sim.scenario import SimDeployment

ATTEMPTS = 2
"""How often a request is sent to a replica before it is given up, as in the house."""


class Service:
    """A replica's turn comes when its batch may change: at its next end, or after its next step.
    Between two turns nothing is computed, so the cost of a request does not grow with the fleet.
    """

    def __init__(self, sim: SimDeployment, money: RequestMoney | None = None) -> None:
        self.sim = sim
        self.money = money
        self.now = 0
        self.refused = 0
        self.unfunded = 0
        self.served: list[Served] = []
        self.tenants = len({request.tenant or sim.tenant for request in sim.requests}) > 1
        self._limit = sim.deployment.max_batch
        self._next = 0
        self._queue: deque[Held] = deque()
        self._open: list[SimReplica] = []
        self._loads: list[int] = []
        self._turns: list[tuple[int, int, int, SimReplica]] = []
        self._again: set[int] = set()
        self._draining: dict[str, SimReplica] = {}

    @property
    def came(self) -> int:
        """Requests that have come."""
        return self._next

    @property
    def queued(self) -> int:
        """Requests that wait for a replica."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Requests that a replica has."""
        leaving = sum(len(one.inside) for one in self._draining.values())
        return sum(self._loads) + leaving

    @property
    def next_moment(self) -> int | None:
        """When something is to be done; None if all requests have ended."""
        moments = [turn[0] for turn in self._turns if turn[2] == turn[3].version]
        if self._next < len(self.sim.requests):
            moments.append(self.sim.requests[self._next].at)
        if self._queue or any(one.inside for one in self._draining.values()):
            moments.append(self.now)
        return min(moments, default=None)

    @property
    def next_change(self) -> int | None:
        """When a request comes or a replica's batch may change, whichever is sooner; None: never,
        unless the world does something."""
        turns = self._turns
        while turns and turns[0][2] != turns[0][3].version:
            heappop(turns)
        moments = [turns[0][0]] if turns else []
        if self._next < len(self.sim.requests):
            moments.append(self.sim.requests[self._next].at)
        return min(moments, default=None)

    def advance(self, until: int) -> None:
        """Let all happen that happens before `until`."""
        requests, turns = self.sim.requests, self._turns
        while True:
            while turns and turns[0][2] != turns[0][3].version:
                heappop(turns)
            turn = turns[0][0] if turns else until
            if self._next < len(requests) and requests[self._next].at < min(turn, until):
                self.now = requests[self._next].at
                self._comes()
            elif turn < until:
                self.now = turn
                self._turn(heappop(turns)[3], turn)
            else:
                break
        self.now = until

    def open(self, replica: SimReplica, now: int) -> None:
        """A replica takes requests from now on."""
        replica.ready = True
        replica.batcher.now = now
        replica.place = len(self._open)
        self._open.append(replica)
        self._loads.append(0)
        self._dispatch(now)

    def close(self, replica: SimReplica, now: int) -> int:
        """A replica gets no new request; when it will have answered those it has."""
        self._forget(replica)
        replica.draining = True
        replica.version += 1
        self._draining[replica.id] = replica
        ends = max(now, replica.finish()) if replica.inside else now
        # What it has ends at its moments, not when the last of it does: its money is free then.
        self._plan(replica, now)
        return ends

    def drained(self, replica: SimReplica, at: int) -> None:
        """A replica has answered all it had."""
        self._end(replica, at)
        self._draining.pop(replica.id, None)

    def shut(self, replica: SimReplica) -> None:
        """A replica gets no new request."""
        self._forget(replica)

    def lose(self, replica: SimReplica, now: int) -> None:
        """A replica dies: its requests are sent to others once more, before all that wait."""
        self._end(replica, now)
        self._forget(replica)
        self._draining.pop(replica.id, None)
        for held in reversed(replica.give_up()):
            key = id(held[0])
            if key in self._again:
                self._again.discard(key)
                if self.money is not None:
                    self.money.release(held[0])
            else:
                self._again.add(key)
                self._queue.appendleft(held)
        self._dispatch(now)

    def _comes(self) -> None:
        request = self.sim.requests[self._next]
        self._next += 1
        if self.money is not None and self.money.hopeless(request, request.at):
            self.unfunded += 1
            return
        deployment = self.sim.deployment
        refusal = admit(
            queued=len(self._queue), limit=deployment.max_queue, seconds_per_request=0.0
        )
        if refusal is not None:
            self.refused += 1
            return
        arrival = Arrival(request.at, request.prompt_tokens, request.output_tokens)
        served = Served(arrival)
        self.served.append(served)
        self._queue.append((served, request))
        self._dispatch(request.at)

    def _dispatch(self, now: int) -> None:
        """Requests that wait go to replicas with room, first come first served."""
        while self._queue and self._open:
            index = least_loaded(self._loads, limit=self._limit)
            if index is None:
                return
            served, request = self._queue.popleft()
            replica = self._open[index]
            if not replica.fits(request):
                self.refused += 1
                continue
            if self.money is not None and not self.money.reserve(served, request, now):
                self.unfunded += 1
                continue
            self._loads[index] += 1
            replica.add(served, request, now)
            self._plan(replica, now)

    def _turn(self, replica: SimReplica, at: int) -> None:
        if replica.batcher.now < at:
            replica.step()
        if replica.ending:
            self._end(replica, at)
            if self._queue:
                self._dispatch(at)
        self._plan(replica, at)

    def _end(self, replica: SimReplica, at: int) -> None:
        if self.money is not None:
            self._charge(replica, at, self.money)
        replica.settle(at, tenants=self.tenants)
        if replica.place >= 0:
            self._loads[replica.place] = len(replica.inside)

    @staticmethod
    def _charge(replica: SimReplica, at: int, money: RequestMoney) -> None:
        for served in replica.ending:
            if served.last_token > at:
                return
            money.settle(served)

    def _plan(self, replica: SimReplica, now: int) -> None:
        """The replica's next turn."""
        batcher = replica.batcher
        replica.version += 1
        if batcher.now <= now:
            if batcher.idle and not replica.ending:
                return
            steady = batcher.steady_until() if not replica.ending else None
            if steady is None:
                replica.step()
                steady = batcher.now
        else:
            steady = batcher.now
        if replica.ending:
            steady = min(steady, replica.ending[0].last_token)
        heappush(self._turns, (steady, replica.number, replica.version, replica))

    def _forget(self, replica: SimReplica) -> None:
        if replica.place < 0:
            return
        del self._open[replica.place], self._loads[replica.place]
        replica.place = -1
        for place, one in enumerate(self._open):
            one.place = place


def advance_in_order(services: Sequence[Service], until: int) -> None:
    """Let all that happens before `until` happen in the order of its moments over all services,
    which share money: what one frees later must not pay for another before."""
    while True:
        moments = [one.next_change for one in services]
        at = min((one for one in moments if one is not None), default=until)
        if at >= until:
            break
        for one, moment in zip(services, moments, strict=True):
            if moment == at:
                one.advance(at + 1)
    for one in services:
        one.advance(until)

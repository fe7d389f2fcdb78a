"""The pool in the middle of a decision: who keeps what, what is free, what jobs must give back."""

from collections import Counter
from collections.abc import Iterable

from meted.domain.allocation import JobDemand, ReplicaOption, Snapshot
from meted.domain.units import JobName
from meted.policy.sharing.line import Line
from meted.policy.sharing.offers import Offers
from meted.policy.sharing.reclaim import Lent, Way
from meted.policy.sharing.rooms import Node, Rooms


class Ground:
    """Devices of one decision: replicas take theirs first, from jobs too where none is free.

    lent: what jobs have. lent_devices: how many that are, by kind. stopped, shrunk: jobs that gave
    all or some back, each time anew.
    """

    def __init__(self, snapshot: Snapshot, line: Line) -> None:
        self._rooms = Rooms(snapshot)
        self._offers = Offers(self._rooms, line)
        self.lent: dict[JobName, Lent] = {}
        self.lent_devices: Counter[str] = Counter()
        self.stopped: list[JobName] = []
        self.shrunk: list[JobName] = []

    @property
    def unused(self) -> dict[str, int]:
        """Devices that nobody has, by kind."""
        return self._rooms.unused

    def free(self, kind: str) -> int:
        """Devices of a kind that nobody has."""
        return self._rooms.unused.get(kind, 0)

    def rest(self) -> tuple[int, ...]:
        """All devices that nobody has."""
        return self._rooms.rest()

    def has(self, devices: Iterable[int]) -> bool:
        """Whether all of these are free."""
        return self._rooms.has(devices)

    def kind(self, devices: tuple[int, ...]) -> str:
        return self._rooms.node[devices[0]][0]

    def take(self, devices: Iterable[int]) -> None:
        self._offers.changed(self._rooms.take(devices))

    def lend(self, job: JobDemand, devices: tuple[int, ...]) -> None:
        """A job stays where it is."""
        self.take(devices)
        self._note(job, devices)

    def lend_new(self, job: JobDemand, kind: str, count: int) -> None:
        """A job starts on devices of which enough are free."""
        self._note(job, self.spread(kind, count))

    def widen(self, job: JobDemand, count: int) -> None:
        """A job gets more devices of its kind, of which enough are free."""
        one = self.lent[job.job]
        more = self.spread(one.kind, count - len(one.devices))
        self._note(job, tuple(sorted((*one.devices, *more))))

    def get(self, option: ReplicaOption) -> tuple[int, ...] | None:
        """A place for a replica on one node: a free one, or else the cheapest that jobs return."""
        node = self._rooms.fullest(option.kind, option.devices)
        if node is None:
            offer = self._offers.cheapest(option.kind, option.devices)
            if offer is None:
                return None
            node, ways = offer
            for way in ways:
                self._give_back(way)
        return self._cut(node, option.devices)

    def spread(self, kind: str, count: int) -> tuple[int, ...]:
        """Devices for a job, of which enough are free: on the fullest node that fits, else on as
        few nodes as can be."""
        taken: list[int] = []
        while (left := count - len(taken)) > 0:
            node = self._rooms.fullest(kind, left) if not taken else None
            node = node or self._rooms.emptiest(kind)
            if node is None:
                break
            taken += self._cut(node, left)
        return tuple(sorted(taken))

    def _cut(self, node: Node, count: int) -> tuple[int, ...]:
        place = self._rooms.lowest(node, count)
        self.take(place)
        return place

    def _give_back(self, way: Way) -> None:
        lent = way.lent
        self._offers.changed(self._rooms.give(one for one in lent.devices if one not in way.keeps))
        if way.keeps:
            self._note(lent.job, way.keeps)
            self.shrunk.append(lent.job.job)
        else:
            del self.lent[lent.job.job]
            self.lent_devices[lent.kind] -= len(lent.devices)
            self._offers.move(lent.job.job, lent, None)
            self.stopped.append(lent.job.job)

    def _note(self, job: JobDemand, devices: tuple[int, ...]) -> None:
        on: dict[Node, tuple[int, ...]] = {}
        for one in devices:
            node = self._rooms.node[one]
            on[node] = (*on.get(node, ()), one)
        before = self.lent.get(job.job)
        kind = self.kind(devices)
        after = self.lent[job.job] = Lent(job=job, kind=kind, devices=devices, on=on)
        self.lent_devices[kind] += len(devices) - (0 if before is None else len(before.devices))
        self._offers.move(job.job, before, after)

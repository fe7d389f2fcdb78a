"""The pool in the middle of a decision: who keeps what, what is free, what jobs must give back."""

from collections.abc import Iterable

from meted.domain.allocation import JobDemand, ReplicaOption, Snapshot
from meted.domain.units import JobName
from meted.policy.sharing.line import Line
from meted.policy.sharing.reclaim import Cost, Lent, Node, Way, cheapest


class Ground:
    """Devices of one decision: replicas take theirs first, from jobs too where none is free."""

    def __init__(self, snapshot: Snapshot, line: Line) -> None:
        self._line = line
        self._node: dict[int, Node] = {}
        self._free: dict[Node, set[int]] = {}
        self.unused = dict.fromkeys((device.kind for device in snapshot.pool.devices), 0)
        """Devices that nobody has, by kind."""
        for device in snapshot.pool.devices:
            if device.index not in snapshot.unavailable:
                node = (device.kind, device.node)
                self._node[device.index] = node
                self._free.setdefault(node, set()).add(device.index)
                self.unused[device.kind] += 1
        self.lent: dict[JobName, Lent] = {}
        self.stopped: list[JobName] = []
        self.shrunk: list[JobName] = []

    def has(self, devices: Iterable[int]) -> bool:
        """Whether all of these are free."""
        return all(one in self._node and one in self._free[self._node[one]] for one in devices)

    def kind(self, devices: tuple[int, ...]) -> str:
        return self._node[devices[0]][0]

    def take(self, devices: Iterable[int]) -> None:
        for one in devices:
            node = self._node[one]
            self._free[node].remove(one)
            self.unused[node[0]] -= 1

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
        nodes = [node for node in self._free if node[0] == option.kind]
        fitting = [node for node in nodes if len(self._free[node]) >= option.devices]
        if fitting:
            return self._cut(
                min(fitting, key=lambda node: (len(self._free[node]), node)), option.devices
            )
        found: list[tuple[Cost, Node, tuple[Way, ...]]] = []
        jobs: dict[Node, list[Lent]] = {}
        for one in self.lent.values():
            for node in one.on:
                jobs.setdefault(node, []).append(one)
        for node in nodes:
            result = cheapest(
                jobs.get(node, ()), node, option.devices - len(self._free[node]), self._line
            )
            if result is not None:
                found.append((result[0], node, result[1]))
        if not found:
            return None
        _, node, ways = min(found, key=lambda one: (one[0], one[1]))
        for way in ways:
            self._give_back(way)
        return self._cut(node, option.devices)

    def free(self, kind: str) -> int:
        """Devices of a kind that nobody has."""
        return self.unused.get(kind, 0)

    def rest(self) -> tuple[int, ...]:
        """All devices that nobody has."""
        return tuple(sorted(one for devices in self._free.values() for one in devices))

    def spread(self, kind: str, count: int) -> tuple[int, ...]:
        """Devices for a job, of which enough are free: on the fullest node that fits, else on as
        few nodes as can be."""
        nodes = [node for node in self._free if node[0] == kind and self._free[node]]
        fitting = [node for node in nodes if len(self._free[node]) >= count]
        if fitting:
            return self._cut(min(fitting, key=lambda node: (len(self._free[node]), node)), count)
        taken: list[int] = []
        for node in sorted(nodes, key=lambda node: (-len(self._free[node]), node)):
            if len(taken) < count:
                taken += self._cut(node, min(count - len(taken), len(self._free[node])))
        return tuple(sorted(taken))

    def _cut(self, node: Node, count: int) -> tuple[int, ...]:
        place = tuple(sorted(self._free[node])[:count])
        self.take(place)
        return place

    def _give_back(self, way: Way) -> None:
        job = way.lent.job
        for one in way.lent.devices:
            if one not in way.keeps:
                node = self._node[one]
                self._free[node].add(one)
                self.unused[node[0]] += 1
        if way.keeps:
            self._note(job, way.keeps)
            self.shrunk.append(job.job)
        else:
            del self.lent[job.job]
            self.stopped.append(job.job)

    def _note(self, job: JobDemand, devices: tuple[int, ...]) -> None:
        on: dict[Node, tuple[int, ...]] = {}
        for one in devices:
            on[self._node[one]] = (*on.get(self._node[one], ()), one)
        self.lent[job.job] = Lent(job=job, kind=self.kind(devices), devices=devices, on=on)

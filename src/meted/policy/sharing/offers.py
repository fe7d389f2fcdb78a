"""What jobs would give back, node by node: the cheapest is on top, whatever has changed since."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush

from meted.domain.units import JobName
from meted.policy.sharing.line import Line
from meted.policy.sharing.reclaim import Cost, Lent, Way, cheapest
from meted.policy.sharing.rooms import Node, Rooms


@dataclass(slots=True)
class _Offers:
    """Places of one size on nodes of one kind. stale: nodes whose offer must be computed.

    heap: cost, node, number of the offer, what jobs do for it. valid: number by node; an offer of
    another number is out of date.
    """

    stale: set[Node]
    heap: list[tuple[Cost, Node, int, tuple[Way, ...]]] = field(
        default_factory=list[tuple[Cost, Node, int, tuple[Way, ...]]]
    )
    valid: dict[Node, int] = field(default_factory=dict[Node, int])


class Offers:
    """The jobs on every node, and the cheapest way to get a place from them."""

    def __init__(self, rooms: Rooms, line: Line) -> None:
        self._rooms, self._line = rooms, line
        self._jobs: dict[Node, dict[JobName, Lent]] = {}
        self._of: dict[tuple[str, int], _Offers] = {}
        self._number = 0

    def cheapest(self, kind: str, devices: int) -> tuple[Node, tuple[Way, ...]] | None:
        """The node where jobs lose least by leaving room for `devices` more than are free there."""
        if (offers := self._of.get((kind, devices))) is None:
            offers = self._of[kind, devices] = _Offers(stale=set(self._rooms.nodes(kind)))
        for node in offers.stale:
            here = tuple(self._jobs.get(node, {}).values())
            found = cheapest(here, node, devices - self._rooms.count(node), self._line)
            if found is not None:
                self._number += 1
                offers.valid[node] = self._number
                heappush(offers.heap, (found[0], node, self._number, found[1]))
        offers.stale.clear()
        while offers.heap:
            _, node, number, ways = offers.heap[0]
            if offers.valid.get(node) == number:
                return node, ways
            heappop(offers.heap)
        return None

    def changed(self, nodes: Iterable[Node]) -> None:
        """Other devices are free there than before."""
        for node in nodes:
            for (kind, _), offers in self._of.items():
                if kind == node[0]:
                    offers.stale.add(node)
                    offers.valid.pop(node, None)

    def move(self, job: JobName, before: Lent | None, after: Lent | None) -> None:
        """A job has these devices now instead of those."""
        gone = () if before is None else before.on
        new = () if after is None else after.on
        for node in gone:
            if node not in new:
                del self._jobs[node][job]
        if after is not None:
            for node in new:
                self._jobs.setdefault(node, {})[job] = after
        self.changed((*gone, *new))

"""Free devices by node: the fullest node that fits is found without a look at all others."""

from collections.abc import Iterable
from heapq import heapify, heappop, heappush

from meted.domain.allocation import Snapshot

Node = tuple[str, int]
"""A kind of device and a machine that has some of it."""


class Rooms:
    """The available devices of one decision, those that nobody has by node.

    node: of each device. unused: devices that nobody has, by kind.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.node: dict[int, Node] = {}
        self.unused = dict.fromkeys((device.kind for device in snapshot.pool.devices), 0)
        self._free: dict[Node, set[int]] = {}
        for device in snapshot.pool.devices:
            if device.index not in snapshot.unavailable:
                node = (device.kind, device.node)
                self.node[device.index] = node
                self._free.setdefault(node, set()).add(device.index)
                self.unused[device.kind] += 1
        self._most: dict[str, int] = {}
        self._of_room: dict[tuple[str, int], list[Node]] = {}
        # Heaps of nodes by how many devices they have free. A node stays in the heap of a room that
        # it has no longer until it comes to the top.
        for node, devices in self._free.items():
            self._most[node[0]] = max(self._most.get(node[0], 0), len(devices))
            self._of_room.setdefault((node[0], len(devices)), []).append(node)
        for nodes in self._of_room.values():
            heapify(nodes)

    def has(self, devices: Iterable[int]) -> bool:
        """Whether all of these are free."""
        return all(one in self.node and one in self._free[self.node[one]] for one in devices)

    def count(self, node: Node) -> int:
        """Devices of a node that nobody has."""
        return len(self._free[node])

    def nodes(self, kind: str) -> list[Node]:
        """All nodes with devices of a kind."""
        return [node for node in self._free if node[0] == kind]

    def rest(self) -> tuple[int, ...]:
        """All devices that nobody has."""
        return tuple(sorted(one for devices in self._free.values() for one in devices))

    def fullest(self, kind: str, count: int) -> Node | None:
        """The node with the least room that has `count` devices free, the first of equal ones."""
        rooms = range(count, self._most.get(kind, 0) + 1)
        return next((node for room in rooms if (node := self._first(kind, room))), None)

    def emptiest(self, kind: str) -> Node | None:
        """The node with the most devices free, the first of equal ones; None if all are full."""
        rooms = range(self._most.get(kind, 0), 0, -1)
        return next((node for room in rooms if (node := self._first(kind, room))), None)

    def lowest(self, node: Node, count: int) -> tuple[int, ...]:
        """Free devices of a node, ascending; at most `count`."""
        return tuple(sorted(self._free[node])[:count])

    def take(self, devices: Iterable[int]) -> set[Node]:
        """Free devices are somebody's now. Returns their nodes."""
        changed: set[Node] = set()
        for one in devices:
            node = self.node[one]
            self._free[node].remove(one)
            self.unused[node[0]] -= 1
            changed.add(node)
        self._sort_in(changed)
        return changed

    def give(self, devices: Iterable[int]) -> set[Node]:
        """Devices are free again. Returns their nodes."""
        changed: set[Node] = set()
        for one in devices:
            node = self.node[one]
            self._free[node].add(one)
            self.unused[node[0]] += 1
            changed.add(node)
        self._sort_in(changed)
        return changed

    def _sort_in(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            heappush(self._of_room.setdefault((node[0], len(self._free[node])), []), node)

    def _first(self, kind: str, room: int) -> Node | None:
        nodes = self._of_room.get((kind, room), [])
        while nodes and len(self._free[nodes[0]]) != room:
            heappop(nodes)
        return nodes[0] if nodes else None

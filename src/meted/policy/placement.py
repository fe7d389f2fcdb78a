"""Which devices: what is kept stays where it is, what is new lies on as few nodes as can be."""

from collections.abc import Iterable

from meted.domain.allocation import Snapshot


class Placer:
    """Hands out a snapshot's devices, each once; none that is unavailable."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._where: dict[int, tuple[str, int]] = {}
        self._nodes: dict[tuple[str, int], dict[int, None]] = {}
        self._free: dict[str, int] = {}
        for device in snapshot.pool.devices:
            if device.index in snapshot.unavailable:
                continue
            place = (device.kind, device.node)
            self._where[device.index] = place
            if (left := self._nodes.get(place)) is None:
                left = self._nodes[place] = {}
            left[device.index] = None
        self._taken: set[int] = set()
        self._by_room: dict[str, dict[int, dict[int, None]]] = {}
        """Nodes of a kind by how many of its devices they have left, in a fixed order."""
        for (kind, node), devices in self._nodes.items():
            self._by_room.setdefault(kind, {}).setdefault(len(devices), {})[node] = None
            self._free[kind] = self._free.get(kind, 0) + len(devices)

    def free(self, kind: str) -> int:
        """Devices of a kind that nobody has taken."""
        return self._free.get(kind, 0)

    def kind(self, devices: Iterable[int]) -> str | None:
        """The kind of a place; None if its devices differ, or one is unavailable or unknown."""
        kinds = {self._where[one][0] if one in self._where else None for one in devices}
        return kinds.pop() if len(kinds) == 1 else None

    def keep(self, devices: Iterable[int]) -> bool:
        """Take exactly these devices; False, and nothing taken, if one of them cannot be had."""
        wanted = tuple(devices)
        if not wanted or any(one in self._taken or one not in self._where for one in wanted):
            return False
        gone: dict[tuple[str, int], int] = {}
        for one in wanted:
            place = self._where[one]
            del self._nodes[place][one]
            # Nodes get their new place among those of equal room in the order of their last device.
            gone[place] = gone.pop(place, 0) + 1
        for (kind, node), count in gone.items():
            rooms, left = self._by_room[kind], len(self._nodes[kind, node])
            del rooms[left + count][node]
            rooms.setdefault(left, {})[node] = None
            self._free[kind] -= count
        self._taken.update(wanted)
        return True

    def take(self, kind: str, count: int, *, one_node: bool = False) -> tuple[int, ...] | None:
        """Take devices of a kind from as few nodes as can be, the fullest node that fits first.

        None, and nothing taken, if there are too few (on one node, if that is asked).
        """
        if count < 1 or self.free(kind) < count:
            return None
        rooms = self._by_room[kind]
        fitting = min((room for room, nodes in rooms.items() if nodes and room >= count), default=0)
        if not fitting and one_node:
            return None
        taken: list[int] = []
        while len(taken) < count:
            room = fitting or max(room for room, nodes in rooms.items() if nodes)
            node = next(iter(rooms[room]))
            some = list(self._nodes[kind, node])[: count - len(taken)]
            self.keep(some)
            taken += some
        return tuple(sorted(taken))

    def rest(self) -> tuple[int, ...]:
        """All devices that nobody has taken."""
        return tuple(sorted(one for one in self._where if one not in self._taken))

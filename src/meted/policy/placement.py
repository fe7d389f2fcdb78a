"""Which devices: what is kept stays where it is, what is new lies on as few nodes as can be."""

from collections.abc import Iterable

from meted.domain.allocation import Snapshot


class Placer:
    """Hands out a snapshot's devices, each once; none that is unavailable."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._nodes: dict[str, dict[int, list[int]]] = {}
        self._where: dict[int, tuple[str, int]] = {}
        self._free: dict[str, int] = {}
        self._taken: set[int] = set(snapshot.unavailable)
        for device in snapshot.pool.devices:
            if device.index in snapshot.unavailable:
                continue
            node = self._nodes.setdefault(device.kind, {}).setdefault(device.node, [])
            node.append(device.index)
            self._where[device.index] = (device.kind, device.node)
            self._free[device.kind] = self._free.get(device.kind, 0) + 1

    def free(self, kind: str) -> int:
        """Devices of a kind that nobody has taken."""
        return self._free.get(kind, 0)

    def kind(self, devices: tuple[int, ...]) -> str | None:
        """The kind of a place; None if a device of it is unavailable or unknown."""
        kinds = {self._where[one][0] if one in self._where else None for one in devices}
        return kinds.pop() if len(kinds) == 1 else None

    def keep(self, devices: Iterable[int]) -> bool:
        """Take exactly these devices; False, and nothing taken, if one of them cannot be had."""
        wanted = tuple(devices)
        if any(one in self._taken or one not in self._where for one in wanted):
            return False
        for one in wanted:
            kind, node = self._where[one]
            self._nodes[kind][node].remove(one)
            self._free[kind] -= 1
        self._taken.update(wanted)
        return bool(wanted)

    def take(self, kind: str, count: int, *, one_node: bool = False) -> tuple[int, ...] | None:
        """Take devices of a kind from as few nodes as can be, the fullest node that fits first.

        None, and nothing taken, if there are too few (on one node, if that is asked).
        """
        if count < 1 or self.free(kind) < count:
            return None
        nodes = self._nodes[kind]
        fitting = [node for node, free in nodes.items() if len(free) >= count]
        if fitting:
            chosen = [min(fitting, key=lambda node: (len(nodes[node]), node))]
        elif one_node:
            return None
        else:
            chosen = sorted(nodes, key=lambda node: (-len(nodes[node]), node))
        taken: list[int] = []
        for node in chosen:
            taken += nodes[node][: count - len(taken)]
        self.keep(taken)
        return tuple(sorted(taken))

    def rest(self) -> tuple[int, ...]:
        """All devices that nobody has taken."""
        return tuple(sorted(one for one in self._where if one not in self._taken))

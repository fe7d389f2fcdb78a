"""The cheapest way to get devices back from jobs, exactly, node by node."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from meted.domain.allocation import JobDemand
from meted.policy.sharing.line import Line
from meted.policy.sharing.rooms import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Lent:
    """A job and the devices it has, by the node they are on."""

    job: JobDemand
    kind: str
    devices: tuple[int, ...]
    on: Mapping[Node, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What happens to a job: its devices afterwards; () if it stops. cost: lexicographic."""

    lent: Lent
    keeps: tuple[int, ...]
    gives: int
    cost: tuple[int, float]


Cost = tuple[int, float]


def ways_to_give(lent: Lent, node: Node, line: Line) -> list[Way]:
    """Stop it, or let it go on with fewer devices, off this node first."""
    here = lent.on.get(node, ())
    found = [
        Way(
            lent=lent,
            keeps=(),
            gives=len(here),
            cost=(1, line.loss(lent.job, len(lent.devices))),
        )
    ]
    for option in lent.job.options:
        if option.kind == lent.kind and 0 < option.devices < len(lent.devices):
            order = sorted(lent.devices, key=lambda one: (one in here, one))
            keeps = tuple(sorted(order[: option.devices]))
            gives = sum(one not in keeps for one in here)
            if gives:
                cost = (0, line.loss(lent.job, option.devices))
                found.append(Way(lent=lent, keeps=keeps, gives=gives, cost=cost))
    return found


def cheapest(
    lent: Sequence[Lent], node: Node, need: int, line: Line
) -> tuple[Cost, tuple[Way, ...]] | None:
    """The ways that give `need` devices of a node back with the fewest jobs stopped, and of those
    the least device-time lost to restarts; None if all together do not.

    A knapsack that is filled at least: exact, in jobs x ways x need steps.
    """
    best: list[tuple[Cost, tuple[Way, ...]] | None] = [((0, 0.0), ()), *([None] * need)]
    for one in lent:
        if node not in one.on:
            continue
        ways = ways_to_give(one, node, line)
        after = list(best)
        for given, state in enumerate(best):
            if state is None:
                continue
            for way in ways:
                place = min(need, given + way.gives)
                cost = (state[0][0] + way.cost[0], state[0][1] + way.cost[1])
                known = after[place]
                if known is None or cost < known[0]:
                    after[place] = (cost, (*state[1], way))
        best = after
    return best[need]

"""The front of what nothing else beats in dollars, latency and loss at once."""

from collections.abc import Sequence
from dataclasses import dataclass

Values = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One configuration; of each number, less is better.

    dollars: per million tokens. latency: seconds of the quantile that the SLO names.
    loss: nats per token on held-out text, or its increase over the parent.
    """

    key: str
    dollars: float
    latency: float
    loss: float

    def __post_init__(self) -> None:
        if any(value != value for value in self.values):
            raise ValueError(f"{self.key!r} has {self.values}, expected numbers")

    @property
    def values(self) -> Values:
        return (self.dollars, self.latency, self.loss)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dominated:
    """A point, and the members of the front that are no worse in anything and better in one."""

    key: str
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """members: cheapest first, points that tie in all three numbers together."""

    members: tuple[str, ...]
    dominated: tuple[Dominated, ...]


def dominates(one: Point, other: Point) -> bool:
    """No worse in any number, and better in at least one."""
    return one.values != other.values and all(
        mine <= theirs for mine, theirs in zip(one.values, other.values, strict=True)
    )


def front(points: Sequence[Point]) -> Front:
    """Members and, for the others, who dominates them. Raises ValueError if a key comes twice."""
    if len({one.key for one in points}) != len(points):
        raise ValueError("a key comes twice among the points, expected each configuration once")
    members: list[Point] = []
    rest: list[Point] = []
    # In this order nothing is dominated by what comes after it.
    for point in sorted(points, key=lambda one: (one.values, one.key)):
        beaten = any(dominates(member, point) for member in members)
        (rest if beaten else members).append(point)
    return Front(
        members=tuple(one.key for one in members),
        dominated=tuple(
            Dominated(key=one.key, by=tuple(m.key for m in members if dominates(m, one)))
            for one in rest
        ),
    )

"""Versions that are appended and never edited: which of them holds at a moment.

`effective` is the moment from which a version holds, `recorded` the one at which it was written
down. The last one written about a moment wins, so that a past period is re-rated by appending.
"""

from bisect import bisect_right
from collections.abc import Hashable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from meted.domain.units import Micros


class Version(Hashable, Protocol):
    """What a book keeps: both moments are micros on the wall clock."""

    @property
    def effective(self) -> Micros: ...
    @property
    def recorded(self) -> Micros: ...


V = TypeVar("V", bound=Version)


class Timeline(Generic[V]):
    """The versions of one thing in the order in which they take effect."""

    __slots__ = ("_versions", "moments")

    def __init__(self, versions: Iterable[V]) -> None:
        """Versions in the order in which they were recorded; a later one replaces its equal."""
        winners: dict[Micros, V] = {}
        for version in versions:
            winners[version.effective] = version
        self.moments = sorted(winners)
        self._versions = [winners[moment] for moment in self.moments]

    def at(self, moment: Micros) -> V | None:
        """The version that holds at a moment; None before the first one takes effect."""
        index = bisect_right(self.moments, moment)
        return self._versions[index - 1] if index else None

    def between(self, after: Micros, until: Micros) -> list[Micros]:
        """Moments, after < moment <= until, at which a version takes effect."""
        first, last = bisect_right(self.moments, after), bisect_right(self.moments, until)
        return self.moments[first:last]


def check_appended(versions: Sequence[Version], *, book: str) -> None:
    """Raises ValueError if a version is there twice or was recorded before the one before it."""
    seen: set[Version] = set()
    recorded: Micros | None = None
    for version in versions:
        if recorded is not None and version.recorded < recorded:
            raise ValueError(
                f"{book} was last written at {recorded} but {version} says it was recorded at "
                f"{version.recorded}; record it at {recorded} or later, the book only grows"
            )
        if version in seen:
            raise ValueError(f"{book} holds {version} already; leave out the second one")
        seen.add(version)
        recorded = version.recorded

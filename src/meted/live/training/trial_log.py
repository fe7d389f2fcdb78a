"""What a search has learnt, line by line in its job's folder: written before it is relied upon."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from meted.domain.job import AutoTraining, TrainingSpec
from meted.domain.units import NanoUSD

LOG = "trials.jsonl"
NANOS_PER_HOUR = 3_600_000_000_000


class Begun(msgspec.Struct, frozen=True, kw_only=True, tag="begun"):
    """The search's frame. at: seconds since 1970. price: nano-USD per device-hour that trials are
    reckoned at. first, eta, rungs: the ladder; budget: of all trials, nano-USD at that price.
    before: held-out loss of the base. rows: of the held-out text that trials are judged by; level:
    how much higher the base's loss is on all of it than on these rows, which is added to what
    trials have on them. loading, look: device time of taking a trial up and of judging it by these
    rows. rate: what is known of the learning rate, as a sentence."""

    at: float
    price: int
    budget: int
    first: int
    eta: int
    rungs: int
    rows: int
    before: float
    level: float = 0.0
    loading: int = 0
    look: int = 0
    rate: str
    nanos: int
    auto: AutoTraining
    trials: dict[str, TrainingSpec]


class Rung(msgspec.Struct, frozen=True, kw_only=True, tag="rung"):
    """A trial at a rung. loss: on the level of all held-out text; None where it is no finite
    number. nanos: device time of its steps; cost: the same in nano-USD at the search's price.
    reached: what it had cost when the loss met the target, on a straight line from the look before;
    reached_step: of the look that found it. spent: device time of the whole search so far, all else
    included."""

    trial: str
    rung: int
    step: int
    tokens: int
    loss: float | None
    nanos: int
    cost: int
    spent: int
    reached: int | None = None
    reached_step: int | None = None
    failed: str | None = None


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag="ended"):
    """The search is over. best: the trial whose weights go on; why: nothing more was tried."""

    best: str
    why: str
    spent: int
    seconds: float


Line = Begun | Rung | Ended
_T = TypeVar("_T", Begun, Rung, Ended)

_decode = msgspec.json.Decoder(Line).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """All that a log says."""

    begun: Begun | None
    rungs: tuple[Rung, ...]
    ended: Ended | None

    @property
    def last(self) -> dict[str, Rung]:
        """Each trial where it was last."""
        return {one.trial: one for one in self.rungs}

    @property
    def spent(self) -> int:
        """Device time of the whole search, nanoseconds."""
        if self.ended is not None:
            return self.ended.spent
        if self.rungs:
            return self.rungs[-1].spent
        return self.begun.nanos if self.begun is not None else 0


class TrialLog:
    """Appends to a job's trial log and reads it; a line that a crash cut off counts for nothing."""

    def __init__(self, workdir: Path) -> None:
        self._path = workdir / LOG

    def read(self) -> Trail:
        return _trail(self._lines())

    def append(self, line: Line) -> None:
        """Durable when this returns."""
        whole = [msgspec.json.encode(one) for one in self._lines()]
        if self._path.exists() and self._path.stat().st_size != sum(len(one) + 1 for one in whole):
            self._path.write_bytes(b"".join(one + b"\n" for one in whole))
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(line) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> list[Line]:
        lines = list[Line]()
        if self._path.exists():
            for text in self._path.read_bytes().splitlines(keepends=True):
                if not text.endswith(b"\n"):
                    break
                lines.append(_decode(text))
        return lines


def read_trail(workdir: Path) -> Trail:
    """The trial log in a job's folder, for whoever only looks."""
    return TrialLog(workdir).read()


def _trail(lines: Sequence[Line]) -> Trail:
    def of(kind: type[_T]) -> list[_T]:
        return [one for one in lines if isinstance(one, kind)]

    begun, ended = of(Begun), of(Ended)
    return Trail(
        begun=begun[0] if begun else None,
        rungs=tuple(of(Rung)),
        ended=ended[-1] if ended else None,
    )


def dollars_of(nanos: int, price: int) -> NanoUSD:
    """Device time at the search's price."""
    return NanoUSD(nanos * price // NANOS_PER_HOUR)


def nanos_of(cost: int, price: int) -> int:
    """Device time that so many nano-USD pay for, rounded up."""
    return -(-cost * NANOS_PER_HOUR // price)


def spec_mapping(spec: TrainingSpec) -> dict[str, Any]:
    """A spec as the keys of a YAML file, what is default left out."""
    plain: dict[str, Any] = msgspec.to_builtins(spec)
    required = {"name", "base", "data"}
    usual: dict[str, Any] = msgspec.to_builtins(
        TrainingSpec(name=spec.name, base=spec.base, data=spec.data, tenant=spec.tenant)
    )
    kept = {key: one for key, one in plain.items() if key in required or one != usual[key]}
    kept.pop("key", None)
    if "base" in kept:
        kept = {"name": kept["name"], "model": kept.pop("base"), **kept}
    return kept

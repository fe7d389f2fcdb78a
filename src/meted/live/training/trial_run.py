"""One trial of a search: trained on from its checkpoint until it has used its device time."""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from meted.domain.job import Method, TrainingSpec
from meted.live.training.checkpoint import CheckpointFolder
from meted.live.training.data import Dataset
from meted.live.training.house import House, Link
from meted.live.training.loop import Loop, State
from meted.live.training.model import Trainee
from meted.live.training.trial_target import CONFIRMED, Seek, look_if_due, met
from meted.live.wire import Checkpointed, Evaluated, Frame, Paused, Planned, Trained

NEVER = 10_000_000


class Shifted:
    """The line to the house for one of several trainings: steps and tokens are counted on from
    what the others made, so that the job as a whole only goes forward. total: of all steps. level:
    added to held-out losses."""

    def __init__(
        self, link: Link, *, steps: int, tokens: int, total: int | None, level: float = 0.0
    ) -> None:
        self._level = level
        self._link = link
        self._steps = steps
        self._tokens = tokens
        self._total = total

    @property
    def closed(self) -> bool:
        return self._link.closed

    def receive(self, *, block: bool) -> list[Any]:
        return self._link.receive(block=block)

    def send(self, frames: Sequence[Frame]) -> None:
        self._link.send([self._shifted(one) for one in frames])

    def _shifted(self, frame: Frame) -> Frame:
        change = msgspec.structs.replace
        match frame:
            case Planned():
                total = frame.total_steps + self._steps if self._total is None else self._total
                return change(
                    frame,
                    total_steps=total,
                    first_step=frame.first_step + self._steps,
                    tokens=frame.tokens + self._tokens,
                )
            case Trained():
                return change(
                    frame, step=frame.step + self._steps, tokens=frame.tokens + self._tokens
                )
            case Evaluated():
                level = 0.0 if frame.when == CONFIRMED else self._level
                return change(frame, step=frame.step + self._steps, loss=frame.loss + level)
            case Checkpointed() | Paused():
                return change(frame, step=frame.step + self._steps)
            case _:
                return frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a trial is to stop. nanos: device time of its steps; seek: the target to be met, None:
    the least loss is wanted."""

    nanos: int
    seek: Seek | None
    late: Callable[[], bool]


class Runner:
    """Trains one trial at a time in this process; of networks it keeps the last one."""

    def __init__(
        self, *, folder: Path, dataset: Dataset, load: Callable[[TrainingSpec], Trainee]
    ) -> None:
        self._folder = folder
        self._dataset = dataset
        self._load = load
        self._kept: tuple[tuple[object, ...], Trainee, dict[str, Tensor], Tensor] | None = None

    def checkpoints(self, name: str) -> CheckpointFolder:
        return CheckpointFolder(self._folder / name, kept=1)

    def run(self, name: str, spec: TrainingSpec, limits: Limits, house: House) -> State | None:
        """Train on; the trial's state with a held-out loss at its end, durable. None when it was
        late. Raises TrainingError if the loss is lost, StopOrdered."""
        trainee, seek = self.trainee(spec), limits.seek
        loop = Loop(
            spec=replace(spec, eval_every=NEVER, patience=None),
            dataset=self._dataset,
            trainee=trainee,
            checkpoints=self.checkpoints(name),
            house=house,
        )
        loop.begin()

        def there() -> bool:
            return seek is not None and met(
                loop, seek, trainee=trainee, micro_batch=spec.micro_batch, house=house
            )

        def enough() -> bool:
            if limits.late():
                return True
            if seek is not None:
                look_if_due(loop, seek, until=limits.nanos)
            return there() or loop.state.nanos >= limits.nanos

        loop.advance(enough)
        if limits.late():
            return None
        loop.mark()
        # At its very last step a training ends unasked whether it is enough.
        there()
        loop.make_durable()
        return loop.state

    def trainee(self, spec: TrainingSpec) -> Trainee:
        """The network as training begins: the kept one, if the spec shapes it alike."""
        shape = _shape(spec)
        if self._kept is not None and self._kept[0] == shape:
            _, trainee, first, rng = self._kept
            trainee.restore(first)
            torch.set_rng_state(rng)
            return trainee
        self.forget()
        trainee = self._load(spec)
        if spec.method is Method.LORA:
            first = {name: one.clone() for name, one in trainee.weights().items()}
            self._kept = (shape, trainee, first, torch.get_rng_state())
        return trainee

    def forget(self) -> None:
        """Give the kept network's memory back."""
        self._kept = None
        gc.collect()


def _shape(spec: TrainingSpec) -> tuple[object, ...]:
    return (
        *(spec.method, spec.lora_rank, spec.lora_alpha, spec.lora_targets),
        *(spec.activation_checkpointing, spec.precision, spec.seed),
    )

"""The training loop: exact resume, orders heeded after every micro-batch, each phase metered."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from meted.domain.job import TrainingPhase, TrainingSpec
from meted.live.training.checkpoint import CheckpointFolder
from meted.live.training.data import Dataset, step_rows
from meted.live.training.errors import TrainingError
from meted.live.training.house import House, cpu_nanos
from meted.live.training.model import Trainee
from meted.live.training.optimizers import build_optimizers, build_schedule, step_all
from meted.live.wire import Checkpointed, Evaluated, Planned, Trained


@dataclass(frozen=True, slots=True)
class Mark:
    """A held-out loss on the way. nanos: device time of the steps until then."""

    step: int
    nanos: int
    loss: float


@dataclass(slots=True, kw_only=True)
class State:
    """How far a job is. losses: mean nats per token of each step; held_out: by when measured;
    marks: all that were measured on the way; nanos: device time of all steps, nothing else."""

    step: int = 0
    tokens: int = 0
    nanos: int = 0
    losses: list[float] = field(default_factory=list[float])
    held_out: dict[str, float] = field(default_factory=dict[str, float])
    marks: list[Mark] = field(default_factory=list[Mark])


class Loop:
    """One job's training from its newest checkpoint to its last step."""

    def __init__(
        self,
        *,
        spec: TrainingSpec,
        dataset: Dataset,
        trainee: Trainee,
        checkpoints: CheckpointFolder,
        house: House,
    ) -> None:
        self._spec = spec
        self._dataset = dataset
        self._trainee = trainee
        self._checkpoints = checkpoints
        self._house = house
        self._rows_per_step = rows_per_step(spec, len(dataset.train))
        self.total_steps = total_steps(spec, len(dataset.train))
        self._schedule = build_schedule(spec, self.total_steps)
        self._parameters = list(trainee.parameters.values())
        self._optimizers = build_optimizers(spec, self._parameters, self._schedule.peak)
        self._rng = torch.get_rng_state()
        self._saved_step: int | None = None
        self._best: dict[str, Tensor] | None = None
        self.state = State()

    def run(self, *, to_end: bool = True) -> State:
        """Train to the end, or leave it at what the newest checkpoint has. Raises StopOrdered, or
        TrainingError if the loss is lost."""
        self.begin()
        if "before" not in self.state.held_out:
            self.evaluate("before")
        self.advance(self._gave_up if to_end else lambda: True)
        self._conclude()
        return self.state

    def begin(self) -> None:
        """Take the newest checkpoint up, if there is one, and tell the house where it stands."""
        self._restore()
        self._announce()

    def advance(self, enough: Callable[[], bool]) -> None:
        """Train until the last step, or until it is enough after some other."""
        self._house.turn_to(TrainingPhase.TRAIN)
        while True:
            self._look()
            if self.state.step == self.total_steps or enough():
                return
            self._step()

    def _look(self) -> None:
        """What is due between two steps; what a stop left undone here is done by who resumes."""
        step = self.state.step
        last = step == self.total_steps
        if step and not last and step % self._spec.eval_every == 0:
            self.mark()
        if step and (last or step % self._spec.checkpoint_every == 0):
            self.make_durable()

    def mark(self) -> float:
        """The held-out loss after this step, measured once."""
        marks = self.state.marks
        if not marks or marks[-1].step != self.state.step:
            loss = self.evaluate("during")
            if self._spec.patience is not None and all(loss < one.loss for one in marks):
                self._best = {name: one.clone() for name, one in self._trainee.weights().items()}
            marks.append(Mark(self.state.step, self.state.nanos, loss))
            # A checkpoint that an order made meanwhile does not know it yet.
            self._saved_step = None
        return marks[-1].loss

    def _conclude(self) -> None:
        """The held-out loss after, of the last weights or, with patience, of the best ones seen."""
        loss = self._measure()
        best = min(self.state.marks, key=lambda one: one.loss, default=None)
        if self._best is not None and best is not None and best.loss < loss:
            self._trainee.restore(self._best)
            loss = best.loss
        self._say("after", loss)

    def _gave_up(self) -> bool:
        return gave_up([one.loss for one in self.state.marks], self._spec.patience)

    def _announce(self) -> None:
        self._house.tell(
            Planned(
                total_steps=self.total_steps,
                first_step=self.state.step,
                train_tokens=self._dataset.train.size,
                held_out_tokens=self._dataset.held_out.size,
                tokens=self.state.tokens,
            )
        )

    def _step(self) -> None:
        """One optimizer step, its gradient added up over micro-batches."""
        state, started, cpu = self.state, time.monotonic_ns(), cpu_nanos()
        rows = step_rows(
            step=state.step,
            rows_per_step=self._rows_per_step,
            rows=len(self._dataset.train),
            seed=self._spec.seed,
        )
        self._trainee.train(True)
        loss = 0.0
        for micro in self._micro_batches(self._dataset.train[rows]):
            part = self._trainee.loss(micro) * (len(micro) / len(rows))
            part.backward()  # pyright: ignore[reportUnknownMemberType]
            loss += part.item()
            # An order that comes within a step is obeyed at once: nothing has moved since the
            # step began, so a checkpoint written here is that of the step's beginning.
            self._house.heed(self.make_durable)
        rate = self._schedule.rate(state.step)
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} in step {state.step + 1} with learning rate {rate:g}; "
                "train again with a lower learning_rate"
            )
        step_all(self._optimizers, self._parameters, rate=rate)
        state.step += 1
        state.nanos += cpu_nanos() - cpu
        state.tokens += rows.size * self._spec.sequence_tokens
        state.losses.append(loss)
        self._rng = torch.get_rng_state()
        self._house.tell(
            Trained(
                step=state.step,
                loss=loss,
                learning_rate=rate,
                tokens=state.tokens,
                started_us=started // 1000,
                duration_us=(time.monotonic_ns() - started) // 1000,
                cpu_ns=cpu_nanos(),
            )
        )

    def evaluate(self, when: str) -> float:
        """Measure the held-out loss and tell the house."""
        loss = self._measure()
        self._say(when, loss)
        return loss

    def _measure(self) -> float:
        """Mean held-out loss, in the order of rows and so always of the same sum."""
        self._house.turn_to(TrainingPhase.EVALUATE)
        self._trainee.train(False)
        total = 0.0
        with torch.no_grad():
            for micro in self._micro_batches(self._dataset.held_out):
                total += self._trainee.loss(micro).item() * len(micro)
                self._house.heed(self.make_durable)
        return total / len(self._dataset.held_out)

    def _say(self, when: str, loss: float) -> None:
        self.state.held_out[when] = loss
        self._house.tell(Evaluated(self.state.step, when, loss, cpu_nanos()))
        self._house.turn_to(TrainingPhase.TRAIN)

    def _micro_batches(self, rows: NDArray[np.int32]) -> list[NDArray[np.int32]]:
        size = self._spec.micro_batch
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    def make_durable(self) -> int:
        """Write a checkpoint unless this step has one; the step it is of."""
        state = self.state
        if self._saved_step != state.step:
            self._house.turn_to(TrainingPhase.CHECKPOINT)
            content: dict[str, Any] = {
                "step": state.step,
                "tokens": state.tokens,
                "nanos": state.nanos,
                "marks": [(one.step, one.nanos, one.loss) for one in state.marks],
                "best": self._best,
                "losses": state.losses,
                "held_out": state.held_out,
                "weights": self._trainee.weights(),
                "optimizers": [one.state_dict() for one in self._optimizers],
                "rng": self._rng,
            }
            self._checkpoints.save(state.step, content)
            self._saved_step = state.step
            self._house.tell(Checkpointed(state.step, cpu_nanos()))
            self._house.turn_to(TrainingPhase.TRAIN)
        return state.step

    def _restore(self) -> None:
        content = self._checkpoints.newest()
        if content is None:
            return
        self._trainee.restore(content["weights"])
        for optimizer, saved in zip(self._optimizers, content["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        torch.set_rng_state(content["rng"])
        self._rng = content["rng"]
        self.state = State(
            step=content["step"],
            tokens=content["tokens"],
            # Checkpoints of older versions have none of these.
            nanos=content.get("nanos", 0),
            marks=[Mark(*one) for one in content.get("marks", ())],
            losses=content["losses"],
            held_out=content["held_out"],
        )
        self._best = content.get("best")
        self._saved_step = self.state.step


def gave_up(losses: Sequence[float], patience: int | None) -> bool:
    """Whether so many held-out losses in a row brought no new least one."""
    if patience is None or len(losses) <= patience:
        return False
    return min(losses[-patience:]) >= min(losses[:-patience])


def rows_per_step(spec: TrainingSpec, rows: int) -> int:
    """Sequences in an optimizer step; gd takes the whole training part whatever batch_tokens is."""
    if spec.batch_tokens is None or spec.optimizer == "gd":
        return rows
    return min(rows, max(1, spec.batch_tokens // spec.sequence_tokens))


def total_steps(spec: TrainingSpec, rows: int) -> int:
    """Optimizer steps of the whole job."""
    if spec.steps is not None:
        return spec.steps
    assert spec.epochs is not None, "check_spec lets exactly one of steps and epochs through"
    return max(1, math.ceil(spec.epochs * rows / rows_per_step(spec, rows) - 1e-9))

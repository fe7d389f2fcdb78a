"""The training loop: exact resume, orders heeded after every micro-batch, each phase metered."""

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from meted.domain.job import TrainingPhase, TrainingSpec
from meted.live.training.checkpoint import CheckpointFolder
from meted.live.training.data import Dataset, step_rows
from meted.live.training.errors import TrainingError
from meted.live.training.house import House, cpu_nanos
from meted.live.training.model import Trainee
from meted.live.training.optimizers import build_optimizers, build_schedule, step_all
from meted.live.wire import Checkpointed, Evaluated, Planned, Trained


@dataclass(slots=True, kw_only=True)
class State:
    """How far a job is. losses: mean nats per token of each step; held_out: by when measured."""

    step: int = 0
    tokens: int = 0
    losses: list[float] = field(default_factory=list[float])
    held_out: dict[str, float] = field(default_factory=dict[str, float])


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
        self.state = State()

    def run(self) -> State:
        """Train to the end. Raises StopOrdered, or TrainingError if the loss is lost."""
        self._restore()
        self._announce()
        if "before" not in self.state.held_out:
            self._evaluate("before")
        self._house.turn_to(TrainingPhase.TRAIN)
        while self.state.step < self.total_steps:
            self._step()
            last = self.state.step == self.total_steps
            if last or self.state.step % self._spec.checkpoint_every == 0:
                self._make_durable()
            if not last and self.state.step % self._spec.eval_every == 0:
                self._evaluate("during")
        self._evaluate("after")
        return self.state

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
        state, started = self.state, time.monotonic_ns()
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
            self._house.heed(self._make_durable)
        rate = self._schedule.rate(state.step)
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} in step {state.step + 1} with learning rate {rate:g}; "
                "train again with a lower learning_rate"
            )
        step_all(self._optimizers, self._parameters, rate=rate)
        state.step += 1
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

    def _evaluate(self, when: str) -> None:
        """Mean held-out loss, in the order of rows and so always of the same sum."""
        self._house.turn_to(TrainingPhase.EVALUATE)
        self._trainee.train(False)
        total = 0.0
        with torch.no_grad():
            for micro in self._micro_batches(self._dataset.held_out):
                total += self._trainee.loss(micro).item() * len(micro)
                self._house.heed(self._make_durable)
        loss = total / len(self._dataset.held_out)
        self.state.held_out[when] = loss
        self._house.tell(Evaluated(self.state.step, when, loss, cpu_nanos()))
        self._house.turn_to(TrainingPhase.TRAIN)

    def _micro_batches(self, rows: NDArray[np.int32]) -> list[NDArray[np.int32]]:
        size = self._spec.micro_batch
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    def _make_durable(self) -> int:
        """Write a checkpoint unless this step has one; the step it is of."""
        state = self.state
        if self._saved_step != state.step:
            self._house.turn_to(TrainingPhase.CHECKPOINT)
            content: dict[str, Any] = {
                "step": state.step,
                "tokens": state.tokens,
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
            losses=content["losses"],
            held_out=content["held_out"],
        )
        self._saved_step = self.state.step


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

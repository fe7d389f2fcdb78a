"""Measured steps as a fit sees them: alike ones together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from meted.predict.factor_prior import factors_at
from meted.predict.ideal import StepParts, ideal_step
from meted.predict.roofline import combine
from meted.predict.setup import Setup
from meted.predict.step_time import StepWork


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredStep:
    """One step that was timed, in microseconds."""

    setup: Setup
    work: StepWork
    micros: float

    def __post_init__(self) -> None:
        if not self.micros > 0:
            raise ValueError(f"a measured step took {self.micros} us, expected more than 0")


@dataclass(frozen=True, slots=True)
class Evidence:
    """Measured steps in an order of their own: the parts and log time of each, the cell of alike
    ones that it belongs to, and for each cell its size and whether its steps have prompts."""

    steps: list[tuple[StepParts, float]]
    cell: NDArray[np.int64]
    sizes: NDArray[np.float64]
    prompts: NDArray[np.bool_]

    @classmethod
    def of(cls, points: Sequence[MeasuredStep]) -> Self:
        # Setups that ask the same of ideal hardware are the same to a fit.
        ideal = {id(one.setup): ideal_step(one.setup) for one in points}
        seen = [
            (
                ideal[id(one.setup)].parts(one.work),
                math.log(one.micros),
                (ideal[id(one.setup)], _octaves(one.work)),
            )
            for one in points
        ]
        seen.sort(key=lambda one: one[:2])
        cells: dict[object, int] = {}
        names = [cells.setdefault(alike, len(cells)) for _, _, alike in seen]
        cell = np.array(names)
        prompts = np.zeros(len(cells), dtype=np.bool_)
        for name, (parts, _, _) in zip(names, seen, strict=True):
            prompts[name] = parts.prompt > 0
        return cls(
            steps=[(parts, log) for parts, log, _ in seen],
            cell=cell,
            sizes=np.bincount(cell).astype(np.float64),
            prompts=prompts,
        )

    def residuals(self, logs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean of log predicted over log measured, by cell."""
        factors = factors_at(logs)
        each = [math.log(combine(parts, factors)) - log for parts, log in self.steps]
        return np.bincount(self.cell, weights=each) / self.sizes


def _octaves(work: StepWork) -> tuple[int, int, int]:
    return (
        work.prefill_tokens.bit_length(),
        work.decode_tokens.bit_length(),
        (work.context_tokens + work.attended).bit_length(),
    )

"""Step times and goodput of a job whose devices and batch size change while it runs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.interpolate import (  # pyright: ignore[reportMissingTypeStubs]
    LinearNDInterpolator,
    NearestNDInterpolator,
)
from scipy.optimize import least_squares  # pyright: ignore[reportMissingTypeStubs]

from meted.predict.training.statistical import GradientNoise, goodput

BATCHES = 50
"""Batch sizes tried, from the smallest to the largest."""
FITTED = 300
"""Samples, evenly chosen, to which the model of a step is fitted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSample:
    """A measured step. placement: devices on each node, () if only their sums are known."""

    placement: tuple[int, ...]
    nodes: int
    devices: int
    local_batch: float
    step_seconds: float
    sync_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochSample:
    """Progress at the end of an epoch, in steps with the initial batch, and the noise in it."""

    progress: float
    noise: GradientNoise


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """How a batch is split: `local` samples on a device, `accumulated` more times before a sync."""

    local: int
    accumulated: int


@dataclass(frozen=True, eq=False, kw_only=True)
class ElasticProfile:
    """What is measured of an application. epochs: by total batch size.

    What is found from it is kept, because every job of the application asks it again.
    """

    name: str
    steps: Sequence[StepSample]
    epochs: Mapping[int, Sequence[EpochSample]]
    least_local: int
    most_local: int
    node_devices: int = 4
    _measured: dict[tuple[int, int, int], tuple[float, float]] = field(
        default_factory=dict[tuple[int, int, int], tuple[float, float]], init=False, repr=False
    )
    _chosen: dict[tuple[int, int, int], tuple[Batch, float]] = field(
        default_factory=dict[tuple[int, int, int], tuple[Batch, float]], init=False, repr=False
    )

    @property
    def initial_batch(self) -> int:
        return min(self.epochs)

    @property
    def most_batch(self) -> int:
        return max(self.epochs)

    @cached_property
    def ends(self) -> tuple[float, ...]:
        """Progress at which each epoch ends, whatever the batch size was: the least of them."""
        return tuple(
            min(one.progress for one in row) for row in zip(*self.epochs.values(), strict=True)
        )

    def noise(self, batch: int, epoch: int) -> GradientNoise:
        """Gradient noise in an epoch, interpolated between the batch sizes that were measured."""
        low = max(one for one in self.epochs if one <= batch)
        high = min(one for one in self.epochs if one >= batch)
        first, second = self.epochs[low][epoch].noise, self.epochs[high][epoch].noise
        share = 0.0 if low == high else (batch - low) / (high - low)
        return GradientNoise(
            squared=first.squared + share * (second.squared - first.squared),
            variance=first.variance + share * (second.variance - first.variance),
        )

    def measured(self, devices: int, nodes: int, local: int) -> tuple[float, float]:
        """Seconds of a step and of its sync: measured, or interpolated between measurements."""
        key = (devices, nodes, local)
        if key not in self._measured:
            self._measured[key] = self._interpolate(devices, nodes, local)
        return self._measured[key]

    def _interpolate(self, devices: int, nodes: int, local: int) -> tuple[float, float]:
        shape = placement(devices, nodes, self.node_devices)
        rows = sorted(
            (one.local_batch, one.step_seconds, one.sync_seconds)
            for one in self.steps
            if one.placement == shape
        )
        if rows:
            at, step, sync = zip(*rows, strict=True)
            return float(np.interp(local, at, step)), float(np.interp(local, at, sync))
        linear, nearest = self._surface
        where = [[nodes, devices, local]]
        found = np.asarray(linear(where))[0]
        if bool(np.isnan(found).any()):
            found = np.asarray(nearest(where))[0]
        return float(found[0]), float(found[1])

    @cached_property
    def _surface(self) -> tuple[LinearNDInterpolator, NearestNDInterpolator]:
        """Seconds of a step and of its sync over nodes, devices and local batch."""
        sums: dict[tuple[float, float, float], list[tuple[float, float]]] = {}
        for one in self.steps:
            where = (one.nodes, one.devices, one.local_batch)
            sums.setdefault(where, []).append((one.step_seconds, one.sync_seconds))
        places = np.array(list(sums), dtype=float)
        values = np.array([np.mean(some, axis=0) for some in sums.values()])
        return LinearNDInterpolator(places, values), NearestNDInterpolator(places, values)

    def split(self, batch: float, devices: int) -> Batch:
        """A batch on `devices` devices: accumulated where it does not fit into their memory."""
        local = math.ceil(batch / devices - 1e-8)
        more = math.ceil(local / self.most_local - 1e-8) - 1
        if devices == 1 and batch > self.initial_batch:
            more = max(1, more)
        each = math.ceil(local / (more + 1) - 1e-8)
        return Batch(local=min(each, self.most_batch // (devices * (more + 1))), accumulated=more)

    def choose(self, devices: int, nodes: int, epoch: int) -> tuple[Batch, float]:
        """The split with the most goodput by the fitted model, and that goodput.

        The noise is what a job would measure: first at its initial batch, then at its choice.
        """
        key = (devices, nodes, epoch)
        if key in self._chosen:
            return self._chosen[key]
        fit = self.fit
        least = max(self.initial_batch, self.least_local * devices)
        found = (Batch(local=0, accumulated=0), 0.0)
        if least <= self.most_batch:
            batch = min(least, self.most_batch)
            for _ in range(2):
                noise = self.noise(batch, epoch)
                found = (Batch(local=0, accumulated=0), 0.0)
                for total in np.geomspace(least, self.most_batch, BATCHES):
                    split = self.split(float(total), devices)
                    size = devices * split.local * (split.accumulated + 1)
                    if split.local < self.least_local or size < self.initial_batch:
                        continue
                    seconds = fit.seconds(devices, nodes, split)
                    scale = size / self.initial_batch
                    pace = goodput(noise, scale=scale, step_seconds=seconds)
                    if pace > found[1]:
                        found = (split, pace)
                        batch = size
        self._chosen[key] = found
        return found

    def pace(self, devices: int, nodes: int, epoch: int, split: Batch) -> float:
        """True useful steps per second with that split."""
        step, sync = self.measured(devices, nodes, split.local)
        size = devices * split.local * (split.accumulated + 1)
        noise = self.noise(size, epoch)
        return goodput(
            noise,
            scale=size / self.initial_batch,
            step_seconds=step + split.accumulated * (step - sync),
        )

    @cached_property
    def fit(self) -> "FittedStep":
        """The seven-parameter model of a step, fitted to the measured placements."""
        return fit_steps([one for one in self.steps if one.placement])


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedStep:
    """Step = (compute^gamma + sync^gamma)^(1/gamma) (Pollux, OSDI 2021, section 3.2)."""

    parameters: tuple[float, ...]

    def seconds(self, devices: int, nodes: int, split: Batch) -> float:
        """Seconds of one step, its accumulated passes included."""
        first, slope, far, far_slope, near, near_slope, gamma = self.parameters
        compute = first + slope * split.local
        more = max(devices - 2, 0)
        sync = 1e-8
        if nodes > 1:
            sync = far + far_slope * more
        elif devices > 1:
            sync = near + near_slope * more
        whole = (compute**gamma + sync**gamma) ** (1 / gamma)
        return whole + split.accumulated * compute


def placement(devices: int, nodes: int, most: int) -> tuple[int, ...]:
    """Devices on each node: full nodes first if they are as few as can be, else as even as can be.

    Normalised to its smallest rotation.
    """
    if nodes == math.ceil(devices / most):
        shape = [most] * (devices // most) + ([devices % most] if devices % most else [])
    else:
        shape = [devices // nodes + (one < devices % nodes) for one in range(nodes)]
    return min(tuple(shape[one:] + shape[:one]) for one in range(len(shape)))


def _model(logs: np.ndarray, nodes: np.ndarray, devices: np.ndarray, local: np.ndarray):
    first, slope, far, far_slope, near, near_slope, gamma = np.exp(logs)
    compute = first + slope * local
    more = np.maximum(devices - 2, 0)
    sync = np.where(
        nodes > 1, far + far_slope * more, np.where(devices > 1, near + near_slope * more, 1e-8)
    )
    return (compute**gamma + sync**gamma) ** (1 / gamma)


def fit_steps(samples: Sequence[StepSample]) -> FittedStep:
    """Least squares in the logarithm of step times. Raises ValueError if there is no sample."""
    samples = samples[:: max(1, len(samples) // FITTED)]
    if not samples:
        raise ValueError("no step was measured, expected at least one; profile the job first")
    nodes = np.array([one.nodes for one in samples])
    devices = np.array([one.devices for one in samples])
    local = np.array([one.local_batch for one in samples])
    seconds = np.array([one.step_seconds for one in samples])
    compute = np.array([one.step_seconds - one.sync_seconds for one in samples])

    def error(logs: np.ndarray) -> np.ndarray:
        plain = np.exp(logs[0]) + np.exp(logs[1]) * local
        step = np.log(_model(logs, nodes, devices, local) / seconds)
        return np.concatenate([step, np.log(plain / np.maximum(compute, 1e-6))])

    start = np.log(np.array([1e-1, 1e-2, 1e-1, 1e-2, 1e-1, 1e-2, 1.5]))
    low, high = np.full(7, np.log(1e-8)), np.full(7, np.log(1e3))
    low[6], high[6] = 0.0, np.log(10.0)
    found = least_squares(error, start, bounds=(low, high))
    return FittedStep(parameters=tuple(float(one) for one in np.exp(found.x)))

"""Loads that no way of mixing requests can undercut, for a bound that holds for real fleets.

The planning loads (1 / rate of a class alone) are a little too high where classes go well together,
so a fleet may be cheaper than what they prove. Here a step's time is bounded from below by planes,
and a replica's work in a second by the sum of its requests' parts of a plane.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from meted.domain.units import MICROS_PER_SECOND
from meted.policy.fleet.capacity import computed_tokens, prompt_pairs
from meted.policy.fleet.columns import Column
from meted.policy.fleet.milp import FleetProblem
from meted.policy.fleet.traffic import Bucket
from meted.predict.replica import ReplicaModel
from meted.predict.step_time import StepWork


def least_loads(problem: FleetProblem) -> FleetProblem:
    """The problem with loads from below: its optimum is a bound for every fleet that only gives
    classes to replicas that can hold them, as far as step time is convex in its work (all dense
    models; a mixture of experts is not quite)."""
    buckets = problem.periods[0].buckets
    cache: dict[int, tuple[tuple[float | None, ...], ...]] = {}
    found: list[Column] = []
    for column in problem.columns:
        if column.replica is None:
            found.append(column)
            continue
        key = id(column.replica)
        if key not in cache:
            cache[key] = _facets(column.replica, buckets)
        open_to = [rate is not None for rate in column.rates]
        facets = tuple(
            tuple(rate if usable else None for rate, usable in zip(facet, open_to, strict=True))
            for facet in cache[key]
        )
        found.append(replace(column, facets=facets))
    return replace(problem, columns=tuple(found))


def _facets(
    replica: ReplicaModel, buckets: Sequence[Bucket]
) -> tuple[tuple[float | None, ...], ...]:
    """For each plane, the largest rate of each class by that plane.

    With t >= fixed + slope * work for each step, N steps a second and W the work that comes in a
    second, N * fixed + slope * W <= 1 second, and N is at least the prompt tokens over the chunk,
    and at least the output tokens over the largest batch.
    """
    facets: list[tuple[float | None, ...]] = []
    for fixed, slope in planes(replica):
        for by_prompt in (True, False):
            rates: list[float | None] = []
            for bucket in buckets:
                tokens = computed_tokens(replica, bucket)
                output = max(0.0, bucket.output_tokens - 1)
                work = np.array(
                    [
                        tokens,
                        output,
                        output * (bucket.prompt_tokens + bucket.output_tokens / 2),
                        prompt_pairs(replica, bucket),
                    ]
                )
                steps = tokens / replica.chunk_tokens if by_prompt else output / replica.max_batch
                micros = steps * fixed + float(slope @ work)
                rates.append(MICROS_PER_SECOND / micros if micros > 0 else None)
            facets.append(tuple(rates))
    return tuple(facets)


def planes(replica: ReplicaModel) -> tuple[tuple[float, NDArray[np.float64]], ...]:
    """Planes under the step time, as (fixed, slope by prompt tokens, output tokens, context and
    pairs), touching it where steps are bound by arithmetic, by reading, and by both.

    A slope is a central difference; the fixed part is then lowered until the plane lies under the
    step time on a grid of works.
    """
    chunk, batch = float(replica.chunk_tokens), float(min(replica.max_batch, 64))
    context = replica.kv_tokens / 2.0
    anchors = (
        np.array([chunk, 1.0, 100.0, chunk * chunk / 2]),
        np.array([0.0, batch, context, 0.0]),
        np.array([chunk, batch / 4, context / 4, chunk * chunk]),
    )
    grid = [
        np.array([part * chunk, decode, held, part * chunk * depth * chunk])
        for part, decode, held, depth in product(
            (0.0, 0.1, 0.5, 1.0), (0.0, 1.0, batch), (0.0, context / 4, context), (0.5, 2.0)
        )
        if part or decode
    ]
    found: list[tuple[float, NDArray[np.float64]]] = []
    for anchor in anchors:
        slope = _slope(replica, anchor)
        fixed = min(_micros(replica, work) - float(slope @ work) for work in grid)
        if fixed < 0:
            part = min(
                _micros(replica, work) / down for work in grid if (down := float(slope @ work)) > 0
            )
            slope, fixed = slope * min(1.0, part), 0.0
        found.append((fixed, slope))
    return tuple(found)


def _slope(replica: ReplicaModel, anchor: NDArray[np.float64]) -> NDArray[np.float64]:
    """Micros for each unit of work more, at the anchor."""
    slope = np.zeros(4)
    for place in range(4):
        reach = max(8.0, 0.05 * float(anchor[place]))
        more, less = anchor.copy(), anchor.copy()
        more[place] += reach
        less[place] = max(0.0, less[place] - reach)
        slope[place] = (_micros(replica, more) - _micros(replica, less)) / (
            more[place] - less[place]
        )
    return np.maximum(0.0, slope)


def _micros(replica: ReplicaModel, work: NDArray[np.float64]) -> float:
    prefill, decode, context, attended = (round(float(one)) for one in work)
    return replica.step.micros(
        StepWork(
            prefill_tokens=prefill,
            decode_tokens=decode,
            context_tokens=context,
            attended=attended,
        )
    )

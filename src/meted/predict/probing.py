"""Which steps to measure first: those that tell most about all the others."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from meted.predict.calibration import PRIOR, FactorPrior, log_draws
from meted.predict.setup import Setup
from meted.predict.step_time import StepWork

Probe: TypeAlias = Sequence[tuple[Setup, StepWork]]
"""Steps that are measured together, such as the prefill and a decode step of one configuration."""


def choose_probes(
    candidates: Sequence[Probe], count: int, prior: FactorPrior = PRIOR
) -> tuple[int, ...]:
    """The indices of `count` candidates to measure, best first.

    Greedy: each next one takes away most of the variance of log time that is left in all the
    candidates' steps together (integrated variance, as in Gaussian process design: Seo et al.
    2000), under the joint distribution that the prior's draws give. Nothing need be measured yet.

    Raises ValueError if fewer candidates are given than asked for.
    """
    if count > len(candidates):
        raise ValueError(f"{count} probes are asked for, but only {len(candidates)} are possible")
    steps = [step for candidate in candidates for step in candidate]
    ends = np.cumsum([len(candidate) for candidate in candidates]).tolist()
    groups = [
        list(range(end - len(candidate), end))
        for end, candidate in zip(ends, candidates, strict=True)
    ]
    left = _covariance(prior, steps)
    noise = np.array(
        [
            (prior.prompt_noise if work.prefill_tokens else prior.decode_noise).deviation ** 2
            for _, work in steps
        ]
    )
    chosen: list[int] = []
    for _ in range(count):
        gains = [
            -1.0 if index in chosen else float(np.trace(_explained(left, noise, group)))
            for index, group in enumerate(groups)
        ]
        best = int(np.argmax(gains))
        chosen.append(best)
        left = left - _explained(left, noise, groups[best])
    return tuple(chosen)


def _covariance(prior: FactorPrior, steps: Probe) -> NDArray[np.float64]:
    logs = np.array([log_draws(prior, setup, work) for setup, work in steps])
    centred = logs - logs.mean(axis=1, keepdims=True)
    return centred @ centred.T / logs.shape[1]


def _explained(
    left: NDArray[np.float64], noise: NDArray[np.float64], group: list[int]
) -> NDArray[np.float64]:
    """What measuring a group of steps takes from the covariance of all of them."""
    seen = left[np.ix_(group, group)] + np.diag(noise[group])
    return left[:, group] @ np.linalg.solve(seen, left[group, :])

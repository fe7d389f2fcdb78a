"""Factors from a log of requests: no step was timed, but each request says when its tokens came."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from meted.domain.units import Micros
from meted.predict.batching import Arrival
from meted.predict.calibration import Calibration
from meted.predict.factor_prior import PRIOR, FactorPrior, factor_logs, factors_at, matrix
from meted.predict.replay import replay
from meted.predict.replica import ReplicaModel
from meted.predict.roofline import Factors, Setup, predict_replica

TTFT_FLOOR_MICROS = 20_000
"""Added to a TTFT before its logarithm: below this a client's wait is the moment at which a step
happened to begin."""

REACH = 0.03
"""Of the logarithm of each factor: below about a percent a slope is that of single requests which
begin a step earlier or later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRequest:
    """When a request's first and last token came, on the clock of its arrival."""

    first_token: Micros
    last_token: Micros


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestNoise:
    """What the replay misses, as deviations of the logarithm, of one request's TPOT and TTFT."""

    tpot: float = 0.03
    ttft: float = 0.15


def fit_requests(
    setup: Setup,
    arrivals: Sequence[Arrival],
    measured: Sequence[MeasuredRequest],
    *,
    kv_tokens: int | None = None,
    ahead: bool = False,
    prior: FactorPrior = PRIOR,
    noise: RequestNoise = RequestNoise(),
) -> Calibration:
    """The factors with which a replay of all arrivals explains the first `measured` of them best.

    Later arrivals are replayed because they disturb the earlier ones; nothing of their own times
    is known. kv_tokens: what the engine said its cache holds, None to predict it. The objective is
    MAP, as in `calibrate`: log residuals of TTFT and TPOT, and the prior of the factors; a replay
    is a step function of its factors, so slopes are taken over `REACH` to both sides of each.
    """
    if not 0 < len(measured) <= len(arrivals):
        raise ValueError(
            f"{len(measured)} of {len(arrivals)} requests were measured, expected 1 to all of them"
        )
    start = factor_logs(prior.factors)
    whiten = np.linalg.inv(np.linalg.cholesky(np.array(prior.covariance)))
    seen = _observed(arrivals, measured)

    def misfit(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        served = replay(replica_with(setup, factors_at(logs), kv_tokens), arrivals, ahead=ahead)
        told = [
            MeasuredRequest(first_token=Micros(one.first_token), last_token=Micros(one.last_token))
            for one in served[: len(measured)]
        ]
        residuals = _observed(arrivals, told) - seen
        scale = np.array([noise.ttft, noise.tpot])[:, None]
        return np.concatenate([(residuals / scale).ravel(), whiten @ (logs - start)])

    def slopes_at(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        moves = REACH * np.eye(len(logs))
        sides = [misfit(logs + move) - misfit(logs - move) for move in moves]
        return np.stack(sides, axis=1) / (2 * REACH)

    found = least_squares(misfit, start, jac=slopes_at, x_scale=0.3, max_nfev=30)
    slopes: NDArray[np.float64] = np.asarray(cast(Any, found.jac))
    covariance: NDArray[np.float64] = np.asarray(np.linalg.inv(slopes.T @ slopes), dtype=np.float64)
    return Calibration(
        factors=factors_at(found.x),
        covariance=matrix(covariance),
        prompt_noise=prior.prompt_noise,
        decode_noise=prior.decode_noise,
        points=2 * len(measured),
    )


def replica_with(setup: Setup, factors: Factors, kv_tokens: int | None) -> ReplicaModel:
    """The replica of a setup, with the memory that its engine reported if it is known."""
    replica = predict_replica(setup, factors)
    return replica if kv_tokens is None else replace(replica, kv_tokens=kv_tokens)


def _observed(
    arrivals: Sequence[Arrival], measured: Sequence[MeasuredRequest]
) -> NDArray[np.float64]:
    """Logarithms of TTFT and TPOT, a row each."""
    ttft = [
        one.first_token - arrival.at + TTFT_FLOOR_MICROS
        for one, arrival in zip(measured, arrivals, strict=False)
    ]
    tpot = [
        (one.last_token - one.first_token) / max(1, arrival.output_tokens - 1) + 1.0
        for one, arrival in zip(measured, arrivals, strict=False)
    ]
    return np.log(np.array([ttft, tpot]))

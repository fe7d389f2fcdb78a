"""Prediction beside measurement, as the doors and `meted predict --live` tell it."""

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from meted.live.calibrations import CHUNK_TOKENS, Belief
from meted.predict.batch import Batch, prefill_steps
from meted.predict.estimate import Estimate
from meted.predict.step_time import FittedCost, StepWork

MOST_COMPARED = 64
"""Steps of a phase that are compared; a prediction with its interval takes half a millisecond."""
TYPICAL = Batch(requests=1, prompt=CHUNK_TOKENS, output=64)

Steps = Sequence[tuple[StepWork, float]]


def prediction_row(
    belief: Belief, alone: Steps, recent: Steps, fitted: FittedCost
) -> dict[str, Any]:
    """JSON-ready: what was believed before the first step against the steps that came since.

    alone: steps with their microseconds while the engine had its cores to itself, which is what P
    is about. recent: the last steps, whatever took the cores, with `fitted`, the live fit to them.
    """
    setup = belief.setup
    return {
        "model": setup.architecture.name,
        "device_kind": setup.kind.name,
        "device": setup.kind.title,
        "engine": belief.key.engine,
        "origin": belief.origin,
        "calibration_points": belief.before.points,
        "phases": [_phase(name, belief, alone, recent, fitted) for name in ("prefill", "decode")],
    }


def _phase(
    name: str, belief: Belief, alone: Steps, recent: Steps, fitted: FittedCost
) -> dict[str, Any]:
    def before(work: StepWork) -> Estimate:
        return belief.before.predict(belief.setup, work)

    first = prefill_steps(TYPICAL, CHUNK_TOKENS)[0]
    typical = first if name == "prefill" else TYPICAL.steady_step()
    ours, latest = _of(name, alone), _of(name, recent)
    return {
        "phase": name,
        "steps": len(ours),
        **_compared(before, _some(ours), typical),
        "live": {"steps": len(latest), **_compared(fitted.predict, _some(latest), typical)},
    }


def _of(phase: str, steps: Steps) -> Steps:
    return [one for one in steps if (one[0].prefill_tokens > 0) == (phase == "prefill")]


def _some(steps: Steps) -> Steps:
    return steps[:: -(-len(steps) // MOST_COMPARED)] if steps else steps


def _compared(
    predict: Callable[[StepWork], Estimate], steps: Steps, typical: StepWork
) -> dict[str, Any]:
    """Means over the same steps; without any, the prediction of a typical one.

    error: mean absolute, as a share of the measured time. bias: of the median step, measured over
    predicted, less one. coverage: share of steps inside their interval.
    """
    if not steps:
        nothing = dict.fromkeys(("measured_ms", "error", "bias", "coverage"))
        return {"predicted_ms": _told([predict(typical)]), **nothing}
    estimates = [predict(work) for work, _ in steps]
    pairs = [(one, micros) for one, (_, micros) in zip(estimates, steps, strict=True)]
    return {
        "predicted_ms": _told(estimates),
        "measured_ms": statistics.fmean(micros for _, micros in pairs) / 1000,
        "error": statistics.fmean(abs(one.expected / micros - 1) for one, micros in pairs),
        "bias": statistics.median(micros / one.expected for one, micros in pairs) - 1,
        "coverage": statistics.fmean(one.low <= micros <= one.high for one, micros in pairs),
    }


def _told(estimates: Sequence[Estimate]) -> dict[str, float]:
    return {
        name: statistics.fmean(getattr(one, name) for one in estimates) / 1000
        for name in ("low", "expected", "high")
    } | {"level": estimates[0].level}

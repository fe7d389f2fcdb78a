"""Prediction beside measurement: what was believed before the steps is told, and how it did."""

import random
from pathlib import Path

from meted.domain.catalogue import lookup_architecture
from meted.domain.device_kind import Precision
from meted.live.calibrations import Belief, Calibrations, believe
from meted.live.device_probe import CoreGroup, device_kind
from meted.live.predicted import usual_algorithm
from meted.live.prediction_view import prediction_row
from meted.predict.batch import Batch, prefill_steps
from meted.predict.setup import Setup
from meted.predict.step_time import FittedCost, StepTimeFit, StepWork

KIND = device_kind(
    CoreGroup(
        cpu="Some Cores",
        threads=2,
        flops={Precision.FP32: 3e11, Precision.INT8: 1.2e12},
        bandwidth=3e10,
        memory_bytes=16 << 30,
        seconds=1.0,
        contended=False,
    )
)
SETUP = Setup(
    architecture=lookup_architecture("smollm2-135m"),
    kind=KIND,
    algorithm=usual_algorithm(KIND, Precision.INT8),
)


def measured(belief: Belief, slower: float) -> list[tuple[StepWork, float]]:
    """200 decode steps and 20 with prompts, `slower` times as long as believed."""
    rng = random.Random(1)
    step = belief.before.replica(SETUP).step
    works = [
        Batch(requests=rng.randint(1, 8), prompt=rng.randint(30, 500), output=50).steady_step()
        for _ in range(200)
    ]
    works += [
        prefill_steps(Batch(requests=1, prompt=rng.randint(30, 256), output=50), 256)[0]
        for _ in range(20)
    ]
    rng.shuffle(works)
    return [(work, step.micros(work) * slower * rng.uniform(0.97, 1.03)) for work in works]


def fitted_to(steps: list[tuple[StepWork, float]]) -> FittedCost:
    fit = StepTimeFit()
    for work, micros in steps:
        fit.observe(work, micros)
    return fit.fitted()


def test_the_error_is_of_what_was_believed_before_not_of_the_fit(tmp_path: Path) -> None:
    belief = believe(SETUP, Calibrations(tmp_path))
    steps = measured(belief, 1.5)
    row = prediction_row(belief, steps, steps, fitted_to(steps))
    prefill, decode = row["phases"]
    assert (prefill["steps"], decode["steps"]) == (20, 200)
    for phase in (prefill, decode):
        assert abs(phase["bias"] - 0.5) < 0.05
        assert 0.3 < phase["error"] < 0.36
        assert phase["live"]["error"] < 0.5 * phase["error"]
        predicted = phase["predicted_ms"]
        assert predicted["low"] < predicted["expected"] < predicted["high"]
    # An uncalibrated interval is wide enough for half as much again.
    assert decode["coverage"] > 0.8


def test_disturbed_steps_are_compared_with_the_live_fit_alone(tmp_path: Path) -> None:
    belief = believe(SETUP, Calibrations(tmp_path))
    quiet = [one for one in measured(belief, 1.0) if not one[0].prefill_tokens][:40]
    shared = measured(belief, 1.9)
    row = prediction_row(belief, quiet, shared, fitted_to(shared))
    decode = row["phases"][1]
    assert (decode["steps"], decode["live"]["steps"]) == (40, 200)
    assert decode["error"] < 0.05


def test_before_any_step_a_typical_one_is_predicted(tmp_path: Path) -> None:
    belief = believe(SETUP, Calibrations(tmp_path))
    for phase in prediction_row(belief, [], [], StepTimeFit().fitted())["phases"]:
        assert phase["steps"] == 0
        assert phase["measured_ms"] is None
        assert phase["predicted_ms"]["expected"] > 0

"""What a replica will do for equal requests: memory, latencies, throughput, money, energy."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from meted.predict.batch import Batch, prefill_steps
from meted.predict.calibration import Calibration
from meted.predict.energy import step_energy
from meted.predict.estimate import Estimate
from meted.predict.latency import ServingPerformance, predict_latency
from meted.predict.memory import ReplicaMemory, largest_batch, replica_memory
from meted.predict.queueing import Traffic
from meted.predict.roofline import predict_replica
from meted.predict.setup import Setup
from meted.predict.step_time import StepWork

MOST_STEPS = 64
"""Prefill steps whose times are predicted one by one; of more, evenly spread ones stand for all."""


class SaturatedError(ValueError):
    """More requests come than the replica can answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """A replica that answers equal requests, `batch` of them at once, one replaced as it ends.

    Times in milliseconds. prefill: of one prompt on an otherwise idle replica. decode_step: in the
    middle of the answers. ttft: of a request that joins the others, without waiting. tpot: with
    the prompts of the successors between its tokens. requests_per_second: answered.
    tokens_per_second: generated. joules_per_token: of a generated token, its prompt's part
    included. usd_per_million: generated tokens; usd_per_million_all: prompt and generated.
    """

    memory: ReplicaMemory
    largest_batch: int
    batch: Batch
    prefill: Estimate
    decode_step: Estimate
    ttft: Estimate
    tpot: Estimate
    requests_per_second: Estimate
    tokens_per_second: Estimate
    joules_per_token: Estimate
    usd_per_million: Estimate | None
    usd_per_million_all: Estimate | None


def predict_performance(
    setup: Setup,
    calibration: Calibration,
    batch: Batch,
    *,
    usd_per_device_hour: float | None = None,
) -> Performance:
    """P for a steady stream of equal requests with `batch.requests` in the replica at all times.

    The replica turns round in output * decode_step + requests * (what a prompt adds): Little's law
    on one batch. Times of several steps are added as if their errors were one, so that intervals
    are rather too wide than too narrow.
    Raises DoesNotFitError if the weights do not fit, ValueError if the batch does not.
    """
    most = largest_batch(setup, batch.prompt + batch.output)
    if batch.requests > max(1, most):
        raise ValueError(
            f"a batch of {batch.requests} requests of {batch.prompt + batch.output} tokens does "
            f"not fit: at most {most} do; take a smaller batch, more devices or fewer bits"
        )
    chunk = setup.algorithm.chunk_tokens
    lone = prefill_steps(Batch(requests=1, prompt=batch.prompt, output=batch.output), chunk)
    step = calibration.predict(setup, batch.steady_step())
    joining = [_beside(one, batch) for one in lone]
    ttft = _total(setup, calibration, joining)
    # What prompts add to the decode steps that they share.
    added = _map(lambda one, other: max(0.0, one - len(lone) * other), ttft, step)
    turn = _map(lambda one, other: batch.output * one + batch.requests * other, step, added)
    rate = _inverse(turn, batch.requests * 1e6)
    joules = _joules(setup, calibration, batch, joining)
    usd = None
    if usd_per_device_hour is not None:
        per_second = usd_per_device_hour * setup.algorithm.parallelism.devices / 3600
        usd = _inverse(rate, per_second * 1e6 / batch.output)
    share = batch.output / (batch.prompt + batch.output)
    return Performance(
        memory=replica_memory(setup),
        largest_batch=most,
        batch=batch,
        prefill=_times(_total(setup, calibration, lone), 1e-3),
        decode_step=_times(step, 1e-3),
        ttft=_times(ttft, 1e-3),
        tpot=_times(turn, 1e-3 / batch.output),
        requests_per_second=rate,
        tokens_per_second=_times(rate, batch.output),
        joules_per_token=joules,
        usd_per_million=usd,
        usd_per_million_all=None if usd is None else _times(usd, share),
    )


def batch_under_load(
    setup: Setup, calibration: Calibration, *, rate: float, prompt: int, output: int
) -> Batch:
    """The batch that stays in a replica when `rate` requests come per second, in the mean.

    The smallest batch that answers so many (Little's law), by bisection.
    Raises SaturatedError if none that fits does.
    """
    most = max(1, min(largest_batch(setup, prompt + output), setup.algorithm.max_batch))

    def answers(requests: int) -> float:
        batch = Batch(requests=requests, prompt=prompt, output=output)
        return predict_performance(setup, calibration, batch).requests_per_second.expected

    if (best := answers(most)) < rate:
        raise SaturatedError(
            f"{rate:g} requests come per second, but the replica answers {best:.2f} with its "
            f"largest batch of {most}; take more devices or several replicas"
        )
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if answers(middle) >= rate else (middle, high)
    return Batch(requests=high, prompt=prompt, output=output)


DRAWS = 6
"""Replicas drawn from a calibration's doubt for latencies under load."""


def latency_under_load(
    setup: Setup, calibration: Calibration, *, rate: float, prompt: int, output: int, share: float
) -> ServingPerformance:
    """TTFT, TPOT and E2E that `share` of Poisson arrivals stay inside, with the doubt of queueing
    and of the calibration's factors."""
    return predict_latency(
        calibration.replica(setup),
        Traffic(arrivals_per_second=rate, prompt_tokens=prompt, output_tokens=output),
        share=share,
        seed=1,
        doubt=[predict_replica(setup, one) for one in calibration.draws(DRAWS)],
        requests=1_000,
    )


def _beside(step: StepWork, batch: Batch) -> StepWork:
    """A chunk of a newcomer's prompt in one step with the tokens of the others."""
    others = batch.requests - 1
    return StepWork(
        prefill_tokens=step.prefill_tokens,
        decode_tokens=step.decode_tokens + others,
        context_tokens=others * (batch.prompt + batch.output // 2),
        attended=step.attended,
    )


def _total(setup: Setup, calibration: Calibration, steps: Sequence[StepWork]) -> Estimate:
    some = steps[:: max(1, len(steps) // MOST_STEPS)]
    each = [calibration.predict(setup, one) for one in some]
    share = len(steps) / len(some)
    return Estimate(
        low=share * sum(one.low for one in each),
        expected=share * sum(one.expected for one in each),
        high=share * sum(one.high for one in each),
    )


def _joules(
    setup: Setup, calibration: Calibration, batch: Batch, prompt: Sequence[StepWork]
) -> Estimate:
    """Of one generated token: its part of the decode step, and of its prompt's steps."""
    decode = step_energy(setup, batch.steady_step(), calibration.factors).joules
    some = prompt[:: max(1, len(prompt) // MOST_STEPS)]
    chunks = [
        step_energy(setup, one, calibration.factors).joules.expected - decode.expected
        for one in some
    ]
    added = max(0.0, sum(chunks) * len(prompt) / len(some)) / batch.output
    expected = decode.expected / batch.requests + added
    # The doubts of the power and of the step's time are independent.
    step = calibration.predict(setup, batch.steady_step())
    reach = math.exp(math.hypot(math.log(decode.spread), math.log(step.spread)) / 2)
    return Estimate(low=expected / reach, expected=expected, high=expected * reach)


def _map(function: Callable[[float, float], float], one: Estimate, other: Estimate) -> Estimate:
    low, expected, high = (
        function(getattr(one, name), getattr(other, name)) for name in ("low", "expected", "high")
    )
    return Estimate(low=min(low, expected), expected=expected, high=max(expected, high))


def _times(one: Estimate, factor: float) -> Estimate:
    return one.through(lambda value: value * factor)


def _inverse(one: Estimate, numerator: float) -> Estimate:
    return Estimate(
        low=numerator / one.high,
        expected=numerator / one.expected,
        high=numerator / one.low,
        level=one.level,
    )

"""Where a replica's batch comes to rest under traffic, in closed form, and the most it carries."""

import math
from dataclasses import dataclass

from meted.predict.queueing import Traffic, UnstableError, Wait, mg1_wait
from meted.predict.replica import ReplicaModel
from meted.predict.step_time import StepWork


@dataclass(frozen=True, slots=True, kw_only=True)
class SteadyBatch:
    """A replica's steady state under traffic, times in microseconds.

    batch: requests that generate, in the mean. decode_step, prompt_step: a step that an arrival
    sees, without a prompt's chunk and with one. chunks: steps of one prompt. prompt_load: share of
    time in prompt steps. room: most requests that the memory and the engine hold at once. wait: of
    a prompt for the prompts before it.
    """

    traffic: Traffic
    batch: float
    decode_step: float
    prompt_step: float
    chunks: int
    prompt_load: float
    tpot: float
    room: float
    wait: Wait

    def valid(self, share: float) -> bool:
        """Whether the form holds at a quantile: Poisson arrivals of nearly equal lengths, prompts
        that seldom meet, a batch that memory and engine do not bound, and no far tail.

        Where it was checked against replay: tests/predict/test_latency.py.
        """
        traffic = self.traffic
        return (
            share <= 0.9
            and traffic.arrival_cv == 1.0
            and traffic.length_cv <= 0.1
            and self.prompt_load <= 0.25
            and self.batch + 4.0 * math.sqrt(self.batch) <= self.room
        )

    def ttft(self, share: float) -> float:
        """Quantile of TTFT: what is left of the step at arrival, the wait and the own prompt.

        The residual is uniform over a decode step for the share of time in which there is one.
        """
        own = self.chunks * self.prompt_step
        busy = 1.0 - math.exp(-self.batch)
        step = self.decode_step

        def beyond(extra: float) -> float:
            idle = self.wait.beyond(extra) if extra > 0 else 1.0
            return busy * _sum_beyond(self.wait, step, extra) + (1.0 - busy) * idle

        low, high = 0.0, step + self.wait.quantile(share) + 1.0
        while beyond(high) > 1.0 - share:
            high *= 2.0
        for _ in range(50):
            middle = (low + high) / 2.0
            low, high = (middle, high) if beyond(middle) > 1.0 - share else (low, middle)
        return own + high

    def tpot_deviation(self, slope: float) -> float:
        """Deviation of a request's TPOT: that of the batch during its life, and of the prompts that
        come between its tokens. slope: microseconds that one more request adds to TPOT.

        The number of requests is that of M/D/infinity: Poisson, with a triangular covariance as
        wide as a life, so two thirds of its variance remain in the mean over a life. What comes
        during a life is Poisson too.
        """
        tokens = max(1.0, self.traffic.output_tokens - 1.0)
        life = tokens * self.tpot
        prompts = self.traffic.arrivals_per_second * life / 1e6
        added = self.chunks * (self.prompt_step - self.decode_step) / tokens
        return math.hypot(slope * math.sqrt(self.batch * 2.0 / 3.0), added * math.sqrt(prompts))


def _sum_beyond(wait: Wait, step: float, extra: float) -> float:
    """Probability that a uniform residual of a step and a wait last longer than `extra` together:
    the integral of wait.beyond over the residual."""
    if extra <= 0.0:
        return 1.0
    inside = min(extra, step)
    certain = (step - inside) / step
    if wait.waits == 0.0:
        return certain
    tail = math.exp(-(extra - inside) / wait.given) - math.exp(-extra / wait.given)
    return certain + wait.waits * wait.given / step * tail


def steady_batch(replica: ReplicaModel, traffic: Traffic) -> SteadyBatch:
    """The fixed point of batch size and step time, by bisection on the batch.

    batch = rate * tokens * TPOT (Little 1961), where TPOT is that of a batch with one more: a
    request that comes sees what stands on average (PASTA, Wolff 1982), besides itself; exact for
    processor sharing, to which a step time linear in the batch leads. Prompts take rate * chunks
    steps per second, and the rest of the time is decode steps.
    Raises UnstableError if no batch that the replica holds carries the traffic one prompt after
    the other; `capacity` says whether it does with prompts that share their steps.
    """
    room = _room(replica, traffic)

    def grows(batch: float) -> float:
        return _at(replica, traffic, batch, room).batch - batch

    low, high = 0.0, room
    if grows(high) > 0.0:
        raise UnstableError(
            f"{traffic.arrivals_per_second:g} requests come per second, more than the replica "
            f"carries with a batch of {room:.0f}; send less, or take more replicas or memory"
        )
    for _ in range(40):
        middle = (low + high) / 2.0
        low, high = (middle, high) if grows(middle) > 0.0 else (low, middle)
    return _at(replica, traffic, high, room)


def capacity(replica: ReplicaModel, traffic: Traffic) -> float:
    """Requests per second that a replica with a long queue answers.

    Prompts fill whole chunks: of the (output - 1) / batch steps that a request takes, prompt /
    (chunk - batch) carry one. The batch is full, unless all steps carry prompts: then it is the
    batch for which both are equal. The mean over steps; lengths enter by means.
    """
    context = traffic.prompt_tokens + traffic.output_tokens / 2.0
    prompt = max(1.0, traffic.prompt_tokens * (1.0 - replica.prefix_hit))
    later = max(0.0, traffic.output_tokens - 1.0)
    fed = replica.chunk_tokens * later / (prompt + later)
    batch = min(_room(replica, traffic), fed)
    chunk = max(1.0, replica.chunk_tokens - batch)
    pairs = chunk * (traffic.prompt_tokens - prompt / 2.0)
    full = prompt / chunk
    steps = later / batch if batch else 0.0
    micros = full * _micros(replica, batch, context, chunk, pairs)
    micros += max(0.0, steps - full) * _micros(replica, batch, context)
    return 1e6 / micros


def _room(replica: ReplicaModel, traffic: Traffic) -> float:
    each = traffic.prompt_tokens + traffic.output_tokens / 2.0
    return max(1.0, min(float(replica.max_batch), replica.kv_tokens / each))


def tpot_slope(replica: ReplicaModel, steady: SteadyBatch) -> float:
    """Microseconds that one more request in the batch adds to TPOT."""
    more = _at(replica, steady.traffic, steady.batch + 1.0, steady.room)
    return more.tpot - steady.tpot


def lone_step(replica: ReplicaModel, traffic: Traffic) -> float:
    """Microseconds of a decode step of one request alone."""
    return _micros(replica, 1.0, traffic.prompt_tokens + traffic.output_tokens / 2.0)


def _at(replica: ReplicaModel, traffic: Traffic, batch: float, room: float) -> SteadyBatch:
    """What follows if `batch` others generate; its own batch is the one that this leads to."""
    rate = traffic.arrivals_per_second / 1e6
    prompt = max(1.0, traffic.prompt_tokens * (1.0 - replica.prefix_hit))
    cached = traffic.prompt_tokens - prompt
    chunks = max(1, math.ceil(prompt / max(1.0, replica.chunk_tokens - batch)))
    seen = batch + 1.0
    context = traffic.prompt_tokens + traffic.output_tokens / 2.0
    decode = _micros(replica, seen, context)
    pairs = prompt * (cached + prompt / 2.0) / chunks
    step = _micros(replica, max(1.0, batch), context, prompt / chunks, pairs)
    load = rate * chunks * step
    if load >= 1.0:
        tpot, wait = math.inf, Wait(waits=1.0, given=math.inf)
    else:
        tpot = 1.0 / (rate * chunks + (1.0 - load) / decode)
        wait = mg1_wait(rate, chunks * step, traffic.length_cv)
    return SteadyBatch(
        traffic=traffic,
        batch=rate * max(0.0, traffic.output_tokens - 1.0) * tpot,
        decode_step=decode,
        prompt_step=step,
        chunks=chunks,
        prompt_load=load,
        tpot=tpot,
        room=room,
        wait=wait,
    )


def _micros(
    replica: ReplicaModel, batch: float, context: float, prefill: float = 0.0, pairs: float = 0.0
) -> float:
    """Step time at a batch between whole numbers, interpolated."""

    def whole(count: int) -> float:
        return replica.step.micros(
            StepWork(
                prefill_tokens=round(prefill),
                decode_tokens=count,
                context_tokens=round(count * context),
                attended=round(pairs),
            )
        )

    below = math.floor(batch)
    share = batch - below
    return whole(below) * (1.0 - share) + (whole(below + 1) * share if share else 0.0)

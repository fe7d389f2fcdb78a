"""P for serving before anything is measured: step time and memory of a replica by its roofline."""

from dataclasses import dataclass

from meted.domain.algorithm import ServingAlgorithm
from meted.domain.architecture import Architecture
from meted.domain.device_kind import DeviceKind
from meted.predict.counting import (
    flops_per_pair,
    flops_per_token,
    kv_bytes_per_token,
    parameters,
    weight_bytes,
)
from meted.predict.replica import ReplicaModel
from meted.predict.step_time import StepWork


class DoesNotFitError(ValueError):
    """A model does not fit in the memory of the devices it was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One (M, A, kind of R): what a measured step was measured on."""

    architecture: Architecture
    kind: DeviceKind
    algorithm: ServingAlgorithm


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """The few numbers that calibration fits for a model family, device kind and engine version.

    compute: share of peak FLOP/s reached. memory: share of bandwidth reached. fixed_micros: of a
    step. message_micros: of one collective message, on top of its bytes.
    """

    compute: float = 0.5
    memory: float = 0.7
    fixed_micros: float = 2_000.0
    message_micros: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RooflineStep:
    """Step time with the roofline's parts resolved, in microseconds per unit of work.

    t = fixed + max(compute, memory) + messages (Williams et al. 2009), where
    compute = token * tokens + pair * (attended + context), memory = weights + kv * context.
    """

    fixed: float
    token: float
    pair: float
    weights: float
    kv: float
    message: float

    def micros(self, work: StepWork) -> float:
        tokens = work.prefill_tokens + work.decode_tokens
        compute = self.token * tokens + self.pair * (work.attended + work.context_tokens)
        memory = self.weights + self.kv * work.context_tokens
        return self.fixed + max(compute, memory) + self.message * tokens


def predict_replica(setup: Setup, factors: Factors = Factors()) -> ReplicaModel:
    """The replica that a setup makes, uncalibrated unless factors are given.

    Raises DoesNotFitError if the weights leave no room for one token's KV cache.
    """
    architecture, kind, algorithm = setup.architecture, setup.kind, setup.algorithm
    devices = algorithm.parallelism.devices
    weights = weight_bytes(architecture, algorithm.weights)
    kv = kv_bytes_per_token(architecture, algorithm.kv)
    room = kind.memory_bytes * algorithm.memory_share * devices - weights
    if room < kv:
        raise DoesNotFitError(
            f"{architecture.name} has {weights / 1e9:.1f} GB of {algorithm.weights} weights; "
            f"{devices} x {kind.name} hold {kind.memory_bytes * devices / 1e9:.1f} GB, of which "
            f"{algorithm.memory_share:.0%} may be used; take more devices or fewer bits"
        )
    tensor = algorithm.parallelism.tensor
    flops = kind.peak_flops[algorithm.compute] * factors.compute * tensor
    bandwidth = kind.bandwidth * factors.memory * tensor
    share = parameters(architecture).active / parameters(architecture).total
    sent = 4.0 * architecture.layers * architecture.hidden * (tensor - 1) / tensor
    return ReplicaModel(
        step=RooflineStep(
            fixed=factors.fixed_micros
            + (2 * architecture.layers * factors.message_micros if tensor > 1 else 0.0),
            token=1e6 * flops_per_token(architecture) / flops,
            pair=1e6 * flops_per_pair(architecture) / flops,
            weights=1e6 * weights * share / bandwidth,
            kv=1e6 * kv / bandwidth,
            message=1e6 * sent * algorithm.compute.bits / 8 / kind.link.bytes_per_second,
        ),
        kv_tokens=int(room // kv),
        chunk_tokens=algorithm.chunk_tokens,
        max_batch=algorithm.max_batch,
        prefix_hit=algorithm.prefix_hit,
        devices=devices,
        weight_bytes=int(weights),
    )

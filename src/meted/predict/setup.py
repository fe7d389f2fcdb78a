"""What a prediction for serving is about: a model, how it is run, and on which kind of device."""

from dataclasses import dataclass

from meted.domain.algorithm import ServingAlgorithm
from meted.domain.architecture import Architecture
from meted.domain.device_kind import DeviceKind, Precision


class DoesNotFitError(ValueError):
    """A model does not fit in the memory of the devices it was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One (M, A, kind of R): what a measured step was measured on."""

    architecture: Architecture
    kind: DeviceKind
    algorithm: ServingAlgorithm


def peak(kind: DeviceKind, compute: Precision) -> float:
    """Peak FLOP/s of a kind in a precision; raises ValueError if it has none."""
    value = kind.peak_flops.get(compute)
    if value is None:
        raise ValueError(
            f"{kind.name} has no peak FLOP/s for {compute}, it has "
            f"{', '.join(sorted(kind.peak_flops))}; compute in one of these"
        )
    return value


def kv_shards(one: Architecture, tensor: int) -> int:
    """Over how many devices of a tensor group a token's KV cache is spread: key heads are not cut,
    and a latent vector is kept by each device."""
    return 1 if one.latent is not None else min(tensor, one.kv_heads)


def sparse_experts(one: Architecture) -> int:
    """Routed experts in all layers together."""
    if one.experts is None:
        return 0
    return (one.layers - one.experts.dense_layers) * one.experts.count

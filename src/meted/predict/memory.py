"""Where a replica's memory goes, and how many requests it holds."""

import math
from dataclasses import dataclass

from meted.domain.algorithm import ServingAlgorithm
from meted.domain.architecture import Architecture, ModelKind
from meted.predict.counting import kv_bytes, kv_bytes_per_token, parameters
from meted.predict.setup import DoesNotFitError, Setup, kv_shards, sparse_experts


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaMemory:
    """Bytes on the fullest device of a replica, and what they make of the whole.

    weights: of the draft too. workspace: activations of the largest step. room: left for the KV
    cache. token: of the KV cache, for one token. kv_tokens: what all copies hold together.
    weights_everywhere: on all devices together.
    """

    weights: float
    workspace: float
    room: float
    token: float
    kv_tokens: int
    weights_everywhere: float


def replica_memory(setup: Setup) -> ReplicaMemory:
    """The memory of a replica.

    Weights, workspace and KV cache may fill `memory_share` of a device, which is what vLLM's
    gpu_memory_utilization means. Raises DoesNotFitError if the weights leave no room for one
    token's KV cache.
    """
    one, kind, algorithm = setup.architecture, setup.kind, setup.algorithm
    layout = algorithm.parallelism
    weights, everywhere = _weights(one, algorithm)
    token = _token(one, algorithm)
    draft = algorithm.speculation.draft if algorithm.speculation else None
    if draft is not None:
        drafted, drafted_everywhere = _weights(draft, algorithm)
        weights, everywhere = weights + drafted, everywhere + drafted_everywhere
        token += _token(draft, algorithm)
    workspace = _workspace(one, algorithm)
    usable = kind.memory_bytes * algorithm.memory_share - workspace
    room = usable - weights
    if room < token:
        raise DoesNotFitError(
            f"{one.name} has {everywhere / 1e9:.1f} GB of {algorithm.weights} weights, "
            f"{weights / 1e9:.1f} GB on a device; {layout.devices} x {kind.name} have "
            f"{kind.memory_bytes / 1e9:.1f} GB each, of which {max(0.0, usable) / 1e9:.1f} GB are "
            "left beside the workspace of a step; take more devices or fewer bits"
        )
    kv_tokens = int(layout.data * room / token) if token else algorithm.max_batch * one.positions
    return ReplicaMemory(
        weights=weights,
        workspace=workspace,
        room=room,
        token=token,
        kv_tokens=kv_tokens,
        weights_everywhere=everywhere,
    )


def largest_batch(setup: Setup, context_tokens: int) -> int:
    """Most sequences of this context that the KV cache holds at once, whatever `max_batch` says.

    Layers with sliding attention keep their window only. Models without a KV cache are held by
    `max_batch` alone. Raises DoesNotFitError if the weights do not fit.
    """
    one, algorithm = setup.architecture, setup.algorithm
    memory = replica_memory(setup)
    if not memory.token:
        return algorithm.max_batch
    share = kv_bytes(one, algorithm.kv, context_tokens) / kv_bytes_per_token(one, algorithm.kv)
    return algorithm.parallelism.data * int(memory.room / (memory.token * share))


def _weights(one: Architecture, algorithm: ServingAlgorithm) -> tuple[float, float]:
    """Bytes on the fullest device, and on all of them. Each data copy keeps all but the experts
    that are spread; embedding and head stand on the first and last stage, in 16 bits or more."""
    layout = algorithm.parallelism
    counted = parameters(one)
    stored = algorithm.weights.bits / 8
    experts = sparse_experts(one) * counted.expert * stored
    dense = counted.layers * stored - experts
    outside = (counted.total - counted.layers) * max(16.0, algorithm.weights.bits) / 8
    shards = max(layout.tensor, layout.expert)
    stage = math.ceil(one.layers / layout.pipeline) / one.layers
    ends = outside if layout.pipeline == 1 or one.tied else outside / 2
    device = stage * (dense / layout.tensor + experts / shards) + ends / layout.tensor
    copies = layout.tensor * layout.data / shards
    return device, layout.data * (dense + outside) + copies * experts


def _token(one: Architecture, algorithm: ServingAlgorithm) -> float:
    """Bytes of one token's KV cache on the fullest device."""
    if one.kind is not ModelKind.DECODER:
        return 0.0
    layout = algorithm.parallelism
    stage = math.ceil(one.layers / layout.pipeline) / one.layers
    return kv_bytes_per_token(one, algorithm.kv) * stage / kv_shards(one, layout.tensor)


def _workspace(one: Architecture, algorithm: ServingAlgorithm) -> float:
    """Activations of the largest step: of one layer, since inference keeps no other: the residual
    in and out and its norm, queries, keys and values, the inner feed-forward; and the logits of a
    batch in 32 bits, with the copy that sampling sorts."""
    tensor = algorithm.parallelism.tensor
    ffn = one.ffn if one.experts is None else max(one.ffn, one.experts.active * one.experts.ffn)
    inner = (2 if one.gated else 1) * ffn + (one.heads + 2 * one.kv_heads) * one.head_dim
    width = 3 * one.hidden + inner / tensor
    logits = 0.0
    if one.kind is ModelKind.DECODER:
        logits = 2 * 4.0 * algorithm.max_batch * one.vocab / tensor
    return algorithm.chunk_tokens * width * max(16.0, algorithm.compute.bits) / 8 + logits

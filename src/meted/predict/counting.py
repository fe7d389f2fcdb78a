"""Parameters, FLOPs and KV cache of an architecture: everything that is counted, not measured."""

from dataclasses import dataclass

from meted.domain.architecture import Architecture
from meted.domain.device_kind import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Weights by number. total: kept. active: read for one token (all but unvisited experts).

    embedding: of the total, rows looked up and not multiplied. head: the output matrix, which is
    counted in total once even where it is tied to the embedding.
    layers: in all layers together. layers_active: of them, those a token visits.
    expert: in one routed expert of one layer.
    """

    total: int
    active: int
    embedding: int
    head: int
    layers: int
    layers_active: int
    expert: int


def parameters(architecture: Architecture) -> Parameters:
    """Parameters of a transformer (biases and norms too small to matter are left out)."""
    one = architecture
    attention = _attention(one)
    matrices = 3 if one.gated else 2
    dense = matrices * one.hidden * one.ffn
    if one.experts is None:
        layers = layers_active = one.layers * (attention + dense)
        expert = 0
    else:
        experts = one.experts
        expert = matrices * one.hidden * experts.ffn
        sparse_layers = one.layers - experts.dense_layers
        router = one.hidden * experts.count
        always = one.layers * attention + experts.dense_layers * dense
        always += sparse_layers * (router + experts.shared * expert)
        layers = always + sparse_layers * experts.count * expert
        layers_active = always + sparse_layers * experts.active * expert
    embedding = (one.vocab + one.position_rows) * one.hidden
    head = one.vocab * one.hidden
    kept = embedding if one.tied else embedding + head
    return Parameters(
        total=layers + kept,
        active=layers_active + head,
        embedding=embedding,
        head=head,
        layers=layers,
        layers_active=layers_active,
        expert=expert,
    )


def _attention(one: Architecture) -> int:
    """Parameters of one layer's attention."""
    if one.latent is None:
        width = one.heads * one.head_dim
        return one.hidden * (2 * width + 2 * one.kv_heads * one.head_dim)
    latent = one.latent
    key = latent.nope_dim + latent.rope_dim
    if latent.q_rank:
        query = latent.q_rank * (one.hidden + one.heads * key)
    else:
        query = one.hidden * one.heads * key
    down = one.hidden * (latent.kv_rank + latent.rope_dim)
    up = latent.kv_rank * one.heads * (latent.nope_dim + latent.v_dim)
    return query + down + up + one.heads * latent.v_dim * one.hidden


def kv_elements_per_token(architecture: Architecture) -> int:
    """Numbers that one token adds to the KV cache, over all layers."""
    one = architecture
    if one.latent is not None:
        return one.layers * (one.latent.kv_rank + one.latent.rope_dim)
    return 2 * one.layers * one.kv_heads * one.head_dim


def kv_bytes_per_token(architecture: Architecture, kv: Precision) -> float:
    """Bytes that one token adds to the KV cache."""
    return kv_elements_per_token(architecture) * kv.bits / 8


def weight_bytes(architecture: Architecture, weights: Precision) -> float:
    """Bytes of all weights. Quantisation leaves embedding and head in 16 bits."""
    counted = parameters(architecture)
    outside = counted.total - counted.layers
    return counted.layers * weights.bits / 8 + outside * max(16.0, weights.bits) / 8


def flops_per_token(architecture: Architecture) -> float:
    """Forward FLOPs of one token in the matrices that hold weights: two per active parameter
    (Kaplan et al. 2020), the head included, the embedding's lookup not."""
    return 2.0 * parameters(architecture).active


def flops_per_pair(architecture: Architecture) -> float:
    """Forward FLOPs for one token to attend to one other, over all layers: its score and its part
    of the weighted sum, two each per element of a head."""
    one = architecture
    if one.latent is not None:
        width = 2 * one.latent.kv_rank + one.latent.rope_dim
        return 2.0 * one.layers * one.heads * width
    return 4.0 * one.layers * one.heads * one.head_dim

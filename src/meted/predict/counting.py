"""Parameters, FLOPs and KV cache of an architecture: everything that is counted, not measured."""

from dataclasses import dataclass

from meted.domain.architecture import Architecture, Biases, ModelKind
from meted.domain.device_kind import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Weights by number. total: kept. active: read for one token (all but unvisited experts).

    embedding: of the total, rows looked up and not multiplied. head: the output matrix, which is
    counted in total once even where it is tied to the embedding; 0 for models that generate
    nothing. layers: in all layers together. layers_active: of them, those a token visits.
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
    """Parameters of a transformer, biases and norms included."""
    one = architecture
    every = _attention(one) + _norms(one)
    matrices = 3 if one.gated else 2
    dense = matrices * one.hidden * one.ffn
    if one.biases is Biases.ALL:
        dense += (matrices - 1) * one.ffn + one.hidden
    if one.experts is None:
        layers = layers_active = one.layers * (every + dense)
        expert = 0
    else:
        experts = one.experts
        expert = matrices * one.hidden * experts.ffn
        sparse_layers = one.layers - experts.dense_layers
        router = one.hidden * experts.count
        always = one.layers * every + experts.dense_layers * dense
        always += sparse_layers * (router + experts.shared * expert)
        layers = always + sparse_layers * experts.count * expert
        layers_active = always + sparse_layers * experts.active * expert
    embedding = (one.vocab + one.position_rows) * one.hidden
    head = one.vocab * one.hidden if one.kind is ModelKind.DECODER else 0
    kept = embedding if one.tied else embedding + head
    patches = (one.patch + 1) * one.hidden if one.patch else 0
    return Parameters(
        total=layers + kept + patches + one.extra,
        active=layers_active + head + patches,
        embedding=embedding,
        head=head,
        layers=layers,
        layers_active=layers_active,
        expert=expert,
    )


def _attention(one: Architecture) -> int:
    """Parameters of one layer's attention."""
    if one.latent is None:
        width, kv_width = one.heads * one.head_dim, one.kv_heads * one.head_dim
        biases = 0 if one.biases is Biases.NONE else width + 2 * kv_width
        if one.biases is Biases.ALL:
            biases += one.hidden
        return 2 * one.hidden * (width + kv_width) + biases
    latent = one.latent
    key = latent.nope_dim + latent.rope_dim
    if latent.q_rank:
        query = latent.q_rank * (one.hidden + one.heads * key)
    else:
        query = one.hidden * one.heads * key
    down = one.hidden * (latent.kv_rank + latent.rope_dim)
    up = latent.kv_rank * one.heads * (latent.nope_dim + latent.v_dim)
    return query + down + up + one.heads * latent.v_dim * one.hidden


def _norms(one: Architecture) -> int:
    """Parameters of one layer's norms. Latent vectors have a norm each."""
    width = one.norms * one.hidden
    if one.latent is not None:
        width += one.latent.kv_rank + one.latent.q_rank
    return width + 2 * one.head_dim if one.qk_norm else width


def kv_elements_per_token(architecture: Architecture) -> int:
    """Numbers that one token adds to the KV cache, over all layers."""
    one = architecture
    if one.latent is not None:
        return one.layers * (one.latent.kv_rank + one.latent.rope_dim)
    return 2 * one.layers * one.kv_heads * one.head_dim


def kv_bytes_per_token(architecture: Architecture, kv: Precision) -> float:
    """Bytes that one token adds to the KV cache."""
    return kv_elements_per_token(architecture) * kv.bits / 8


def kv_bytes(architecture: Architecture, kv: Precision, context: int) -> float:
    """Bytes of the KV cache of one sequence of `context` tokens.

    A layer with sliding attention keeps its window only, if the engine frees what is behind it.
    """
    one = architecture
    inside = one.window_layers / one.layers
    kept = context if one.window is None else min(context, one.window)
    return kv_bytes_per_token(one, kv) * (context * (1 - inside) + kept * inside)


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


def prompt_flops_per_pair(architecture: Architecture) -> float:
    """Forward FLOPs of a pair in prefill and training, where latent attention unfolds its keys and
    values (DeepSeek-V2, 2024) instead of absorbing them in the query as decode does."""
    one = architecture
    if one.latent is None:
        return flops_per_pair(one)
    latent = one.latent
    return 2.0 * one.layers * one.heads * (latent.nope_dim + latent.rope_dim + latent.v_dim)


def attended_pairs(tokens: int, window: int | None = None) -> int:
    """Pairs of tokens that causal attention over a sequence looks at, each token also at itself."""
    if window is None or window >= tokens:
        return tokens * (tokens + 1) // 2
    return window * (window + 1) // 2 + (tokens - window) * window


def sequence_flops(architecture: Architecture, tokens: int) -> float:
    """Forward FLOPs of a whole sequence: its matrices, and attention over the pairs that it needs.

    Decoders attend causally, inside windows where layers have them; encoders and vision
    transformers attend from every token to every token.
    """
    one = architecture
    if one.kind is ModelKind.DECODER:
        inside = one.window_layers / one.layers
        pairs = (1 - inside) * attended_pairs(tokens) + inside * attended_pairs(tokens, one.window)
    else:
        pairs = float(tokens * tokens)
    return flops_per_token(one) * tokens + prompt_flops_per_pair(one) * pairs

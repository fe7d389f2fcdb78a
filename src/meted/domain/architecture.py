"""M: what a model is, as far as time, memory and money depend on it."""

from dataclasses import dataclass
from enum import StrEnum


class ModelKind(StrEnum):
    """What a model does with its tokens: generates more, or reads them once."""

    DECODER = "decoder"
    ENCODER = "encoder"
    VISION = "vision"


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of experts in place of the dense feed-forward.

    count: routed experts of a layer. active: routed experts that a token visits. ffn: inner width
    of one expert. shared: experts that every token visits besides. dense_layers: first layers that
    keep a dense feed-forward.
    """

    count: int
    active: int
    ffn: int
    shared: int = 0
    dense_layers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2, 2024): keys and values kept as one latent vector.

    kv_rank: width of the latent. q_rank: width of the query's own latent, 0 for none. rope_dim:
    part of a head that carries the position, kept once for all heads. nope_dim, v_dim: the rest
    of a key head, and a value head.
    """

    kv_rank: int
    q_rank: int
    rope_dim: int
    nope_dim: int
    v_dim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The shape of a transformer. Widths are in elements.

    family: calibrations are shared inside it. ffn: inner width of a dense feed-forward. gated: the
    feed-forward has a third matrix (SwiGLU, GeGLU). tied: the output head is the embedding.
    positions: longest context. position_rows: rows of a learned position table, 0 for rotary.
    window: tokens that a layer with sliding attention looks back, None for all.
    window_layers: layers with sliding attention. source: where the facts come from.
    """

    name: str
    family: str
    kind: ModelKind = ModelKind.DECODER
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    gated: bool
    vocab: int
    tied: bool
    positions: int
    position_rows: int = 0
    experts: Experts | None = None
    latent: LatentAttention | None = None
    window: int | None = None
    window_layers: int = 0
    source: str

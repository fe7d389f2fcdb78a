"""M: what a model is, as far as time, memory and money depend on it."""

from dataclasses import dataclass
from enum import StrEnum


class ModelKind(StrEnum):
    """What a model does with its tokens: generates more, or reads them once."""

    DECODER = "decoder"
    ENCODER = "encoder"
    VISION = "vision"


class Biases(StrEnum):
    """Which matrices of a layer add a bias: none, those of query, key and value, or all."""

    NONE = "none"
    QKV = "qkv"
    ALL = "all"


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

    def __post_init__(self) -> None:
        for name in ("count", "active", "ffn"):
            _expect("experts", name, getattr(self, name), least=1)
        for name in ("shared", "dense_layers"):
            _expect("experts", name, getattr(self, name), least=0)
        if self.active > self.count:
            raise ValueError(
                f"active of experts is {self.active}, expected at most their count, {self.count}"
            )


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

    Small parts, which are counted but cost no time: biases; norms: vectors of width `hidden` in one
    layer's norms (RMSNorm has one, LayerNorm two); qk_norm: queries and keys have norms of their
    own, one head wide. patch: numbers of an image patch that a vision transformer projects into a
    token. extra: parameters outside the layers that are no embedding, head or projection of
    patches (last norm, pooler, classifier, segment table).

    Raises ValueError, naming the fact, if one is impossible.
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
    biases: Biases = Biases.NONE
    norms: int = 2
    qk_norm: bool = False
    patch: int = 0
    extra: int = 0
    source: str

    def __post_init__(self) -> None:
        for name in ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "positions"):
            _expect(self.name, name, getattr(self, name), least=1)
        least = 0 if self.kind is ModelKind.VISION else 1
        _expect(self.name, "vocab", self.vocab, least=least)
        for name in ("position_rows", "window_layers", "norms", "patch", "extra"):
            _expect(self.name, name, getattr(self, name), least=0)
        if self.heads % self.kv_heads:
            raise ValueError(
                f"kv_heads of {self.name} is {self.kv_heads}, expected a divisor of its heads, "
                f"{self.heads}"
            )
        if self.window_layers > self.layers:
            raise ValueError(
                f"window_layers of {self.name} is {self.window_layers}, expected at most its "
                f"layers, {self.layers}"
            )
        if (self.window is None) != (self.window_layers == 0):
            raise ValueError(
                f"window of {self.name} is {self.window} and window_layers {self.window_layers}, "
                "expected both or neither"
            )
        if self.experts is not None and self.experts.dense_layers > self.layers:
            raise ValueError(
                f"dense_layers of {self.name} is {self.experts.dense_layers}, expected at most "
                f"its layers, {self.layers}"
            )


def _expect(what: str, name: str, value: int, *, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} of {what} is {value}, expected {least} or more")

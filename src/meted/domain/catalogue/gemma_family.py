"""Gemma 3: five layers with a sliding window for each that sees all, four norms a layer."""

from meted.domain.architecture import Architecture

_REPORT = "Gemma Team 2025 (arXiv 2503.19786), table 1; config.json of its text model"


def _gemma_3(
    name: str,
    *,
    layers: int,
    hidden: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    ffn: int,
    vocab: int,
    positions: int,
    window: int,
    source: str = _REPORT,
) -> Architecture:
    return Architecture(
        name=name, family="gemma3", layers=layers, hidden=hidden, heads=heads, kv_heads=kv_heads,
        head_dim=head_dim, ffn=ffn, gated=True, vocab=vocab, tied=True, positions=positions,
        window=window, window_layers=layers - layers // 6, norms=4, qk_norm=True, extra=hidden,
        source=source,
    )  # fmt: skip


GEMMA_FAMILY = (
    _gemma_3("gemma-3-270m", layers=18, hidden=640, heads=4, kv_heads=1, head_dim=256, ffn=2048,
             vocab=262_144, positions=32_768, window=512,
             source="Google, Introducing Gemma 3 270M (August 2025); config.json"),
    _gemma_3("gemma-3-1b", layers=26, hidden=1152, heads=4, kv_heads=1, head_dim=256, ffn=6912,
             vocab=262_144, positions=32_768, window=512),
    _gemma_3("gemma-3-27b", layers=62, hidden=5376, heads=32, kv_heads=16, head_dim=128,
             ffn=21504, vocab=262_208, positions=131_072, window=1024),
)  # fmt: skip

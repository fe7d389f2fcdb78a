"""Llama, Mistral, Phi and SmolLM: rotary positions, RMSNorm, SwiGLU."""

from meted.domain.architecture import Architecture


def _llama(
    name: str,
    *,
    layers: int,
    hidden: int,
    heads: int,
    ffn: int,
    positions: int,
    source: str,
    kv_heads: int | None = None,
    head_dim: int = 128,
    family: str = "llama",
    vocab: int = 32_000,
    tied: bool = False,
    window: int | None = None,
) -> Architecture:
    return Architecture(
        name=name, family=family, layers=layers, hidden=hidden, heads=heads,
        kv_heads=heads if kv_heads is None else kv_heads, head_dim=head_dim, ffn=ffn, gated=True,
        vocab=vocab, tied=tied, positions=positions, window=window,
        window_layers=0 if window is None else layers, extra=hidden, source=source,
    )  # fmt: skip


_LLAMA_1 = "Touvron et al. 2023 (arXiv 2302.13971), table 2; widths from the released params.json"
_LLAMA_2 = "Touvron et al. 2023 (arXiv 2307.09288), config.json"
_LLAMA_3 = "Grattafiori et al. 2024 (arXiv 2407.21783), table 3; config.json"
_LLAMA_3_2 = "meta-llama/Llama-3.2 model card (2024), config.json"
_MISTRAL = "Jiang et al. 2023 (arXiv 2310.06825), table 1; config.json"
_PHI_3 = "Abdin et al. 2024 (arXiv 2404.14219), config.json of Phi-3-mini-4k-instruct"
_SMOLLM2 = "Ben Allal et al. 2025 (arXiv 2502.02737), config.json"

LLAMA_FAMILY = (
    _llama("llama-7b", layers=32, hidden=4096, heads=32, ffn=11008, positions=2048,
           source=_LLAMA_1),
    _llama("llama-13b", layers=40, hidden=5120, heads=40, ffn=13824, positions=2048,
           source=_LLAMA_1),
    _llama("llama-33b", layers=60, hidden=6656, heads=52, ffn=17920, positions=2048,
           source=_LLAMA_1),
    _llama("llama-65b", layers=80, hidden=8192, heads=64, ffn=22016, positions=2048,
           source=_LLAMA_1),
    _llama("llama-2-7b", layers=32, hidden=4096, heads=32, ffn=11008, positions=4096,
           source=_LLAMA_2),
    _llama("llama-2-13b", layers=40, hidden=5120, heads=40, ffn=13824, positions=4096,
           source=_LLAMA_2),
    _llama("llama-2-70b", layers=80, hidden=8192, heads=64, kv_heads=8, ffn=28672, positions=4096,
           source=_LLAMA_2),
    _llama("llama-3-8b", layers=32, hidden=4096, heads=32, kv_heads=8, ffn=14336, vocab=128_256,
           positions=8192, source=_LLAMA_3),
    _llama("llama-3-70b", layers=80, hidden=8192, heads=64, kv_heads=8, ffn=28672, vocab=128_256,
           positions=8192, source=_LLAMA_3),
    _llama("llama-3.1-8b", layers=32, hidden=4096, heads=32, kv_heads=8, ffn=14336, vocab=128_256,
           positions=131_072, source=_LLAMA_3),
    _llama("llama-3.1-70b", layers=80, hidden=8192, heads=64, kv_heads=8, ffn=28672, vocab=128_256,
           positions=131_072, source=_LLAMA_3),
    _llama("llama-3.1-405b", layers=126, hidden=16384, heads=128, kv_heads=8, ffn=53248,
           vocab=128_256, positions=131_072, source=_LLAMA_3),
    _llama("llama-3.2-1b", layers=16, hidden=2048, heads=32, kv_heads=8, head_dim=64, ffn=8192,
           vocab=128_256, tied=True, positions=131_072, source=_LLAMA_3_2),
    _llama("llama-3.2-3b", layers=28, hidden=3072, heads=24, kv_heads=8, ffn=8192, vocab=128_256,
           tied=True, positions=131_072, source=_LLAMA_3_2),
    _llama("mistral-7b-v0.1", family="mistral", layers=32, hidden=4096, heads=32, kv_heads=8,
           ffn=14336, positions=32_768, window=4096, source=_MISTRAL),
    _llama("mistral-7b-v0.2", family="mistral", layers=32, hidden=4096, heads=32, kv_heads=8,
           ffn=14336, positions=32_768,
           source="mistralai/Mistral-7B-Instruct-v0.2 (2024), config.json: no sliding window"),
    _llama("mistral-7b-v0.3", family="mistral", layers=32, hidden=4096, heads=32, kv_heads=8,
           ffn=14336, vocab=32_768, positions=32_768,
           source="mistralai/Mistral-7B-v0.3 (2024), config.json: no sliding window"),
    _llama("phi-3-mini", family="phi3", layers=32, hidden=3072, heads=32, head_dim=96, ffn=8192,
           vocab=32_064, positions=4096, window=2047, source=_PHI_3),
    _llama("smollm2-135m", layers=30, hidden=576, heads=9, kv_heads=3, head_dim=64, ffn=1536,
           vocab=49_152, tied=True, positions=8192, source=_SMOLLM2),
    _llama("smollm2-360m", layers=32, hidden=960, heads=15, kv_heads=5, head_dim=64, ffn=2560,
           vocab=49_152, tied=True, positions=8192, source=_SMOLLM2),
    _llama("smollm2-1.7b", layers=24, hidden=2048, heads=32, head_dim=64, ffn=8192, vocab=49_152,
           tied=True, positions=8192, source=_SMOLLM2),
)  # fmt: skip

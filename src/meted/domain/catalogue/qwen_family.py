"""Qwen2.5 (biases on query, key and value) and Qwen3 (norms on query and key, also in mixtures)."""

from meted.domain.architecture import Architecture, Biases, Experts

_QWEN_2_5 = "Qwen Team 2024 (arXiv 2412.15115), table 1; config.json"
_QWEN_3 = "Qwen Team 2025 (arXiv 2505.09388), tables 1 and 2; config.json"


def _qwen_2_5(
    name: str,
    *,
    layers: int,
    hidden: int,
    heads: int,
    kv_heads: int,
    ffn: int,
    tied: bool,
    head_dim: int = 128,
) -> Architecture:
    return Architecture(
        name=name, family="qwen2", layers=layers, hidden=hidden, heads=heads, kv_heads=kv_heads,
        head_dim=head_dim, ffn=ffn, gated=True, vocab=151_936 if hidden < 3_000 else 152_064,
        tied=tied, positions=32_768 if tied else 131_072, biases=Biases.QKV, extra=hidden,
        source=_QWEN_2_5,
    )  # fmt: skip


def _qwen_3(
    name: str,
    *,
    layers: int,
    hidden: int,
    heads: int,
    kv_heads: int,
    ffn: int,
    tied: bool = False,
    experts: Experts | None = None,
) -> Architecture:
    return Architecture(
        name=name, family="qwen3", layers=layers, hidden=hidden, heads=heads, kv_heads=kv_heads,
        head_dim=128, ffn=ffn, gated=True, vocab=151_936, tied=tied, positions=40_960,
        qk_norm=True, experts=experts, extra=hidden, source=_QWEN_3,
    )  # fmt: skip


QWEN_FAMILY = (
    _qwen_2_5("qwen2.5-0.5b", layers=24, hidden=896, heads=14, kv_heads=2, head_dim=64, ffn=4864,
              tied=True),
    _qwen_2_5("qwen2.5-1.5b", layers=28, hidden=1536, heads=12, kv_heads=2, ffn=8960, tied=True),
    _qwen_2_5("qwen2.5-3b", layers=36, hidden=2048, heads=16, kv_heads=2, ffn=11008, tied=True),
    _qwen_2_5("qwen2.5-7b", layers=28, hidden=3584, heads=28, kv_heads=4, ffn=18944, tied=False),
    _qwen_2_5("qwen2.5-14b", layers=48, hidden=5120, heads=40, kv_heads=8, ffn=13824, tied=False),
    _qwen_2_5("qwen2.5-32b", layers=64, hidden=5120, heads=40, kv_heads=8, ffn=27648, tied=False),
    _qwen_2_5("qwen2.5-72b", layers=80, hidden=8192, heads=64, kv_heads=8, ffn=29568, tied=False),
    _qwen_3("qwen3-0.6b", layers=28, hidden=1024, heads=16, kv_heads=8, ffn=3072, tied=True),
    _qwen_3("qwen3-1.7b", layers=28, hidden=2048, heads=16, kv_heads=8, ffn=6144, tied=True),
    _qwen_3("qwen3-4b", layers=36, hidden=2560, heads=32, kv_heads=8, ffn=9728, tied=True),
    _qwen_3("qwen3-8b", layers=36, hidden=4096, heads=32, kv_heads=8, ffn=12288),
    _qwen_3("qwen3-14b", layers=40, hidden=5120, heads=40, kv_heads=8, ffn=17408),
    _qwen_3("qwen3-32b", layers=64, hidden=5120, heads=64, kv_heads=8, ffn=25600),
    _qwen_3("qwen3-30b-a3b", layers=48, hidden=2048, heads=32, kv_heads=4, ffn=6144,
            experts=Experts(count=128, active=8, ffn=768)),
    _qwen_3("qwen3-235b-a22b", layers=94, hidden=4096, heads=64, kv_heads=4, ffn=12288,
            experts=Experts(count=128, active=8, ffn=1536)),
)  # fmt: skip

"""Mixtures of experts: Mixtral and DeepSeek."""

from meted.domain.architecture import Architecture, Experts, LatentAttention

_MIXTRAL = "Jiang et al. 2024 (arXiv 2401.04088), table 1; config.json"

MIXTURES = (
    Architecture(
        name="mixtral-8x7b", family="mixtral", layers=32, hidden=4096, heads=32, kv_heads=8,
        head_dim=128, ffn=14336, gated=True, vocab=32_000, tied=False, positions=32_768,
        experts=Experts(count=8, active=2, ffn=14336), extra=4096, source=_MIXTRAL,
    ),
    Architecture(
        name="mixtral-8x22b", family="mixtral", layers=56, hidden=6144, heads=48, kv_heads=8,
        head_dim=128, ffn=16384, gated=True, vocab=32_000, tied=False, positions=65_536,
        experts=Experts(count=8, active=2, ffn=16384), extra=6144,
        source="mistralai/Mixtral-8x22B-v0.1 (2024), config.json",
    ),
    Architecture(
        name="deepseek-v2", family="deepseek", layers=60, hidden=5120, heads=128, kv_heads=128,
        head_dim=128, ffn=12288, gated=True, vocab=102_400, tied=False, positions=163_840,
        experts=Experts(count=160, active=6, ffn=1536, shared=2, dense_layers=1),
        latent=LatentAttention(kv_rank=512, q_rank=1536, rope_dim=64, nope_dim=128, v_dim=128),
        extra=5120, source="DeepSeek-AI 2024 (arXiv 2405.04434), section 3.1.2; config.json",
    ),
    Architecture(
        name="deepseek-v2-lite", family="deepseek", layers=27, hidden=2048, heads=16, kv_heads=16,
        head_dim=128, ffn=10944, gated=True, vocab=102_400, tied=False, positions=163_840,
        experts=Experts(count=64, active=6, ffn=1408, shared=2, dense_layers=1),
        latent=LatentAttention(kv_rank=512, q_rank=0, rope_dim=64, nope_dim=128, v_dim=128),
        extra=2048, source="DeepSeek-AI 2024 (arXiv 2405.04434), appendix B; config.json",
    ),
    Architecture(
        name="deepseek-v3", family="deepseek", layers=61, hidden=7168, heads=128, kv_heads=128,
        head_dim=128, ffn=18432, gated=True, vocab=129_280, tied=False, positions=163_840,
        experts=Experts(count=256, active=8, ffn=2048, shared=1, dense_layers=3),
        latent=LatentAttention(kv_rank=512, q_rank=1536, rope_dim=64, nope_dim=128, v_dim=128),
        extra=7168, source="DeepSeek-AI 2024 (arXiv 2412.19437), section 4.2; config.json; without "
        "the module that predicts a second token",
    ),
)  # fmt: skip

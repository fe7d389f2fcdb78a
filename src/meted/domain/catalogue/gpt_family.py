"""GPT-2, GPT-3, OPT, BLOOM and Megatron-LM's GPTs: LayerNorm, biases, a feed-forward 4 wide."""

from meted.domain.architecture import Architecture, Biases


def _gpt(
    name: str,
    *,
    family: str,
    layers: int,
    hidden: int,
    heads: int,
    vocab: int,
    positions: int,
    source: str,
    position_rows: int | None = None,
    extra_norms: int = 1,
) -> Architecture:
    return Architecture(
        name=name, family=family, layers=layers, hidden=hidden, heads=heads, kv_heads=heads,
        head_dim=hidden // heads, ffn=4 * hidden, gated=False, vocab=vocab, tied=True,
        positions=positions, position_rows=positions if position_rows is None else position_rows,
        biases=Biases.ALL, norms=4, extra=extra_norms * 2 * hidden, source=source,
    )  # fmt: skip


def _gpt_2(name: str, *, layers: int, hidden: int, heads: int) -> Architecture:
    return _gpt(name, family="gpt", layers=layers, hidden=hidden, heads=heads, vocab=50_257,
                positions=1024, source="Radford et al. 2019, table 2; config.json")  # fmt: skip


def _gpt_3(name: str, *, layers: int, hidden: int, heads: int, note: str = "") -> Architecture:
    return _gpt(name, family="gpt", layers=layers, hidden=hidden, heads=heads, vocab=50_257,
                positions=2048,
                source=f"Brown et al. 2020 (arXiv 2005.14165), table 2.1{note}")  # fmt: skip


def _opt(name: str, *, layers: int, hidden: int, heads: int) -> Architecture:
    # OPT's table of positions begins with two rows that it never uses.
    return _gpt(name, family="opt", layers=layers, hidden=hidden, heads=heads, vocab=50_272,
                positions=2048, position_rows=2050,
                source="Zhang et al. 2022 (arXiv 2205.01068), table 1; config.json")  # fmt: skip


def _bloom(name: str, *, layers: int, hidden: int, heads: int) -> Architecture:
    # Positions enter by ALiBi, without a table; the embedding has a norm of its own.
    return _gpt(name, family="bloom", layers=layers, hidden=hidden, heads=heads, vocab=250_880,
                positions=2048, position_rows=0, extra_norms=2,
                source="Le Scao et al. 2022 (arXiv 2211.05100), table 3; config.json")  # fmt: skip


def _megatron(name: str, *, layers: int, hidden: int, heads: int) -> Architecture:
    return _gpt(name, family="gpt", layers=layers, hidden=hidden, heads=heads, vocab=51_200,
                positions=2048,
                source="Narayanan et al. 2021 (arXiv 2104.04473), table 1")  # fmt: skip


GPT_FAMILY = (
    _gpt_2("gpt2-small", layers=12, hidden=768, heads=12),
    _gpt_2("gpt2-medium", layers=24, hidden=1024, heads=16),
    _gpt_2("gpt2-large", layers=36, hidden=1280, heads=20),
    _gpt_2("gpt2-xl", layers=48, hidden=1600, heads=25),
    _gpt_3("gpt3-1.3b", layers=24, hidden=2048, heads=16,
           note=", whose 24 heads of 128 do not make its width 2048; 16 do"),
    _gpt_3("gpt3-6.7b", layers=32, hidden=4096, heads=32),
    _gpt_3("gpt3-13b", layers=40, hidden=5120, heads=40,
           note=", whose width 5140 is no multiple of its 40 heads of 128; 5120 is"),
    _gpt_3("gpt3-175b", layers=96, hidden=12288, heads=96),
    _opt("opt-125m", layers=12, hidden=768, heads=12),
    _opt("opt-1.3b", layers=24, hidden=2048, heads=32),
    _opt("opt-6.7b", layers=32, hidden=4096, heads=32),
    _opt("opt-13b", layers=40, hidden=5120, heads=40),
    _opt("opt-30b", layers=48, hidden=7168, heads=56),
    _opt("opt-66b", layers=64, hidden=9216, heads=72),
    _opt("opt-175b", layers=96, hidden=12288, heads=96),
    _bloom("bloom-7.1b", layers=30, hidden=4096, heads=32),
    _bloom("bloom-176b", layers=70, hidden=14336, heads=112),
    _megatron("megatron-1.7b", layers=24, hidden=2304, heads=24),
    _megatron("megatron-3.6b", layers=30, hidden=3072, heads=32),
    _megatron("megatron-7.5b", layers=36, hidden=4096, heads=32),
    _megatron("megatron-18.4b", layers=40, hidden=6144, heads=48),
    _megatron("megatron-39.1b", layers=48, hidden=8192, heads=64),
    _megatron("megatron-76.1b", layers=60, hidden=10240, heads=80),
    _megatron("megatron-145.6b", layers=80, hidden=12288, heads=96),
    _megatron("megatron-310.1b", layers=96, hidden=16384, heads=128),
    _megatron("megatron-529.6b", layers=105, hidden=20480, heads=128),
    _megatron("megatron-1t", layers=128, hidden=25600, heads=160),
)  # fmt: skip

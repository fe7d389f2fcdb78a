"""Models that read once: BERT and MiniLM, and vision transformers."""

from meted.domain.architecture import Architecture, Biases, ModelKind

_IMAGENET_CLASSES = 1000


def _bert(
    name: str,
    *,
    layers: int,
    hidden: int,
    heads: int,
    source: str,
    vocab: int = 30_522,
    position_rows: int = 512,
    segments: int = 2,
) -> Architecture:
    # Beside the layers: the table of segments, the embedding's norm, and the pooler.
    extra = segments * hidden + 2 * hidden + hidden * hidden + hidden
    return Architecture(
        name=name, family="bert", kind=ModelKind.ENCODER, layers=layers, hidden=hidden,
        heads=heads, kv_heads=heads, head_dim=hidden // heads, ffn=4 * hidden, gated=False,
        vocab=vocab, tied=True, positions=512, position_rows=position_rows, biases=Biases.ALL,
        norms=4, extra=extra, source=source,
    )  # fmt: skip


def _vit(name: str, *, layers: int, hidden: int, heads: int, patch: int) -> Architecture:
    tokens = (224 // patch) ** 2 + 1
    # Beside the layers: the class token, the last norm, and the classifier.
    extra = hidden + 2 * hidden + _IMAGENET_CLASSES * (hidden + 1)
    return Architecture(
        name=name, family="vit", kind=ModelKind.VISION, layers=layers, hidden=hidden, heads=heads,
        kv_heads=heads, head_dim=hidden // heads, ffn=4 * hidden, gated=False, vocab=0, tied=True,
        positions=tokens, position_rows=tokens, biases=Biases.ALL, norms=4,
        patch=3 * patch * patch, extra=extra,
        source="Dosovitskiy et al. 2021 (arXiv 2010.11929), table 1; 224 pixels, 1000 classes",
    )  # fmt: skip


_BERT = "Devlin et al. 2019 (arXiv 1810.04805), section 3; config.json"
_MINILM = "Wang et al. 2020 (arXiv 2002.10957); config.json of sentence-transformers/{}"

ENCODERS = (
    _bert("bert-base", layers=12, hidden=768, heads=12, source=_BERT),
    _bert("bert-large", layers=24, hidden=1024, heads=16, source=_BERT),
    _bert("roberta-base", layers=12, hidden=768, heads=12, vocab=50_265, position_rows=514,
          segments=1, source="Liu et al. 2019 (arXiv 1907.11692), config.json"),
    _bert("all-minilm-l6-v2", layers=6, hidden=384, heads=12,
          source=_MINILM.format("all-MiniLM-L6-v2")),
    _bert("all-minilm-l12-v2", layers=12, hidden=384, heads=12,
          source=_MINILM.format("all-MiniLM-L12-v2")),
    _vit("vit-b-16", layers=12, hidden=768, heads=12, patch=16),
    _vit("vit-l-16", layers=24, hidden=1024, heads=16, patch=16),
    _vit("vit-h-14", layers=32, hidden=1280, heads=16, patch=14),
)  # fmt: skip

"""config.json of models with LayerNorm and biases: GPTs, BERTs and vision transformers.

What a key means when it is missing is what transformers 4.57 takes then.
"""

from dataclasses import replace

from meted.domain.architecture import Architecture, Biases, ModelKind
from meted.live.facts.described import Described


def _classic(
    config: Described,
    name: str,
    *,
    family: str,
    hidden: int,
    layers: int,
    heads: int,
    ffn: int,
    positions: int,
) -> Architecture:
    return Architecture(
        name=name,
        family=family,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=heads,
        head_dim=hidden // max(1, heads),
        ffn=ffn,
        gated=False,
        vocab=config.integer("vocab_size"),
        tied=config.flag("tie_word_embeddings", default=True),
        positions=positions,
        biases=Biases.ALL,
        norms=4,
        extra=2 * hidden,
        source=f"config.json of {name}",
    )


def gpt2(config: Described, name: str) -> Architecture:
    hidden = config.integer("n_embd", "hidden_size")
    positions = config.integer("n_positions", "max_position_embeddings")
    one = _classic(
        config, name, family="gpt", hidden=hidden, positions=positions,
        layers=config.integer("n_layer", "num_hidden_layers"),
        heads=config.integer("n_head", "num_attention_heads"),
        ffn=config.integer("n_inner", default=4 * hidden),
    )  # fmt: skip
    return replace(one, position_rows=positions)


def gpt_neox(config: Described, name: str) -> Architecture:
    one = _named(config, name, family="gpt_neox", ffn=config.integer("intermediate_size"))
    return replace(one, tied=config.flag("tie_word_embeddings", default=False))


def opt(config: Described, name: str) -> Architecture:
    one = _named(config, name, family="opt", ffn=config.integer("ffn_dim"))
    if config.integer("word_embed_proj_dim", default=one.hidden) != one.hidden:
        raise config.wrong("word_embed_proj_dim", f"the hidden_size, {one.hidden}")
    # OPT's table of positions begins with two rows that it never uses.
    return replace(one, position_rows=one.positions + 2)


def _named(config: Described, name: str, *, family: str, ffn: int) -> Architecture:
    return _classic(
        config, name, family=family, ffn=ffn,
        hidden=config.integer("hidden_size"),
        layers=config.integer("num_hidden_layers"),
        heads=config.integer("num_attention_heads"),
        positions=config.integer("max_position_embeddings"),
    )  # fmt: skip


def bloom(config: Described, name: str) -> Architecture:
    hidden = config.integer("hidden_size", "n_embed")
    one = _classic(
        config, name, family="bloom", hidden=hidden, ffn=4 * hidden,
        layers=config.integer("num_hidden_layers", "n_layer"),
        heads=config.integer("num_attention_heads", "n_head"),
        # ALiBi has no longest context; this is the longest that it was trained on.
        positions=config.integer("seq_length", default=2048),
    )  # fmt: skip
    # The embedding has a norm of its own.
    return replace(one, extra=4 * hidden)


def falcon(config: Described, name: str) -> Architecture:
    hidden = config.integer("hidden_size")
    heads = config.integer("num_attention_heads")
    new = config.flag("new_decoder_architecture", default=False)
    one = _classic(
        config, name, family="falcon", hidden=hidden, heads=heads,
        layers=config.integer("num_hidden_layers"),
        ffn=config.integer("ffn_hidden_size", default=4 * hidden),
        positions=config.integer("max_position_embeddings", default=2048),
    )  # fmt: skip
    kv_heads = heads
    if new:
        kv_heads = config.integer("num_kv_heads", default=heads)
    elif config.flag("multi_query", default=True):
        kv_heads = 1
    parallel = config.flag("parallel_attn", default=True)
    one_norm = parallel and config.integer("num_ln_in_parallel_attn", default=2 if new else 1) == 1
    biased = config.flag("bias", default=False)
    return replace(
        one,
        kv_heads=kv_heads,
        norms=2 if one_norm else 4,
        biases=Biases.ALL if biased else Biases.NONE,
    )


def bert(config: Described, name: str) -> Architecture:
    one = _named(config, name, family="bert", ffn=config.integer("intermediate_size"))
    rows = one.positions
    # RoBERTa's positions begin behind the index of its padding.
    padded = config.text("model_type") in ("roberta", "xlm-roberta")
    segments = config.integer("type_vocab_size", default=2)
    # Beside the layers: the table of segments, the embedding's norm, and the pooler.
    extra = segments * one.hidden + 2 * one.hidden + one.hidden * (one.hidden + 1)
    return replace(
        one,
        kind=ModelKind.ENCODER,
        tied=True,
        positions=rows - 2 if padded else rows,
        position_rows=rows,
        extra=extra,
    )


def vit(config: Described, name: str) -> Architecture:
    hidden = config.integer("hidden_size")
    heads = config.integer("num_attention_heads")
    patch = config.integer("patch_size")
    tokens = (config.integer("image_size") // max(1, patch)) ** 2 + 1
    if any("Classification" in str(one) for one in config.items("architectures")):
        labels = config.inner("id2label")
        classes = config.integer("num_labels", default=2 if labels is None else len(labels.values))
        top = classes * (hidden + 1)
    else:
        top = hidden * (hidden + 1)
    return Architecture(
        name=name,
        family="vit",
        kind=ModelKind.VISION,
        layers=config.integer("num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=heads,
        head_dim=hidden // max(1, heads),
        ffn=config.integer("intermediate_size"),
        gated=False,
        vocab=0,
        tied=True,
        positions=tokens,
        position_rows=tokens,
        biases=Biases.ALL if config.flag("qkv_bias", default=True) else Biases.NONE,
        norms=4,
        patch=config.integer("num_channels", default=3) * patch * patch,
        # Beside the layers: the class token, the last norm, and the classifier or pooler.
        extra=3 * hidden + top,
        source=f"config.json of {name}",
    )

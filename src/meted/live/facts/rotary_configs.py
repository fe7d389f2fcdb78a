"""config.json of models with rotary positions, RMSNorm and a gated feed-forward.

What a key means when it is missing is what transformers 4.57 takes then.
"""

from dataclasses import replace

from meted.domain.architecture import Architecture, Biases, Experts, LatentAttention
from meted.live.facts.described import Described
from meted.live.facts.errors import FactError

SLIDING = "sliding_attention"


def llama(config: Described, name: str, family: str = "llama") -> Architecture:
    hidden = config.integer("hidden_size")
    heads = config.integer("num_attention_heads")
    layers = config.integer("num_hidden_layers")
    biased = config.flag("attention_bias", default=False)
    return Architecture(
        name=name,
        family=family,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=config.integer("num_key_value_heads", default=heads),
        head_dim=config.integer("head_dim", default=hidden // max(1, heads)),
        ffn=config.integer("intermediate_size"),
        gated=True,
        vocab=config.integer("vocab_size"),
        tied=config.flag("tie_word_embeddings", default=False),
        positions=config.integer("max_position_embeddings"),
        biases=Biases.QKV if biased else Biases.NONE,
        # The last norm; where attention has biases, its output has one, too.
        extra=hidden + (layers * hidden if biased else 0),
        source=f"config.json of {name}",
    )


def _windowed(one: Architecture, config: Described, layers: int, default: int = 0) -> Architecture:
    """With sliding attention in so many layers, or in those that `layer_types` names."""
    window = config.integer("sliding_window", default=default)
    kinds = config.items("layer_types")
    if kinds:
        layers = sum(kind == SLIDING for kind in kinds)
    if not window or not layers:
        return one
    return replace(one, window=window, window_layers=layers)


def mistral(config: Described, name: str) -> Architecture:
    one = llama(config, name, "mistral")
    # Null says no window; a config without the key is older than that and means 4096.
    default = 0 if "sliding_window" in config.values else 4096
    return _windowed(one, config, one.layers, default)


def mixtral(config: Described, name: str) -> Architecture:
    one = replace(
        llama(config, name, "mixtral"),
        experts=Experts(
            count=config.integer("num_local_experts"),
            active=config.integer("num_experts_per_tok"),
            ffn=config.integer("intermediate_size"),
        ),
    )
    return _windowed(one, config, one.layers)


def phi3(config: Described, name: str) -> Architecture:
    one = llama(config, name, "phi3")
    return _windowed(one, config, one.layers)


def qwen2(config: Described, name: str) -> Architecture:
    return replace(_qwen_windowed(llama(config, name, "qwen2"), config), biases=Biases.QKV)


def qwen3(config: Described, name: str) -> Architecture:
    head_dim = config.integer("head_dim", default=128)
    one = replace(llama(config, name, "qwen3"), qk_norm=True, head_dim=head_dim)
    return _qwen_windowed(one, config)


def _qwen_windowed(one: Architecture, config: Described) -> Architecture:
    if not config.flag("use_sliding_window", default=False):
        return one
    before = config.integer("max_window_layers", default=28)
    return _windowed(one, config, max(0, one.layers - before), 4096)


def qwen2_moe(config: Described, name: str) -> Architecture:
    ffn = config.integer("moe_intermediate_size")
    wide = config.integer("shared_expert_intermediate_size")
    if ffn < 1 or wide % ffn:
        raise config.wrong("shared_expert_intermediate_size", f"a multiple of {ffn}")
    one = qwen2(config, name)
    # Each layer weighs its shared expert by a gate as wide as the model.
    extra = one.extra + one.layers * one.hidden
    return replace(one, experts=_qwen_experts(config, shared=wide // ffn), extra=extra)


def qwen3_moe(config: Described, name: str) -> Architecture:
    return replace(qwen3(config, name), experts=_qwen_experts(config, shared=0))


def _qwen_experts(config: Described, *, shared: int) -> Experts:
    if config.integer("decoder_sparse_step", default=1) != 1:
        raise config.wrong("decoder_sparse_step", "1, experts in every layer")
    dense = config.items("mlp_only_layers")
    if sorted(dense) != list(range(len(dense))):
        raise config.wrong("mlp_only_layers", "the first layers, if any")
    return Experts(
        count=config.integer("num_experts"),
        active=config.integer("num_experts_per_tok"),
        ffn=config.integer("moe_intermediate_size"),
        shared=shared,
        dense_layers=len(dense),
    )


def gemma2(config: Described, name: str) -> Architecture:
    one = replace(
        llama(config, name, "gemma2"),
        norms=4,
        tied=config.flag("tie_word_embeddings", default=True),
        head_dim=config.integer("head_dim", default=256),
    )
    return _windowed(one, config, (one.layers + 1) // 2, 4096)


_GEMMA_3 = {
    "vocab_size": 262_208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131_072,
    "tie_word_embeddings": True,
}
"""What Gemma 3's configurations leave out, because it is the library's default."""


def gemma3(config: Described, name: str) -> Architecture:
    full = Described(title=config.title, values={**_GEMMA_3, **config.values})
    one = replace(llama(full, name, "gemma3"), norms=4, qk_norm=True)
    every = full.integer("sliding_window_pattern", "_sliding_window_pattern", default=6)
    if every < 1:
        raise full.wrong("sliding_window_pattern", "1 or more")
    return _windowed(one, full, one.layers - one.layers // every, 4096)


def deepseek(config: Described, name: str) -> Architecture:
    one = llama(config, name, "deepseek")
    if config.integer("moe_layer_freq", default=1) != 1:
        raise FactError(
            f"moe_layer_freq of {config.title} is {config.values['moe_layer_freq']}, expected 1; "
            "describe the model in a facts file"
        )
    nope = config.integer("qk_nope_head_dim")
    return replace(
        one,
        head_dim=nope,
        latent=LatentAttention(
            kv_rank=config.integer("kv_lora_rank"),
            q_rank=config.integer("q_lora_rank", default=0),
            rope_dim=config.integer("qk_rope_head_dim"),
            nope_dim=nope,
            v_dim=config.integer("v_head_dim"),
        ),
        experts=Experts(
            count=config.integer("n_routed_experts"),
            active=config.integer("num_experts_per_tok"),
            ffn=config.integer("moe_intermediate_size"),
            shared=config.integer("n_shared_experts", default=0),
            dense_layers=config.integer("first_k_dense_replace", default=0),
        ),
    )

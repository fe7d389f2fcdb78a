"""How a request's sampling reaches the pipeline, and what the checkpoint's authors recommend."""
# pyright: reportUnknownMemberType=false

import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import openvino_genai as genai

from meted.domain.request import Sampling

SEEDS = 1 << 32


def generation_config(sampling: Sampling, *, max_tokens: int, ends: Sequence[int]) -> Any:
    """The pipeline's form of a request's sampling; temperature 0 is greedy."""
    config: Any = genai.GenerationConfig()
    config.max_new_tokens = max_tokens
    config.min_new_tokens = min(sampling.min_tokens, max_tokens)
    config.ignore_eos = sampling.ignore_eos
    config.stop_token_ids = set() if sampling.ignore_eos else set(ends)
    config.presence_penalty = sampling.presence_penalty
    config.frequency_penalty = sampling.frequency_penalty
    config.repetition_penalty = sampling.repetition_penalty
    temperature = 1.0 if sampling.temperature is None else sampling.temperature
    config.do_sample = temperature > 0
    if config.do_sample:
        config.temperature = temperature
        config.top_p = 1.0 if sampling.top_p is None else sampling.top_p
        if sampling.top_k is not None and sampling.top_k > 0:
            config.top_k = sampling.top_k
        seed = secrets.randbelow(SEEDS) if sampling.seed is None else sampling.seed % SEEDS
        config.rng_seed = seed
    return config


class Recommended(msgspec.Struct, frozen=True):
    """What a checkpoint's generation_config.json recommends; as vLLM does, it fills what a
    request leaves open."""

    eos_token_id: int | list[int] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None

    def complete(self, sampling: Sampling) -> Sampling:
        """The sampling with its open parts filled."""
        return replace(
            sampling,
            temperature=self.temperature if sampling.temperature is None else sampling.temperature,
            top_p=self.top_p if sampling.top_p is None else sampling.top_p,
            top_k=self.top_k if sampling.top_k is None else sampling.top_k,
        )


def read_recommended(folder: Path) -> Recommended:
    path = folder / "generation_config.json"
    if not path.exists():
        return Recommended()
    return msgspec.json.decode(path.read_bytes(), type=Recommended)


def end_tokens(recommended: Recommended, tokenizer: Any) -> tuple[int, ...]:
    """Tokens that end an answer: the tokenizer's, and those that the checkpoint names."""
    ends = {int(tokenizer.get_eos_token_id())}
    found = recommended.eos_token_id
    ends.update([found] if isinstance(found, int) else found or [])
    return tuple(sorted(one for one in ends if one >= 0))

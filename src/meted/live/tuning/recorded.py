"""Recorded requests with prompts to replay: texts of the recorded lengths, prefixes shared."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from meted.domain.units import Micros, Tokens
from meted.predict.batching import Arrival

Ids = Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A request to replay. at: after the first. prompt: its text, of prompt_tokens, of which
    cached_tokens were found in a prefix cache. output_tokens: to generate."""

    at: Micros
    prompt: str
    prompt_tokens: Tokens
    output_tokens: Tokens
    cached_tokens: Tokens = Tokens(0)


def with_prompts(
    arrivals: Sequence[Arrival],
    text: Ids,
    decode: Callable[[Ids], str],
    *,
    seed: int = 0,
) -> list[Recorded]:
    """Prompts cut from a text of the user's, as long as recorded: the books keep lengths only.

    text: token ids, at least as many as the longest prompt has. A request that found
    `cached_tokens` in the prefix cache begins with so many tokens of one passage that all share;
    the rest is a passage of its own. decode: token ids to text.
    Raises ValueError if the text is too short.
    """
    longest = max((one.prompt_tokens for one in arrivals), default=0)
    if len(text) <= longest:
        raise ValueError(
            f"the text has {len(text)} tokens and the longest prompt {longest}; give a longer text"
        )
    draw = random.Random(seed)
    shared = text[:longest]
    found: list[Recorded] = []
    for one in arrivals:
        own = one.prompt_tokens - one.cached_tokens
        begin = draw.randrange(len(text) - own)
        prompt = [*shared[: one.cached_tokens], *text[begin : begin + own]]
        found.append(
            Recorded(
                at=one.at,
                prompt=decode(prompt),
                prompt_tokens=Tokens(one.prompt_tokens),
                output_tokens=Tokens(one.output_tokens),
                cached_tokens=Tokens(one.cached_tokens),
            )
        )
    return found

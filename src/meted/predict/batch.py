"""The steps of a batch of equal requests that arrive together, under chunked prefill."""

from collections.abc import Sequence
from dataclasses import dataclass

from meted.predict.step_time import StepWork


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Equal requests that arrive together. prompt, output: tokens of each request."""

    requests: int
    prompt: int
    output: int

    def __post_init__(self) -> None:
        for name in ("requests", "prompt", "output"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")

    def steady_step(self) -> StepWork:
        """The decode step of all requests in the middle of their answers."""
        context = self.requests * (self.prompt + self.output // 2)
        return StepWork(prefill_tokens=0, decode_tokens=self.requests, context_tokens=context)


def prefill_steps(batch: Batch, chunk_tokens: int) -> Sequence[StepWork]:
    """The steps until every request has its first token.

    As the engines schedule it (Sarathi, Agrawal et al. 2023): in each step first a token for every
    request that generates, then prompts in order up to `chunk_tokens` tokens in all.
    """
    left = [batch.prompt] * batch.requests
    made = [0] * batch.requests
    steps: list[StepWork] = []
    while left[-1]:
        decode = context = prefill = attended = 0
        for index in range(batch.requests):
            if made[index] and made[index] < batch.output and decode < chunk_tokens - 1:
                decode += 1
                context += batch.prompt + made[index]
                made[index] += 1
        room = chunk_tokens - decode
        for index in range(batch.requests):
            tokens = min(room, left[index])
            if tokens:
                done = batch.prompt - left[index] + tokens
                attended += tokens * (2 * done - tokens) // 2
                prefill += tokens
                room -= tokens
                left[index] -= tokens
                if not left[index]:
                    made[index] = 1
                    decode += 1
        steps.append(
            StepWork(
                prefill_tokens=prefill,
                decode_tokens=decode,
                context_tokens=context,
                attended=attended,
            )
        )
    return steps

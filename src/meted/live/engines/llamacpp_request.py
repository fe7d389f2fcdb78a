"""A request inside llama.cpp's server: what is sent, and what has come back of it."""

import secrets
from collections.abc import Sequence
from typing import Any

from meted.domain.engine_settings import EngineSettings
from meted.domain.request import FinishReason, RequestRejectedError, Sampling
from meted.domain.step import StepShare
from meted.domain.units import RequestId, Tokens

SEEDS = (1 << 32) - 1
"""Seeds below it; the last one means a random seed to llama.cpp."""


def completion_body(
    sampling: Sampling, ids: Sequence[int], *, max_tokens: int, settings: EngineSettings
) -> dict[str, Any]:
    """The request as llama.cpp takes it; every sampler is named, so that none runs by default.

    As in the other engine temperature comes before top_k and top_p. The penalties count the
    prompt's tokens too. Raises RequestRejectedError for what llama.cpp cannot do.
    """
    if max_tokens < 1:
        raise RequestRejectedError(
            f"max_tokens is {max_tokens}, expected 1 or more", param="max_tokens"
        )
    if 0 < sampling.min_tokens < max_tokens and not sampling.ignore_eos:
        raise RequestRejectedError(
            f"min_tokens is {sampling.min_tokens}, but llama.cpp cannot hold back the end of an "
            f"answer for a while; leave it out, or make it max_tokens, {max_tokens}",
            param="min_tokens",
        )
    seed = secrets.randbelow(SEEDS) if sampling.seed is None else sampling.seed % SEEDS
    return {
        "prompt": list(ids),
        "n_predict": max_tokens,
        "stream": True,
        "return_progress": True,
        "timings_per_token": True,
        "cache_prompt": settings.prefix_cache,
        "seed": seed,
        "temperature": 1.0 if sampling.temperature is None else sampling.temperature,
        "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
        "top_k": sampling.top_k or 0,
        "min_p": 0.0,
        "samplers": ["penalties", "temperature", "top_k", "top_p"],
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repeat_penalty": sampling.repetition_penalty,
        "repeat_last_n": len(ids) + max_tokens,
        "stop": [one for one in sampling.stop if one],
        "ignore_eos": sampling.ignore_eos or 0 < sampling.min_tokens >= max_tokens,
    }


class Streaming:
    """A request from its arrival to its end. `take` is told what came, `share` what it was.

    reserved: the most tokens that it may have in the cache.
    """

    def __init__(self, request_id: RequestId, body: dict[str, Any], *, reserved: int) -> None:
        self.id = request_id
        self.body = body
        self.reserved = reserved
        self.cancelled = False
        self.finish: FinishReason | None = None
        self._total = len(body["prompt"])
        self._cached = self._processed = self._predicted = 0
        self._text: list[str] = []
        self._said_cached = self._said_processed = self._said_predicted = 0

    def take(self, event: dict[str, Any]) -> bool:
        """One chunk of the stream; whether the server has more of the same step to say.

        Raises RuntimeError with the server's own words if it has failed.
        """
        if "choices" not in event:
            error: Any = event.get("error", event)
            raise RuntimeError(f"llama.cpp failed: {error.get('message', error)}")
        timings = event.get("timings")
        if timings is not None:
            self._cached = timings["cache_n"]
            self._processed = timings["prompt_n"]
            self._predicted = timings["predicted_n"]
        choice: dict[str, Any] = event["choices"][0] if event["choices"] else {}
        self._text.append(choice.get("text") or "")
        reason = choice.get("finish_reason")
        if reason is not None:
            self.finish = FinishReason.LENGTH if reason == "length" else FinishReason.STOP
        read = self._cached + self._processed >= self._total
        return self.finish is None and read and self._predicted == 0

    @property
    def has_news(self) -> bool:
        """Whether anything has come since the last share and text."""
        known = (self._said_cached, self._said_processed, self._said_predicted)
        now = (self._cached, self._processed, self._predicted)
        return now != known or any(self._text) or self.finish is not None

    def share(self) -> StepShare | None:
        """What was done since the last call; None: nothing."""
        cached = self._cached - self._said_cached
        computed = self._processed - self._said_processed
        decoded = self._predicted - self._said_predicted
        if not (cached or computed or decoded):
            return None
        self._said_cached, self._said_processed = self._cached, self._processed
        self._said_predicted = self._predicted
        return StepShare(
            request_id=self.id,
            prefill_tokens=Tokens(computed),
            cached_tokens=Tokens(cached),
            decode_tokens=Tokens(decoded),
            context_tokens=Tokens(self.context),
        )

    @property
    def context(self) -> int:
        """Tokens in the cache: the last one that was generated is not."""
        return self._cached + self._processed + max(0, self._predicted - 1)

    def text(self) -> str:
        """The text that has come since the last call."""
        text = "".join(self._text)
        self._text.clear()
        return text

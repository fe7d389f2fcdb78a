"""An engine without weights: deterministic words, metered by the same protocol as a real one."""

import time
from collections import deque
from pathlib import Path
from random import Random

import msgspec

from meted.domain.deployment import Task
from meted.domain.request import (
    ChatPrompt,
    EmbeddingPrompt,
    EngineRequest,
    FinishReason,
    Message,
    Prompt,
    RequestRejectedError,
)
from meted.domain.step import Step, StepOutput, StepShare
from meted.domain.units import NANOS_PER_MICRO, RequestId, Tokens
from meted.live.engine import EngineFacts
from meted.live.engines.text_stream import StopHold

WORDS = (
    "time",
    "model",
    "token",
    "cost",
    "share",
    "pool",
    "core",
    "step",
    "price",
    "idle",
    "serve",
)
SETTINGS = "fake.json"


class FakeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a step costs, and how the engine answers; `fake.json` in its folder may set them.

    answer_tokens: length of an answer whose max_tokens is not given. early_permille: of a thousand
    answers, so many end by themselves before their max_tokens, unless told to ignore that. sleep:
    pass the time asleep instead of computing. fail_after_steps: the step after these many raises.
    """

    context_tokens: int = 8192
    answer_tokens: int = 16
    batch_tokens: int = 256
    prefill_us_per_token: int = 0
    decode_us: int = 0
    early_permille: int = 0
    sleep: bool = False
    fail_after_steps: int | None = None


class FakeEngine:
    """An `Engine` whose tokens are words. The same prompt and seed give the same answer."""

    def __init__(
        self,
        *,
        folder: Path | None = None,
        threads: int = 1,
        max_batch: int = 8,
        manners: FakeSettings | None = None,
    ) -> None:
        self._settings = manners or _read(folder)
        self._max_batch = max_batch
        self._requests: dict[RequestId, _Request] = {}
        self._cancelled: deque[RequestId] = deque()
        self._steps = 0

    @property
    def facts(self) -> EngineFacts:
        return EngineFacts(
            task=Task.GENERATE,
            context_tokens=Tokens(self._settings.context_tokens),
            max_batch=self._max_batch,
        )

    @property
    def busy(self) -> bool:
        return bool(self._requests or self._cancelled)

    def add(self, request: EngineRequest) -> Tokens:
        """Count the prompt's words; see `Engine.add`."""
        words, param = _words(request.prompt)
        context = self._settings.context_tokens
        if len(words) >= context:
            raise RequestRejectedError(
                f"This model's maximum context length is {context} tokens. However, your {param} "
                f"resulted in {len(words)} tokens. Please reduce the length of the {param}.",
                param=param,
                code="context_length_exceeded",
            )
        left = context - len(words)
        wanted = request.sampling.max_tokens
        if wanted is not None and wanted > left:
            raise RequestRejectedError(
                f"max_tokens is {wanted}, but the context leaves {left}; ask for less",
                param="max_tokens",
                code="context_length_exceeded",
            )
        limit = min(left, self._settings.answer_tokens) if wanted is None else wanted
        ends = self._early_end(request, words, limit)
        self._requests[request.request_id] = _Request(request, limit, words, ends=ends)
        return Tokens(len(words))

    def _early_end(self, request: EngineRequest, words: list[str], limit: int) -> int | None:
        """After how many tokens an answer ends by itself; the same for the same prompt."""
        if request.sampling.ignore_eos or not self._settings.early_permille:
            return None
        chance = Random(f"early {' '.join(words)}")
        early = chance.randrange(1000) < self._settings.early_permille
        return chance.randint(1, limit) if early else None

    def cancel(self, request_id: RequestId) -> None:
        """Stop a request; its end is reported by the next step."""
        if self._requests.pop(request_id, None) is not None:
            self._cancelled.append(request_id)

    def step(self) -> Step:
        """One batch iteration: decode first, then prompts, up to batch_tokens."""
        if self._steps == self._settings.fail_after_steps:
            raise RuntimeError(f"the fake engine was told to fail after {self._steps} steps")
        self._steps += 1
        outputs = [
            StepOutput(request_id=one, finish_reason=FinishReason.CANCELLED)
            for one in self._cancelled
        ]
        self._cancelled.clear()
        shares: list[StepShare] = []
        budget, prefilled = self._settings.batch_tokens, 0
        for request in list(self._requests.values())[: self._max_batch]:
            chunk = min(budget, request.prefill_left)
            budget -= chunk
            prefilled += chunk
            request.prefill_left -= chunk
            decoded = 0 if request.prefill_left else 1
            if not (chunk or decoded):
                continue
            if decoded:
                output = request.decode()
                if output.text or output.finish_reason is not None:
                    outputs.append(output)
                if output.finish_reason is not None:
                    del self._requests[request.id]
            shares.append(
                StepShare(
                    request_id=request.id,
                    prefill_tokens=Tokens(chunk),
                    cached_tokens=Tokens(0),
                    decode_tokens=Tokens(decoded),
                    context_tokens=Tokens(
                        request.prompt_tokens - request.prefill_left + request.generated
                    ),
                )
            )
        self._spend(prefilled, len(shares))
        return Step(shares=tuple(shares), outputs=tuple(outputs))

    def _spend(self, prefilled: int, requests: int) -> None:
        micros = prefilled * self._settings.prefill_us_per_token
        micros += self._settings.decode_us if requests else 0
        if self._settings.sleep:
            time.sleep(micros / 1e6)
            return
        until = time.process_time_ns() + micros * NANOS_PER_MICRO
        while micros and time.process_time_ns() < until:
            pass


class _Request:
    """A request inside the fake engine."""

    def __init__(
        self, request: EngineRequest, limit: int, words: list[str], *, ends: int | None
    ) -> None:
        sampling = request.sampling
        self.id = request.request_id
        self.prompt_tokens = self.prefill_left = len(words)
        self.generated = 0
        self._limit = limit
        self._ends = ends
        seed = 0 if sampling.temperature == 0 else sampling.seed
        self._random = Random(None if seed is None else f"{seed} {' '.join(words)}")
        self._hold = StopHold(sampling.stop)

    def decode(self) -> StepOutput:
        """The next word."""
        space = " " if self.generated else ""
        self.generated += 1
        text = self._hold.push(space + self._random.choice(WORDS))
        finish: FinishReason | None = None
        if self._hold.stopped:
            finish = FinishReason.STOP
        elif self.generated == self._ends:
            finish = FinishReason.STOP
            text += self._hold.flush()
        elif self.generated >= self._limit:
            finish = FinishReason.LENGTH
            text += self._hold.flush()
        return StepOutput(request_id=self.id, text=text, finish_reason=finish)


def _words(prompt: Prompt) -> tuple[list[str], str]:
    match prompt:
        case ChatPrompt(messages=messages):
            return [word for one in messages for word in (one.role, *_split(one))], "messages"
        case EmbeddingPrompt():
            raise RequestRejectedError(
                "this deployment generates text; send embeddings to one that embeds", param="model"
            )
        case _:
            words = prompt.text.split()
            if not words:
                raise RequestRejectedError("prompt is empty; send some text", param="prompt")
            return words, "prompt"


def _split(message: Message) -> list[str]:
    return message.content.split()


def _read(folder: Path | None) -> FakeSettings:
    path = None if folder is None else folder / SETTINGS
    if path is None or not path.exists():
        return FakeSettings()
    return msgspec.json.decode(path.read_bytes(), type=FakeSettings)

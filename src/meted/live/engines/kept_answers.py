"""An exact response cache around an engine: what was asked before word for word is not computed.

Only of requests whose answer does not depend on chance: temperature 0, and embeddings. Kept ones go
out in steps of their own, so that they share nobody's device time and teach nothing of the pace.
"""

from collections import OrderedDict
from dataclasses import dataclass, field, replace

from meted.domain.request import EmbeddingPrompt, EngineRequest, FinishReason, Prompt, Sampling
from meted.domain.step import Step, StepOutput, StepShare
from meted.domain.units import RequestId, Tokens
from meted.live.engine import Engine, EngineFacts

Key = tuple[Prompt, Sampling]


@dataclass(slots=True)
class Answer:
    """A whole answer, or as much of it as has come."""

    prompt_tokens: Tokens
    tokens: int = 0
    text: list[str] = field(default_factory=list[str])
    embeddings: tuple[tuple[float, ...], ...] = ()
    finish_reason: FinishReason | None = None


class KeptAnswers:
    """An `Engine` that keeps the last `most` answers of another one, the least used go first."""

    def __init__(self, engine: Engine, most: int) -> None:
        self._engine = engine
        self._most = most
        self._kept: OrderedDict[Key, Answer] = OrderedDict()
        self._coming: dict[RequestId, tuple[Key, Answer]] = {}
        self._found: dict[RequestId, Answer] = {}
        self._cancelled: list[RequestId] = []
        self._cache_usage = 0.0

    @property
    def facts(self) -> EngineFacts:
        return self._engine.facts

    @property
    def busy(self) -> bool:
        return bool(self._found or self._cancelled) or self._engine.busy

    def add(self, request: EngineRequest) -> Tokens:
        """See `Engine.add`."""
        key = _key(request)
        known = self._kept.get(key) if key is not None else None
        if key is not None and known is not None:
            self._kept.move_to_end(key)
            self._found[request.request_id] = known
            return known.prompt_tokens
        tokens = self._engine.add(request)
        if key is not None:
            self._coming[request.request_id] = key, Answer(tokens)
        return tokens

    def cancel(self, request_id: RequestId) -> None:
        """Stop a request; its end is reported by the next step."""
        if self._found.pop(request_id, None) is not None:
            self._cancelled.append(request_id)
        else:
            self._coming.pop(request_id, None)
            self._engine.cancel(request_id)

    def step(self) -> Step:
        """Answers that were kept, if any; else a step of the engine."""
        if self._found or self._cancelled:
            return self._recall()
        step = self._engine.step()
        self._cache_usage = step.cache_usage
        for share in step.shares:
            if (coming := self._coming.get(share.request_id)) is not None:
                coming[1].tokens += share.decode_tokens
        for output in step.outputs:
            self._hear(output)
        return step

    def close(self) -> None:
        """End what the engine has of threads and children."""
        close = getattr(self._engine, "close", None)
        if close is not None:
            close()

    def _hear(self, output: StepOutput) -> None:
        if (coming := self._coming.get(output.request_id)) is None:
            return
        key, answer = coming
        answer.text.append(output.text)
        answer.embeddings += output.embeddings
        if output.finish_reason is None:
            return
        del self._coming[output.request_id]
        if output.finish_reason is FinishReason.CANCELLED:
            return
        answer.finish_reason = output.finish_reason
        self._kept[key] = answer
        self._kept.move_to_end(key)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def _recall(self) -> Step:
        ended = [
            StepOutput(request_id=one, finish_reason=FinishReason.CANCELLED)
            for one in self._cancelled
        ]
        answered = [
            StepOutput(
                request_id=request_id,
                text="".join(answer.text),
                finish_reason=answer.finish_reason,
                embeddings=answer.embeddings,
            )
            for request_id, answer in self._found.items()
        ]
        shares = tuple(_share(request_id, answer) for request_id, answer in self._found.items())
        self._found.clear()
        self._cancelled.clear()
        return Step(
            shares=shares,
            outputs=(*ended, *answered),
            cache_usage=self._cache_usage,
            recalled=True,
        )


def _key(request: EngineRequest) -> Key | None:
    """What an answer follows from; None where chance has a part in it."""
    if isinstance(request.prompt, EmbeddingPrompt):
        return request.prompt, Sampling()
    if request.sampling.temperature != 0:
        return None
    return request.prompt, replace(request.sampling, seed=None, top_p=None, top_k=None)


def _share(request_id: RequestId, answer: Answer) -> StepShare:
    """All of the prompt was found; the answer's tokens count as usage, not as work."""
    return StepShare(
        request_id=request_id,
        prefill_tokens=Tokens(0),
        cached_tokens=answer.prompt_tokens,
        decode_tokens=Tokens(answer.tokens),
        context_tokens=Tokens(answer.prompt_tokens + answer.tokens),
    )

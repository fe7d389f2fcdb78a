"""Answers in OpenAI's shapes as bytes, with all that does not change encoded once."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from meted.domain.units import BudgetName, RequestId
from meted.live.dollars import shortened, usd
from meted.live.doors import HouseError, ServedModel, Usage

DONE = b"data: [DONE]\n\n"
_json = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How one of the two generating doors words its answers."""

    id_prefix: str
    whole_object: str
    chunk_object: str
    whole_text: tuple[bytes, bytes]
    opening: bytes
    delta: tuple[bytes, bytes]
    ending: bytes


CHAT = Style(
    id_prefix="chatcmpl-",
    whole_object="chat.completion",
    chunk_object="chat.completion.chunk",
    whole_text=(b'"message":{"role":"assistant","content":', b',"refusal":null}'),
    opening=b'"delta":{"role":"assistant","content":""}',
    delta=(b'"delta":{"content":', b"}"),
    ending=b'"delta":{}',
)
TEXT = Style(
    id_prefix="cmpl-",
    whole_object="text_completion",
    chunk_object="text_completion",
    whole_text=(b'"text":', b""),
    opening=b"",
    delta=(b'"text":', b""),
    ending=b'"text":""',
)


def usage_json(usage: Usage) -> bytes:
    """OpenAI's usage object, what it cost us and what its tenant is charged."""
    return (
        f'{{"prompt_tokens":{usage.prompt_tokens},"completion_tokens":{usage.completion_tokens},'
        f'"total_tokens":{usage.prompt_tokens + usage.completion_tokens},'
        f'"prompt_tokens_details":{{"cached_tokens":{usage.cached_tokens}}},'
        f'"meted_cost_usd":"{usd(usage.cost)}","meted_price_usd":"{usd(usage.price)}"}}'
    ).encode()


@lru_cache(maxsize=256)
def _model_json(model: str) -> bytes:
    return _json(model)


def _head(style_id: str, request_id: RequestId, kind: str, created: int, model: str) -> bytes:
    return b'{"id":"%s%s","object":"%s","created":%d,"model":%s,"choices":[' % (
        style_id.encode(),
        request_id.encode(),
        kind.encode(),
        created,
        _model_json(model),
    )


def whole_answer(
    style: Style,
    *,
    request_id: RequestId,
    created: int,
    model: str,
    text: str,
    finish_reason: str,
    usage: Usage,
    stopped: BudgetName | None,
) -> bytes:
    """The answer of a request that does not stream."""
    before, after = style.whole_text
    return b'%s{"index":0,%s%s%s,"logprobs":null,"finish_reason":"%s"}],"usage":%s%s}' % (
        _head(style.id_prefix, request_id, style.whole_object, created, model),
        before,
        _json(text),
        after,
        finish_reason.encode(),
        usage_json(usage),
        stopped_json(stopped),
    )


def stopped_json(stopped: BudgetName | None) -> bytes:
    """Members that say whose money ended an answer early; none if none did."""
    if stopped is None:
        return b""
    return b',"meted_stopped":"budget","meted_budget":%s' % _json(stopped)


class Chunks:
    """The server-sent events of one streamed answer.

    with_usage: a last chunk with the usage; the others then say `"usage":null`. in_each: every
    chunk says how many tokens there are so far.
    """

    __slots__ = ("_chunk_usage", "_head", "_in_each", "_style", "_with_usage", "prompt_tokens")

    def __init__(
        self,
        style: Style,
        *,
        request_id: RequestId,
        created: int,
        model: str,
        with_usage: bool,
        in_each: bool,
    ) -> None:
        head = _head(style.id_prefix, request_id, style.chunk_object, created, model)
        self._head = b"data: " + head
        self._style = style
        self._with_usage = with_usage
        self._in_each = in_each
        self._chunk_usage = b',"usage":null' if with_usage else b""
        self.prompt_tokens = 0

    def opening(self) -> bytes:
        """The chunk that names the role, where the style has one."""
        return self._chunk(self._style.opening, b"null", 0) if self._style.opening else b""

    def delta(self, text: str, completion_tokens: int) -> bytes:
        before, after = self._style.delta
        return self._chunk(before + _json(text) + after, b"null", completion_tokens)

    def ending(self, finish_reason: str, usage: Usage, stopped: BudgetName | None) -> bytes:
        """The chunk with the finish reason, the usage if wanted, and the end mark."""
        reason = b'"%s"' % finish_reason.encode()
        last = self._chunk(
            self._style.ending, reason, usage.completion_tokens, stopped_json(stopped)
        )
        if self._with_usage:
            last += b'%s],"usage":%s}\n\n' % (self._head, usage_json(usage))
        return last + DONE

    def _chunk(
        self, inner: bytes, reason: bytes, completion_tokens: int, more: bytes = b""
    ) -> bytes:
        usage = self._chunk_usage
        if self._in_each:
            usage = b',"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}' % (
                self.prompt_tokens,
                completion_tokens,
                self.prompt_tokens + completion_tokens,
            )
        return b'%s{"index":0,%s,"logprobs":null,"finish_reason":%s}]%s%s}\n\n' % (
            self._head,
            inner,
            reason,
            usage,
            more,
        )


def failed_stream(body: bytes) -> bytes:
    """An error in mid-stream: the error object, then the end mark. body: `error_body(error)`."""
    return b"data: %s\n\n%s" % (body, DONE)


def embeddings_answer(
    vectors: Sequence[Sequence[float]], *, model: str, base64: bool, usage: Usage
) -> bytes:
    """The answer of the embeddings door; base64: little-endian 32-bit floats."""
    rows = [
        b'{"object":"embedding","index":%d,"embedding":%s}' % (index, _vector(vector, base64))
        for index, vector in enumerate(vectors)
    ]
    return b'{"object":"list","data":[%s],"model":%s,"usage":%s}' % (
        b",".join(rows),
        _model_json(model),
        usage_json(usage),
    )


def _vector(vector: Sequence[float], base64: bool) -> bytes:
    # msgspec writes bytes as base64, which is what OpenAI's clients ask for.
    return _json(struct.pack(f"<{len(vector)}f", *vector)) if base64 else _json(vector)


def model_object(model: ServedModel) -> dict[str, object]:
    """A deployment as OpenAI's (and vLLM's) model object."""
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "meted",
        "root": model.checkpoint,
        "parent": model.base,
        "max_model_len": model.context_tokens,
    }


def unknown_model(name: str, known: Sequence[str]) -> HouseError:
    """The 404 for a model that no deployment serves."""
    there = ", ".join(f"'{one}'" for one in known) or "none"
    return HouseError(
        f"the model {shortened(name)} does not exist; there are: {there}; "
        "deploy one with `meted deploy NAME`",
        status=404,
        type="invalid_request_error",
        param="model",
        code="model_not_found",
    )

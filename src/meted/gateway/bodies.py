"""The bodies that OpenAI's clients send, checked field by field and turned into domain values."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from meted.domain.request import (
    ChatPrompt,
    EmbeddingPrompt,
    Message,
    Prompt,
    Sampling,
    TextPrompt,
)
from meted.domain.units import DeploymentName
from meted.gateway.errors import decode, refusal
from meted.live.dollars import shortened

DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's and vLLM's default for /v1/completions
MAX_STOPS = 4
MAX_INPUTS = 2048
SEEDS = 2**63
MOST_TOKENS = 2**31 - 1
"""No context is longer; larger numbers would not fit an engine's integers."""
MOST_MODEL_CHARACTERS = 256

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Positive = Annotated[int, Meta(ge=1, le=MOST_TOKENS)]
ModelName = Annotated[str, Meta(max_length=MOST_MODEL_CHARACTERS)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Number = Annotated[int, Meta(ge=-MOST_TOKENS, le=MOST_TOKENS)]


class Part(msgspec.Struct):
    """A part of a message's content; only text is understood."""

    type: str
    text: str | None = None


class ChatMessage(msgspec.Struct):
    """One turn as sent; content may be missing where an assistant only called tools."""

    role: Role
    content: str | list[Part] | None = None


class StreamOptions(msgspec.Struct):
    """What a stream is to say of its usage."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class ResponseFormat(msgspec.Struct):
    """The form of an answer; only text is understood."""

    type: str = "text"


class GenerateBody(msgspec.Struct, kw_only=True):
    """What chats and completions share. Fields that are not named here are accepted, unread."""

    model: ModelName
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Positive | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=MOST_TOKENS)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=MOST_TOKENS)] | None = None
    seed: Seed | None = None
    stop: str | list[str] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=2)] | None = None
    ignore_eos: bool | None = None
    n: Number | None = None
    # Read only to refuse what would silently change the answer's meaning.
    logprobs: Any = None
    logit_bias: dict[str, Any] | None = None


class ChatBody(GenerateBody, kw_only=True):
    """A POST to /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    max_completion_tokens: Positive | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    response_format: ResponseFormat | None = None


class CompletionBody(GenerateBody, kw_only=True):
    """A POST to /v1/completions."""

    prompt: str | list[Any]
    echo: bool | None = None
    suffix: str | None = None
    best_of: Number | None = None


class EmbeddingsBody(msgspec.Struct, kw_only=True):
    """A POST to /v1/embeddings."""

    model: ModelName
    input: str | list[Any]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Positive | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a client wants generated, and how it wants to be told."""

    model: DeploymentName
    prompt: Prompt
    sampling: Sampling
    stream: bool
    with_usage: bool
    usage_in_each: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingWish:
    """What a client wants embedded. dimensions: what it expects of the vectors, if it says."""

    model: DeploymentName
    prompt: EmbeddingPrompt
    base64: bool
    dimensions: int | None


_chat = msgspec.json.Decoder(ChatBody)
_completion = msgspec.json.Decoder(CompletionBody)
_embeddings = msgspec.json.Decoder(EmbeddingsBody)


def read_chat(raw: bytes) -> Wish:
    """The wish of a POST to /v1/chat/completions. Raises HouseError (400)."""
    body = decode(_chat, raw)
    if body.tools and body.tool_choice != "none":
        raise refusal("tools are not supported; leave tools out", param="tools")
    wanted = body.response_format.type if body.response_format else "text"
    if wanted != "text":
        raise refusal(
            f"response_format.type is {shortened(wanted)}, expected 'text'; other formats are not "
            "supported",
            param="response_format",
        )
    messages = tuple(_message(index, message) for index, message in enumerate(body.messages))
    limit = body.max_completion_tokens or body.max_tokens
    return _wish(body, ChatPrompt(messages=messages), limit)


def read_completion(raw: bytes) -> Wish:
    """The wish of a POST to /v1/completions. Raises HouseError (400)."""
    body = decode(_completion, raw)
    if body.echo:
        raise refusal("echo is true, expected false; echo is not supported", param="echo")
    if body.suffix:
        raise refusal("suffix is not supported; leave it out", param="suffix")
    if body.best_of is not None and body.best_of != 1:
        raise refusal(f"best_of is {body.best_of}, expected 1", param="best_of")
    limit = body.max_tokens or DEFAULT_COMPLETION_TOKENS
    return _wish(body, TextPrompt(text=_single_prompt(body.prompt)), limit)


def read_embeddings(raw: bytes) -> EmbeddingWish:
    """The wish of a POST to /v1/embeddings. Raises HouseError (400)."""
    body = decode(_embeddings, raw)
    texts: list[Any] = [body.input] if isinstance(body.input, str) else body.input
    if not 1 <= len(texts) <= MAX_INPUTS:
        raise refusal(
            f"input has {len(texts)} texts, expected 1 to {MAX_INPUTS}; send several requests",
            param="input",
        )
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise refusal(
                f"input[{index}] is not a string; send text, token lists are not supported",
                param="input",
            )
        if not text:
            raise refusal(f"input[{index}] is empty, expected some text", param="input")
    return EmbeddingWish(
        model=DeploymentName(body.model),
        prompt=EmbeddingPrompt(texts=tuple(texts)),
        base64=body.encoding_format == "base64",
        dimensions=body.dimensions,
    )


def _wish(body: GenerateBody, prompt: Prompt, limit: int | None) -> Wish:
    stream = body.stream or False
    if body.stream_options is not None and not stream:
        raise refusal(
            "stream_options is given but stream is not true; set stream or leave it out",
            param="stream_options",
        )
    options = body.stream_options or StreamOptions()
    in_each = options.continuous_usage_stats or False
    return Wish(
        model=DeploymentName(body.model),
        prompt=prompt,
        sampling=_sampling(body, limit),
        stream=stream,
        with_usage=options.include_usage or False,
        usage_in_each=in_each,
    )


def _sampling(body: GenerateBody, limit: int | None) -> Sampling:
    if body.n is not None and body.n != 1:
        raise refusal(f"n is {body.n}, expected 1; send {body.n} requests", param="n")
    if body.logprobs is not None and body.logprobs is not False:
        raise refusal("logprobs are not supported; leave logprobs out", param="logprobs")
    if body.logit_bias:
        raise refusal("logit_bias is not supported; leave it out", param="logit_bias")
    minimum = body.min_tokens or 0
    if limit is not None and minimum > limit:
        raise refusal(
            f"min_tokens is {minimum}, expected at most max_tokens ({limit})", param="min_tokens"
        )
    return Sampling(
        max_tokens=limit,
        min_tokens=minimum,
        temperature=None if body.temperature is None else float(body.temperature),
        top_p=None if body.top_p is None else float(body.top_p),
        # -1 and 0 both mean "all tokens" to vLLM's clients.
        top_k=None if body.top_k is None else max(0, body.top_k),
        # OpenAI allows negative seeds, engines want them unsigned.
        seed=None if body.seed is None else body.seed % SEEDS,
        stop=_stops(body.stop),
        presence_penalty=float(body.presence_penalty or 0),
        frequency_penalty=float(body.frequency_penalty or 0),
        repetition_penalty=float(body.repetition_penalty or 1),
        ignore_eos=body.ignore_eos or False,
    )


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    if stop is None:
        return ()
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    if len(stops) > MAX_STOPS:
        raise refusal(f"stop has {len(stops)} strings, expected at most {MAX_STOPS}", param="stop")
    if "" in stops:
        raise refusal("stop has an empty string, which ends nothing; remove it", param="stop")
    return stops


def _message(index: int, message: ChatMessage) -> Message:
    role = "system" if message.role == "developer" else message.role
    content = message.content
    if isinstance(content, str):
        return Message(role=role, content=content)
    where = f"messages[{index}].content"
    if content is None:
        if message.role != "assistant":
            raise refusal(f"{where} is missing, expected text", param=where)
        return Message(role=role, content="")
    for place, part in enumerate(content):
        if part.type != "text" or part.text is None:
            raise refusal(
                f"{where}[{place}] is of type {shortened(part.type)}, expected 'text' with a text; "
                "this model reads only text",
                param=f"{where}[{place}].type",
            )
    return Message(role=role, content="".join(part.text or "" for part in content))


def _single_prompt(prompt: str | list[Any]) -> str:
    if isinstance(prompt, list):
        if len(prompt) != 1:
            raise refusal(
                f"prompt is a list of {len(prompt)}, expected a string or a list with one string; "
                "send one request for each prompt, and text instead of tokens",
                param="prompt",
            )
        only: Any = prompt[0]
        if not isinstance(only, str):
            raise refusal(
                "prompt[0] is not a string; send text, token lists are not supported",
                param="prompt",
            )
        prompt = only
    if not prompt:
        raise refusal("prompt is empty, expected some text", param="prompt")
    return prompt

"""A request: one client call, what it asks of an engine, and how it ended."""

from dataclasses import dataclass, field
from enum import StrEnum

from meted.domain.units import RequestId


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a chat, its content already flattened to text."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatPrompt:
    """Turns that the checkpoint's own chat template renders."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPrompt:
    """Text to be continued as it stands."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingPrompt:
    """Texts to be turned into one vector each."""

    texts: tuple[str, ...]


Prompt = ChatPrompt | TextPrompt | EmbeddingPrompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is chosen and when generation ends.

    temperature 0 is greedy. None: temperature, top_p and top_k as the checkpoint recommends them
    (generation_config.json), max_tokens up to what the context leaves. top_k 0: all tokens.
    """

    max_tokens: int | None = None
    min_tokens: int = 0
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRequest:
    """What a replica's engine needs to know of a request: nothing about who pays."""

    request_id: RequestId
    prompt: Prompt
    sampling: Sampling = field(default_factory=Sampling)


class FinishReason(StrEnum):
    """Why an engine stopped generating."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"


class Outcome(StrEnum):
    """Every accepted request ends in exactly one of these."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class RequestRejectedError(ValueError):
    """The engine cannot take the request: which field, why, and what to do.

    `code` is the OpenAI error code, e.g. `context_length_exceeded`.
    """

    def __init__(self, message: str, *, param: str | None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code

"""What the house and its workers say to each other: MessagePack frames over a socket pair.

A frame is a 4-byte big-endian length and one tagged message. CPU clocks are nanoseconds of the
worker's own cumulative processor time; `started_us` is on the monotonic clock, which all
processes of one node share.
"""

import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from meted.domain.request import (
    ChatPrompt,
    EmbeddingPrompt,
    EngineRequest,
    FinishReason,
    Message,
    Prompt,
    Sampling,
    TextPrompt,
)
from meted.domain.step import StepOutput, StepShare
from meted.domain.units import RequestId
from meted.live.lever_doors import FrontPoint

LENGTH = struct.Struct(">I")
MAX_FRAME_BYTES = 256 * 1024 * 1024


class Frame(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Base of all messages."""


# From the house to a replica.


class Add(Frame, frozen=True):
    """Take this request. Exactly one of messages, text, texts is set."""

    request_id: str
    sampling: Sampling
    messages: tuple[Message, ...] | None = None
    text: str | None = None
    texts: tuple[str, ...] | None = None


class Cancel(Frame, frozen=True):
    """Stop this request within a step."""

    request_id: str


# From the house to a trainer.


class Pause(Frame, frozen=True):
    """Checkpoint at the next micro-batch boundary and wait."""


class Resume(Frame, frozen=True):
    """Go on after a pause."""


# From the house to any worker.


class Stop(Frame, frozen=True):
    """End in order: a trainer checkpoints first, a replica drops what it has."""


# From a replica to the house.


class Ready(Frame, frozen=True):
    """The weights are loaded; all CPU time up to cpu_ns was loading."""

    task: str
    context_tokens: int
    max_batch: int
    cpu_ns: int


class Admitted(Frame, frozen=True):
    """The engine took the request."""

    request_id: str
    prompt_tokens: int


class Rejected(Frame, frozen=True):
    """The engine cannot take the request."""

    request_id: str
    message: str
    param: str | None
    code: str | None


class Share(Frame, frozen=True):
    """`StepShare` on the wire."""

    request_id: str
    prefill_tokens: int
    cached_tokens: int
    decode_tokens: int
    context_tokens: int


class Output(Frame, frozen=True):
    """`StepOutput` on the wire."""

    request_id: str
    text: str
    finish_reason: FinishReason | None = None
    embeddings: tuple[tuple[float, ...], ...] = ()


class Stepped(Frame, frozen=True):
    """One engine step, metered. recalled: it gave kept answers and computed none."""

    started_us: int
    duration_us: int
    cpu_start_ns: int
    cpu_end_ns: int
    shares: tuple[Share, ...]
    outputs: tuple[Output, ...]
    cache_usage: float
    recalled: bool = False


# From a trainer to the house.


class Planned(Frame, frozen=True):
    """The data is read: how many steps there will be, and from which one this run starts."""

    total_steps: int
    first_step: int
    train_tokens: int
    held_out_tokens: int
    tokens: int = 0


class Trained(Frame, frozen=True):
    """One optimizer step is done. tokens: trained on since the job began; loss: nats per token."""

    step: int
    loss: float
    learning_rate: float
    tokens: int
    started_us: int
    duration_us: int
    cpu_ns: int


class PhaseChanged(Frame, frozen=True):
    """The trainer turned to evaluating, writing a checkpoint or converting."""

    phase: str
    cpu_ns: int


class Evaluated(Frame, frozen=True):
    """Held-out loss in nats per token; when: before, during, after, converted."""

    step: int
    when: str
    loss: float
    cpu_ns: int


class Checkpointed(Frame, frozen=True):
    """All work up to this step is durable. A search's steps are told by this alone."""

    step: int
    cpu_ns: int


class Paused(Frame, frozen=True):
    """The trainer waits; all work up to this step is durable."""

    step: int
    cpu_ns: int


class FrontFound(Frame, frozen=True):
    """A search of serving is over: what it measured of its base, for the page."""

    points: tuple[FrontPoint, ...]


class Finished(Frame, frozen=True):
    """The job is done; a checkpoint that it made is registered under this name."""

    checkpoint: str
    cpu_ns: int


# From any worker to the house.


class Failed(Frame, frozen=True):
    """The worker gives up: a sentence for the user. It exits after this."""

    message: str


ToReplica = Add | Cancel | Stop
ToTrainer = Pause | Resume | Stop
FromReplica = Ready | Admitted | Rejected | Stepped | Failed
FromTrainer = (
    Planned
    | Trained
    | PhaseChanged
    | Evaluated
    | Checkpointed
    | Paused
    | FrontFound
    | Finished
    | Failed
)

_encoder = msgspec.msgpack.Encoder()


def encode(frame: Frame) -> bytes:
    """The message as one frame, its length first."""
    body = _encoder.encode(frame)
    return LENGTH.pack(len(body)) + body


def decoder(union: Any) -> Callable[[bytes], Any]:
    """A decoder of frame bodies for one side, e.g. `decoder(ToReplica)`."""
    return msgspec.msgpack.Decoder(union).decode


class Channel:
    """A worker's end of the socket pair: blocking or polling, one thread."""

    def __init__(self, connection: socket.socket, incoming: Any) -> None:
        self._connection = connection
        self._decode = decoder(incoming)
        self._buffer = bytearray()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the house has gone."""
        return self._closed

    def send(self, frames: Sequence[Frame]) -> None:
        """Send in one write. A house that has gone closes the channel instead of raising."""
        try:
            self._connection.setblocking(True)
            self._connection.sendall(b"".join(encode(frame) for frame in frames))
        except OSError:
            self._closed = True

    def receive(self, *, block: bool) -> list[Any]:
        """All messages that have come; waits for one if `block`. Empty once closed."""
        messages = self._parse()
        while not messages and not self._closed:
            self._connection.setblocking(block)
            try:
                data = self._connection.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self._closed = True
                break
            self._buffer += data
            messages = self._parse()
            block = block and not messages
        return messages

    def _parse(self) -> list[Any]:
        messages: list[Any] = []
        start = 0
        while len(self._buffer) - start >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._buffer, start)
            if length > MAX_FRAME_BYTES:
                raise ValueError(f"a frame of {length} bytes is over the limit {MAX_FRAME_BYTES}")
            end = start + LENGTH.size + length
            if len(self._buffer) < end:
                break
            messages.append(self._decode(bytes(self._buffer[start + LENGTH.size : end])))
            start = end
        del self._buffer[:start]
        return messages


def to_add(request: EngineRequest) -> Add:
    """The wire form of an engine request."""
    match request.prompt:
        case ChatPrompt(messages=messages):
            return Add(request.request_id, request.sampling, messages=messages)
        case TextPrompt(text=text):
            return Add(request.request_id, request.sampling, text=text)
        case EmbeddingPrompt(texts=texts):
            return Add(request.request_id, request.sampling, texts=texts)


def from_add(frame: Add) -> EngineRequest:
    """The engine request of a wire form."""
    prompt: Prompt
    if frame.messages is not None:
        prompt = ChatPrompt(messages=frame.messages)
    elif frame.texts is not None:
        prompt = EmbeddingPrompt(texts=frame.texts)
    else:
        prompt = TextPrompt(text=frame.text or "")
    return EngineRequest(
        request_id=RequestId(frame.request_id), prompt=prompt, sampling=frame.sampling
    )


def to_share(share: StepShare) -> Share:
    """The wire form of a share."""
    return Share(
        share.request_id,
        share.prefill_tokens,
        share.cached_tokens,
        share.decode_tokens,
        share.context_tokens,
    )


def to_output(output: StepOutput) -> Output:
    """The wire form of an output."""
    return Output(output.request_id, output.text, output.finish_reason, output.embeddings)

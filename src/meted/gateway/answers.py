"""What the doors answer, as types: for the description of the API and for those who check it."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType


class PromptTokensDetails(msgspec.Struct):
    """Of a prompt's tokens, those that were found in the prefix cache."""

    cached_tokens: int


class UsageAnswer(msgspec.Struct):
    """OpenAI's usage, what it cost us and what its tenant is charged, in exact dollars."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    meted_cost_usd: str
    meted_price_usd: str


class ChatTurn(msgspec.Struct):
    """The message of an answer."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(msgspec.Struct):
    """The one choice of a chat's answer."""

    index: int
    message: ChatTurn
    logprobs: None
    finish_reason: Literal["stop", "length"]


class TextChoice(msgspec.Struct):
    """The one choice of a completion."""

    index: int
    text: str
    logprobs: None
    finish_reason: Literal["stop", "length"]


class ChatAnswer(msgspec.Struct):
    """A whole answer to a chat. meted_stopped: a budget's money ended it early."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageAnswer
    meted_stopped: Literal["budget"] | UnsetType = UNSET
    meted_budget: str | UnsetType = UNSET


class CompletionAnswer(msgspec.Struct):
    """A whole continuation of a text. meted_stopped: a budget's money ended it early."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: UsageAnswer
    meted_stopped: Literal["budget"] | UnsetType = UNSET
    meted_budget: str | UnsetType = UNSET


class EmbeddingRow(msgspec.Struct):
    """A vector, as numbers or as base64 of little-endian 32-bit floats."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsAnswer(msgspec.Struct):
    """One vector for each text."""

    object: Literal["list"]
    data: list[EmbeddingRow]
    model: str
    usage: UsageAnswer


class ModelAnswer(msgspec.Struct):
    """A deployment as OpenAI's (and vLLM's) model object."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    parent: str | None
    max_model_len: int


class ModelsAnswer(msgspec.Struct):
    """The deployments."""

    object: Literal["list"]
    data: list[ModelAnswer]


class ErrorObject(msgspec.Struct):
    """What is wrong: the field, its value, what was expected; more members are for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(msgspec.Struct):
    """OpenAI's error shape."""

    error: ErrorObject


class HealthAnswer(msgspec.Struct):
    """Whether the house takes requests."""

    status: str


class VersionAnswer(msgspec.Struct):
    """The running version."""

    version: str


class StatusAnswer(msgspec.Struct):
    """That what was asked is under way."""

    status: str


class RefreshedAnswer(msgspec.Struct):
    """Keys, budgets, prices and rates are what the store has now."""

    refreshed: Literal[True]


class DeploymentRow(msgspec.Struct):
    """What clients can ask for."""

    name: str
    task: str
    checkpoint: str
    base: str | None
    context_tokens: int
    created: int
    ready_replicas: int
    running: int
    waiting: int


class LimitsAnswer(msgspec.Struct):
    """A key's rate limits; null is none."""

    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrent: int | None


class KeyAnswer(msgspec.Struct):
    """A key's public part."""

    id: str
    tenant: str
    project: str
    name: str
    admin: bool
    prefix: str
    created: int
    revoked: bool
    limits: LimitsAnswer


class NewKeyAnswer(KeyAnswer):
    """A key and its secret, shown only now."""

    secret: str = msgspec.field()


class RevokedAnswer(msgspec.Struct):
    """The key is refused from now on."""

    id: str
    revoked: Literal[True]


class BudgetAnswer(msgspec.Struct):
    """A budget and how its current window stands, over all houses on the same books."""

    name: str
    tenant: str
    project: str | None
    key: str | None
    deployment: str | None
    period: Literal["day", "month", "total"]
    limit_usd: str
    limit_nano_usd: int
    hard: bool
    alerts: list[int]
    spent_usd: str
    reserved_usd: str
    left_usd: str
    spent_nano_usd: int
    reserved_nano_usd: int
    began_us: int
    resets_us: int | None
    resets_at: str | None


class RemovedAnswer(msgspec.Struct):
    """It is gone; what was charged in it stays in the books."""

    name: str
    removed: Literal[True]


class PriceAnswer(msgspec.Struct):
    """A version of the price book, and the price that follows from it."""

    device_kind: str
    effective_us: int
    recorded_us: int
    usd_per_device_hour: str
    basis: dict[str, Any]
    note: str


class RateAnswer(msgspec.Struct):
    """A version of the rate book."""

    tenant: str | None
    deployment: str | None
    effective_us: int
    recorded_us: int
    rates: dict[str, Any] | None
    note: str


class BillAnswer(msgspec.Struct):
    """Usage, cost and price; a row has a member for each dimension of `by`, and its sums.

    uncharged_device_nanos: training since a last checkpoint; charged where its part began.
    """

    by: list[str]
    intervals: int
    started_us: int | None
    ended_us: int | None
    uncharged_device_nanos: int
    device_nanos: int
    device_seconds: str
    nano_usd: int
    usd: str
    price_nano_usd: int
    price_usd: str
    rows: list[dict[str, Any]]
    more_rows: int


class AuditRow(msgspec.Struct):
    """Who did what to the house, and when."""

    at_us: int
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]

"""meted.yaml as it is written: its sections with their defaults, its keys and their ranges."""

import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, cast

import msgspec

from meted.domain.deployment import DEFAULT_MAX_BATCH, DEFAULT_MAX_QUEUE, DEFAULT_SLO
from meted.domain.engine_settings import EngineSettings

MICROS_PER_MS = 1_000
MIB = 1024 * 1024
MOST_REPLICAS = 64


class ConfigError(ValueError):
    """A configuration cannot be used: which key, its value, what was expected."""


class File(msgspec.Struct, kw_only=True):
    """Base of the file's sections; unknown keys are found by `check_keys`."""


class PoolFile(File):
    cores: int | list[int] | None = None
    # About what large clouds ask for one core-hour on demand (0.02 to 0.05 USD in 2025).
    price_usd_per_device_hour: str | int | float = "0.02"


class PolicyFile(File):
    name: str = "demand"
    interval_s: float = 1.0
    parameters: dict[str, float] = msgspec.field(default_factory=dict[str, float])


class ServerFile(File):
    host: str = "127.0.0.1"
    port: int = 8080
    max_body_bytes: int = 4 * MIB
    body_timeout_s: float = 30.0


class SLOFile(File):
    ttft_p95_ms: float = DEFAULT_SLO.ttft_p95 / MICROS_PER_MS
    tpot_p95_ms: float = DEFAULT_SLO.tpot_p95 / MICROS_PER_MS


class DeploymentFile(File):
    name: str
    checkpoint: str | None = None
    path: str | None = None
    replicas: int = 1
    least: int | None = None
    most: int | None = None
    max_batch: int = DEFAULT_MAX_BATCH
    max_queue: int = DEFAULT_MAX_QUEUE
    slo: SLOFile = msgspec.field(default_factory=SLOFile)
    engine: str | None = None
    settings: EngineSettings | None = None


class BooksFile(File):
    store: str | None = None
    interval_s: float = 2.0
    flush_ms: int = 250
    acknowledge: str = "durable"
    when_down: str = "closed"
    spool_mib: int = 64
    fold_after_days: int | None = None


class BudgetsFile(File):
    webhook: str | None = None


class FairnessFile(File):
    weights: dict[str, int] = msgspec.field(default_factory=dict[str, int])


class TrainingFile(File):
    threads: int | None = None


class PlannedDevicesFile(File):
    kind: str
    count: int
    purchase: str
    usd_per_device_hour: str


class PlanFile(File):
    devices: list[PlannedDevicesFile]
    usd_per_month: str
    usd_per_million_tokens: str
    attained_ms: dict[str, float] = msgspec.field(default_factory=dict[str, float])
    prices_dated: str | None = None


def _default_deployments() -> list[DeploymentFile]:
    return [DeploymentFile(name="smollm2-135m"), DeploymentFile(name="all-minilm-l6-v2")]


class ConfigFile(File):
    pool: PoolFile = msgspec.field(default_factory=PoolFile)
    policy: PolicyFile = msgspec.field(default_factory=PolicyFile)
    server: ServerFile = msgspec.field(default_factory=ServerFile)
    deployments: list[DeploymentFile] = msgspec.field(default_factory=_default_deployments)
    books: BooksFile = msgspec.field(default_factory=BooksFile)
    budgets: BudgetsFile = msgspec.field(default_factory=BudgetsFile)
    fairness: FairnessFile = msgspec.field(default_factory=FairnessFile)
    training: TrainingFile = msgspec.field(default_factory=TrainingFile)
    plan: PlanFile | None = None


def check_ranges(file: ConfigFile) -> None:
    within("policy.interval_s", file.policy.interval_s, 0.05, 3600)
    within("server.port", file.server.port, 0, 65535)
    within("server.max_body_bytes", file.server.max_body_bytes, 1024, 1024 * MIB)
    within("books.interval_s", file.books.interval_s, 0.1, 3600)
    within("books.flush_ms", file.books.flush_ms, 10, 60_000)
    _one_of("books.acknowledge", file.books.acknowledge, ("durable", "at-once"))
    _one_of("books.when_down", file.books.when_down, ("closed", "open"))
    within("books.spool_mib", file.books.spool_mib, 1, 1024 * 1024)
    if file.books.fold_after_days is not None:
        within("books.fold_after_days", file.books.fold_after_days, 1, 36_500)
    within("server.body_timeout_s", file.server.body_timeout_s, 0.1, 3600)
    webhook = file.budgets.webhook
    if webhook is not None and not webhook.startswith(("http://", "https://")):
        raise ConfigError(f"budgets.webhook is {webhook!r}, expected an http or https address")
    for tenant, weight in file.fairness.weights.items():
        within(f"fairness.weights.{tenant}", weight, 1, 1_000_000)
    if file.training.threads is not None:
        within("training.threads", file.training.threads, 1, 1024)
    for index, one in enumerate(file.deployments):
        key = f"deployments[{index}]"
        if not one.name.strip():
            raise ConfigError(f"{key}.name is {one.name!r}, expected a name")
        within(f"{key}.replicas", one.replicas, 1, MOST_REPLICAS)
        _check_bounds(key, one)
        within(f"{key}.max_batch", one.max_batch, 1, 4096)
        within(f"{key}.max_queue", one.max_queue, 0, 1_000_000)
        within(f"{key}.slo.ttft_p95_ms", one.slo.ttft_p95_ms, 0.001, 3_600_000)
        within(f"{key}.slo.tpot_p95_ms", one.slo.tpot_p95_ms, 0.001, 3_600_000)
        _check_engine(key, one)


def _check_bounds(key: str, one: DeploymentFile) -> None:
    """Replicas between `least` and `most`; a deployment that may have none needs a queue."""
    least = one.replicas if one.least is None else one.least
    most = max(least, one.replicas) if one.most is None else one.most
    within(f"{key}.least", least, 0, MOST_REPLICAS)
    within(f"{key}.most", most, 1, MOST_REPLICAS)
    if least > most:
        named = "replicas" if one.least is None else "least"
        raise ConfigError(
            f"{key}.most is {most} and {named} {least}, expected {named} at most most; "
            f"lower {named} or raise most"
        )
    if least == 0 and one.max_queue == 0:
        raise ConfigError(
            f"{key}.least is 0 and max_queue 0: the request that starts a replica has nowhere to "
            "wait; set max_queue to 1 or more"
        )


def _check_engine(key: str, one: DeploymentFile) -> None:
    """`engine` and `settings.engine` are one key with two places."""
    inner = None if one.settings is None else one.settings.engine
    if one.engine is not None and inner is not None and one.engine != inner:
        raise ConfigError(
            f"{key}.engine is {one.engine!r} and {key}.settings.engine {inner!r}; they mean the "
            "same, keep one of them"
        )


def within(key: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{key} is {value}, expected {low} to {high}")


def _one_of(key: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigError(f"{key} is {value!r}, expected {' or '.join(choices)}")


def check_keys(value: object, expected: Any, at: str) -> None:
    """Raise ConfigError for a key that no section knows, with its value and what is close."""
    if isinstance(value, list) and (inner := _item_type(expected)) is not None:
        for index, item in enumerate(cast(list[object], value)):
            check_keys(item, inner, f"{at}[{index}]")
    section = next((one for one in _members(expected) if _is_section(one)), None)
    if section is None or not isinstance(value, Mapping):
        return
    hints = typing.get_type_hints(section)
    for key, inside in cast(Mapping[object, object], value).items():
        path = f"{at}.{key}" if at else str(key)
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(hints)}"
            raise ConfigError(f"unknown key {path} with value {inside!r}; {hint}")
        check_keys(inside, hints[str(key)], path)


def _members(expected: Any) -> tuple[Any, ...]:
    if typing.get_origin(expected) is types.UnionType:
        return typing.get_args(expected)
    return (expected,)


def _item_type(expected: Any) -> Any:
    return next(
        (typing.get_args(one)[0] for one in _members(expected) if typing.get_origin(one) is list),
        None,
    )


def _is_section(one: Any) -> bool:
    return isinstance(one, type) and (issubclass(one, File) or is_dataclass(cast(Any, one)))

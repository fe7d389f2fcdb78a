"""meted.yaml: read, checked, and turned into domain values before anything starts."""

import difflib
import os
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, cast

import msgspec
import yaml

from meted.domain.deployment import (
    DEFAULT_MAX_BATCH,
    DEFAULT_MAX_QUEUE,
    DEFAULT_SLO,
    SLO,
    Deployment,
    Task,
)
from meted.domain.pool import Device, Pool, Price
from meted.domain.units import NANOS_PER_SECOND, DeploymentName, Micros, NanoUSD, TenantName
from meted.policy.allocation import make_policy
from meted.policy.protocol import Policy

MICROS_PER_MS = 1_000
MIB = 1024 * 1024
MOST_REPLICAS = 64


class ConfigError(ValueError):
    """A configuration cannot be used: which key, its value, what was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """Which policy decides, and how often besides on events."""

    name: str
    policy: Policy
    interval_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Where the house listens, the largest body it takes, and how long one may take to come."""

    host: str
    port: int
    max_body_bytes: int
    body_timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BooksSettings:
    """Where the books are, how often an interval closes and the open one is written.

    store: a file or a PostgreSQL address instead of the home's own file. acknowledge_durably: a
    client is told the end of its request once its charge is durable. spool_mib: what a store that
    is down may miss at most until the house refuses requests; 0: it refuses at once.
    fold_after_days: age at which hours are folded into one row for each account; None: never.
    """

    store: str | None
    interval_s: float
    flush_ms: int
    acknowledge_durably: bool
    spool_mib: int
    fold_after_days: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredDeployment:
    """A deployment before its checkpoint, which alone knows its task, has been looked at.

    path: where to import the checkpoint from if it is not there yet. least, most: bounds between
    which a policy may choose; None: `replicas`. engine: a factory `module:Name` instead of the
    engine of the task.
    """

    name: DeploymentName
    checkpoint: str
    path: Path | None
    replicas: int
    max_batch: int
    max_queue: int
    slo: SLO
    engine: str | None
    least: int | None = None
    most: int | None = None

    def deployment(self, task: Task) -> Deployment:
        """The deployment, once its checkpoint's task is known."""
        return Deployment(
            name=self.name,
            checkpoint=self.checkpoint,
            task=task,
            replicas=self.replicas,
            slo=self.slo,
            max_batch=self.max_batch,
            max_queue=self.max_queue,
            least=self.least,
            most=self.most,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All that a house is configured with. training_threads None: as many as its devices."""

    pool: Pool
    policy: PolicySettings
    server: ServerSettings
    books: BooksSettings
    alert_webhook: str | None
    tenant_weights: Mapping[TenantName, int]
    deployments: tuple[ConfiguredDeployment, ...]
    training_threads: int | None


class _File(msgspec.Struct, kw_only=True):
    """Base of the file's sections; unknown keys are found by `_check_keys`."""


class _PoolFile(_File):
    cores: int | list[int] | None = None
    # About what large clouds ask for one core-hour on demand (0.02 to 0.05 USD in 2025).
    price_usd_per_device_hour: str | int | float = "0.02"


class _PolicyFile(_File):
    name: str = "demand"
    interval_s: float = 1.0
    parameters: dict[str, float] = msgspec.field(default_factory=dict[str, float])


class _ServerFile(_File):
    host: str = "127.0.0.1"
    port: int = 8080
    max_body_bytes: int = 4 * MIB
    body_timeout_s: float = 30.0


class _SLOFile(_File):
    ttft_p95_ms: float = DEFAULT_SLO.ttft_p95 / MICROS_PER_MS
    tpot_p95_ms: float = DEFAULT_SLO.tpot_p95 / MICROS_PER_MS


class _DeploymentFile(_File):
    name: str
    checkpoint: str | None = None
    path: str | None = None
    replicas: int = 1
    least: int | None = None
    most: int | None = None
    max_batch: int = DEFAULT_MAX_BATCH
    max_queue: int = DEFAULT_MAX_QUEUE
    slo: _SLOFile = msgspec.field(default_factory=_SLOFile)
    engine: str | None = None


class _BooksFile(_File):
    store: str | None = None
    interval_s: float = 2.0
    flush_ms: int = 250
    acknowledge: str = "durable"
    when_down: str = "closed"
    spool_mib: int = 64
    fold_after_days: int | None = None


class _BudgetsFile(_File):
    webhook: str | None = None


class _FairnessFile(_File):
    weights: dict[str, int] = msgspec.field(default_factory=dict[str, int])


class _TrainingFile(_File):
    threads: int | None = None


class _PlannedDevicesFile(_File):
    kind: str
    count: int
    purchase: str
    usd_per_device_hour: str


class _PlanFile(_File):
    devices: list[_PlannedDevicesFile]
    usd_per_month: str
    usd_per_million_tokens: str
    attained_ms: dict[str, float] = msgspec.field(default_factory=dict[str, float])
    prices_dated: str | None = None


def _default_deployments() -> list[_DeploymentFile]:
    return [_DeploymentFile(name="smollm2-135m"), _DeploymentFile(name="all-minilm-l6-v2")]


class _ConfigFile(_File):
    pool: _PoolFile = msgspec.field(default_factory=_PoolFile)
    policy: _PolicyFile = msgspec.field(default_factory=_PolicyFile)
    server: _ServerFile = msgspec.field(default_factory=_ServerFile)
    deployments: list[_DeploymentFile] = msgspec.field(default_factory=_default_deployments)
    books: _BooksFile = msgspec.field(default_factory=_BooksFile)
    budgets: _BudgetsFile = msgspec.field(default_factory=_BudgetsFile)
    fairness: _FairnessFile = msgspec.field(default_factory=_FairnessFile)
    training: _TrainingFile = msgspec.field(default_factory=_TrainingFile)
    plan: _PlanFile | None = None


def load_config(path: Path | None = None) -> Config:
    """The configuration in a file, or the default one.

    A relative `path` of a deployment is taken from the file's own folder. Raises ConfigError.
    """
    if path is None:
        return parse_config({}, folder=Path.cwd())
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; check --config") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a YAML file: {error}") from error
    try:
        return parse_config({} if content is None else content, folder=path.absolute().parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse_config(content: object, *, folder: Path) -> Config:
    """The configuration in a decoded file that stands in `folder`. Raises ConfigError."""
    _check_keys(content, _ConfigFile, "")
    if isinstance(content, Mapping):
        # A section whose keys are all commented out is null in YAML and means its defaults.
        sections = cast(Mapping[str, object], content)
        content = {key: value for key, value in sections.items() if value is not None}
    try:
        file = msgspec.convert(content, _ConfigFile)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error).replace("`$.", "`")) from error
    _check_ranges(file)
    _check_plan(file.plan)
    threads = file.training.threads
    return Config(
        pool=_pool(file.pool),
        policy=_policy(file.policy),
        server=ServerSettings(
            host=file.server.host,
            port=file.server.port,
            max_body_bytes=file.server.max_body_bytes,
            body_timeout_s=file.server.body_timeout_s,
        ),
        books=BooksSettings(
            store=_books_store(file.books.store, folder),
            interval_s=file.books.interval_s,
            flush_ms=file.books.flush_ms,
            acknowledge_durably=file.books.acknowledge == "durable",
            spool_mib=file.books.spool_mib if file.books.when_down == "open" else 0,
            fold_after_days=file.books.fold_after_days,
        ),
        alert_webhook=file.budgets.webhook,
        tenant_weights={TenantName(name): one for name, one in file.fairness.weights.items()},
        deployments=_deployments(file.deployments, folder),
        training_threads=threads,
    )


def usable_cores() -> tuple[int, ...]:
    """The cores that this process may run on, by the operating system's numbers."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def nano_usd(value: str | int | float, key: str) -> NanoUSD:
    """An exact amount of dollars as nano-USD. Raises ConfigError if it has more than 9 decimals."""
    try:
        exact = Decimal(str(value)) * NANOS_PER_SECOND
    except InvalidOperation:
        exact = Decimal("NaN")
    if not exact.is_finite() or exact < 0 or exact != exact.to_integral_value():
        raise ConfigError(
            f"{key} is {value!r}, expected dollars, 0 or more, with at most 9 decimals"
        )
    return NanoUSD(int(exact))


def _pool(file: _PoolFile) -> Pool:
    usable = usable_cores()
    match file.cores:
        case None:
            cores: Sequence[int] = usable
        case int(count):
            if not 1 <= count <= len(usable):
                raise ConfigError(
                    f"pool.cores is {count}, expected 1 to {len(usable)}, the cores that this "
                    "process may use, or a list of them"
                )
            cores = usable[:count]
        case list(cores):
            missing = [core for core in cores if core not in usable]
            if missing:
                raise ConfigError(
                    f"pool.cores names core {missing[0]}; this process may use {list(usable)}"
                )
    price = nano_usd(file.price_usd_per_device_hour, "pool.price_usd_per_device_hour")
    try:
        return Pool(
            devices=tuple(Device(index=core) for core in cores),
            price=Price(nano_usd_per_device_hour=price),
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _policy(file: _PolicyFile) -> PolicySettings:
    try:
        policy = make_policy(file.name, file.parameters)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return PolicySettings(name=file.name, policy=policy, interval_s=file.interval_s)


def _deployments(
    files: Sequence[_DeploymentFile], folder: Path
) -> tuple[ConfiguredDeployment, ...]:
    names = [file.name for file in files]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"deployments names {name!r} twice; give each its own name")
    return tuple(
        ConfiguredDeployment(
            name=DeploymentName(file.name),
            checkpoint=file.checkpoint or file.name,
            path=None if file.path is None else folder / Path(file.path).expanduser(),
            replicas=file.replicas,
            max_batch=file.max_batch,
            max_queue=file.max_queue,
            slo=SLO(
                ttft_p95=Micros(round(file.slo.ttft_p95_ms * MICROS_PER_MS)),
                tpot_p95=Micros(round(file.slo.tpot_p95_ms * MICROS_PER_MS)),
            ),
            engine=file.engine,
            least=file.least,
            most=file.most,
        )
        for file in files
    )


def _check_ranges(file: _ConfigFile) -> None:
    _within("policy.interval_s", file.policy.interval_s, 0.05, 3600)
    _within("server.port", file.server.port, 0, 65535)
    _within("server.max_body_bytes", file.server.max_body_bytes, 1024, 1024 * MIB)
    _within("books.interval_s", file.books.interval_s, 0.1, 3600)
    _within("books.flush_ms", file.books.flush_ms, 10, 60_000)
    _one_of("books.acknowledge", file.books.acknowledge, ("durable", "at-once"))
    _one_of("books.when_down", file.books.when_down, ("closed", "open"))
    _within("books.spool_mib", file.books.spool_mib, 1, 1024 * 1024)
    if file.books.fold_after_days is not None:
        _within("books.fold_after_days", file.books.fold_after_days, 1, 36_500)
    _within("server.body_timeout_s", file.server.body_timeout_s, 0.1, 3600)
    webhook = file.budgets.webhook
    if webhook is not None and not webhook.startswith(("http://", "https://")):
        raise ConfigError(f"budgets.webhook is {webhook!r}, expected an http or https address")
    for tenant, weight in file.fairness.weights.items():
        _within(f"fairness.weights.{tenant}", weight, 1, 1_000_000)
    if file.training.threads is not None:
        _within("training.threads", file.training.threads, 1, 1024)
    for index, one in enumerate(file.deployments):
        key = f"deployments[{index}]"
        if not one.name.strip():
            raise ConfigError(f"{key}.name is {one.name!r}, expected a name")
        _within(f"{key}.replicas", one.replicas, 1, MOST_REPLICAS)
        _check_bounds(key, one)
        _within(f"{key}.max_batch", one.max_batch, 1, 4096)
        _within(f"{key}.max_queue", one.max_queue, 0, 1_000_000)
        _within(f"{key}.slo.ttft_p95_ms", one.slo.ttft_p95_ms, 0.001, 3_600_000)
        _within(f"{key}.slo.tpot_p95_ms", one.slo.tpot_p95_ms, 0.001, 3_600_000)


def _check_bounds(key: str, one: _DeploymentFile) -> None:
    """Replicas between `least` and `most`; a deployment that may have none needs a queue."""
    least = one.replicas if one.least is None else one.least
    most = max(least, one.replicas) if one.most is None else one.most
    _within(f"{key}.least", least, 0, MOST_REPLICAS)
    _within(f"{key}.most", most, 1, MOST_REPLICAS)
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


HERE = "here"
"""The kind of device that means this machine's own cores, in plans and predictions."""


def _check_plan(plan: _PlanFile | None) -> None:
    """A plan is for the devices it names; this house has processor cores and no others."""
    for number, one in enumerate(plan.devices if plan is not None else ()):
        _within(f"plan.devices[{number}].count", one.count, 1, 1_000_000)
        if one.kind != HERE:
            raise ConfigError(
                f"plan.devices[{number}] wants {one.count} x {one.kind} ({one.purchase}), but this "
                "house allots this machine's processor cores only; run it where these devices "
                "are, or take the section plan out to serve on these cores"
            )


def _books_store(store: str | None, folder: Path) -> str | None:
    """A PostgreSQL address as it is, environment variables filled in so that no password need
    stand in the file; a file's path is taken from the configuration's own folder."""
    if store is None:
        return None
    filled = os.path.expandvars(store)
    if filled.startswith(("postgresql://", "postgres://")):
        return filled
    if "://" in filled:
        scheme = filled.partition("://")[0]
        raise ConfigError(
            f"books.store begins with {scheme}://, expected postgresql:// or the path of a file"
        )
    return str(folder / Path(filled).expanduser())


def _within(key: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{key} is {value}, expected {low} to {high}")


def _one_of(key: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigError(f"{key} is {value!r}, expected {' or '.join(choices)}")


def _check_keys(value: object, expected: Any, at: str) -> None:
    """Raise ConfigError for a key that no section knows, with its value and what is close."""
    if isinstance(value, list) and (inner := _item_type(expected)) is not None:
        for index, item in enumerate(cast(list[object], value)):
            _check_keys(item, inner, f"{at}[{index}]")
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
        _check_keys(inside, hints[str(key)], path)


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
    return isinstance(one, type) and issubclass(one, _File)

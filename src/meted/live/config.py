"""meted.yaml: read, checked, and turned into domain values before anything starts."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, cast

import msgspec
import yaml

from meted.domain.deployment import SLO, Deployment, Task
from meted.domain.engine_settings import EngineSettings
from meted.domain.pool import Device, Pool, Price
from meted.domain.units import NANOS_PER_SECOND, DeploymentName, Micros, NanoUSD, TenantName
from meted.live.config_file import (
    MICROS_PER_MS,
    ConfigError,
    ConfigFile,
    DeploymentFile,
    PlanFile,
    PolicyFile,
    PoolFile,
    check_keys,
    check_ranges,
    within,
)
from meted.policy.allocation import make_policy
from meted.policy.protocol import Policy


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
    which a policy may choose; None: `replicas`.
    """

    name: DeploymentName
    checkpoint: str
    path: Path | None
    replicas: int
    max_batch: int
    max_queue: int
    slo: SLO
    settings: EngineSettings = field(default_factory=EngineSettings)
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
            settings=self.settings,
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
    check_keys(content, ConfigFile, "")
    if isinstance(content, Mapping):
        # A section whose keys are all commented out is null in YAML and means its defaults.
        sections = cast(Mapping[str, object], content)
        content = {key: value for key, value in sections.items() if value is not None}
    try:
        file = msgspec.convert(content, ConfigFile)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error).replace("`$.", "`")) from error
    check_ranges(file)
    _check_plan(file.plan)
    pool = _pool(file.pool)
    for number, one in enumerate(file.deployments):
        if one.settings is not None and one.settings.threads is not None:
            key = f"deployments[{number}].settings.threads"
            within(key, one.settings.threads, 1, len(pool.devices))
    return Config(
        pool=pool,
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
        training_threads=file.training.threads,
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


def _pool(file: PoolFile) -> Pool:
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


def _policy(file: PolicyFile) -> PolicySettings:
    try:
        policy = make_policy(file.name, file.parameters)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return PolicySettings(name=file.name, policy=policy, interval_s=file.interval_s)


def _deployments(files: Sequence[DeploymentFile], folder: Path) -> tuple[ConfiguredDeployment, ...]:
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
            settings=_settings(file),
            least=file.least,
            most=file.most,
        )
        for file in files
    )


def _settings(file: DeploymentFile) -> EngineSettings:
    settings = file.settings or EngineSettings()
    return replace(settings, engine=file.engine or settings.engine)


HERE = "here"
"""The kind of device that means this machine's own cores, in plans and predictions."""


def _check_plan(plan: PlanFile | None) -> None:
    """A plan is for the devices it names; this house has processor cores and no others."""
    for number, one in enumerate(plan.devices if plan is not None else ()):
        within(f"plan.devices[{number}].count", one.count, 1, 1_000_000)
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

"""A line of the books: where a piece of device time, and its cost, went."""

from dataclasses import dataclass
from enum import StrEnum

from meted.domain.units import (
    DeploymentName,
    DeviceNanos,
    JobName,
    KeyId,
    Micros,
    NanoUSD,
    ProjectName,
    RequestId,
    TenantName,
)


class Kind(StrEnum):
    """Every device-second bought is of exactly one kind."""

    REQUEST = "request"
    TRAINING = "training"
    LOADING = "loading"
    LOST = "lost"
    OVERHEAD = "overhead"
    IDLE = "idle"


class _HashedOnce:
    """Keeps a hash: an account is looked up a dozen times for each token, by nine parts."""

    __slots__ = ("_hash",)
    _hash: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Account(_HashedOnce):
    """What a line is about; empty parts mean the house. model: the checkpoint that was served."""

    kind: Kind
    tenant: TenantName | None = None
    project: ProjectName | None = None
    key: KeyId | None = None
    deployment: DeploymentName | None = None
    model: str | None = None
    job: JobName | None = None
    request: RequestId | None = None
    note: str = ""

    def __post_init__(self) -> None:
        payer = (self.tenant, self.project, self.key)
        subject = (self.deployment, self.model, self.job, self.request)
        object.__setattr__(self, "_hash", hash((self.kind, payer, subject, self.note)))

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Device time and its cost on one account, in one interval.

    A negative line corrects an earlier interval's line: the books append, they never edit.
    """

    account: Account
    device_nanos: DeviceNanos
    amount: NanoUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A closed stretch of time on the wall clock: its lines add up to its capacity exactly.

    priced_from: since when its session has had this price; amounts telescope from there, so that
    `amount` is that of the capacity from priced_from to ended, less that to started, each rounded
    once. The store keeps it (a column of `intervals`; for old rows the start of their session).
    """

    session: str
    number: int
    priced_from: Micros
    started: Micros
    ended: Micros
    devices: int
    nano_usd_per_device_hour: NanoUSD
    capacity_nanos: DeviceNanos
    amount: NanoUSD
    lines: tuple[Line, ...]

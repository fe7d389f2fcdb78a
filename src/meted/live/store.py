"""The seam to durable storage: the books and what the house must remember."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from meted.domain.budget import Budget, Window
from meted.domain.deployment import Deployment
from meted.domain.job import Job
from meted.domain.line import Account, Interval
from meted.domain.request import Outcome
from meted.domain.units import (
    BudgetName,
    DeploymentName,
    JobName,
    KeyId,
    Micros,
    NanoUSD,
    ProjectName,
    RequestId,
    TenantName,
    TransferId,
)
from meted.ledger.price_book import PriceBook, PriceVersion
from meted.ledger.rates import RateBook, RateVersion
from meted.ledger.recovery import Acknowledged, Suspended
from meted.live.doors import Key
from meted.policy.rate_limit import NO_LIMITS, Limits


class StoreError(Exception):
    """The store cannot do what was asked: which file, what it found, what to do."""


class StoreDownError(StoreError):
    """The store cannot be reached or cannot write now; the same call may succeed later."""


class IntervalClosedError(StoreError):
    """An interval does not follow what its session holds: another house took the session over."""


class LeaseLostError(StoreError):
    """A posting was reserved in a window of which this house holds no lease any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """A request that has ended; never its prompt or its answer. Times are wall-clock micros.

    account: on which its device time stands, with its payer, deployment and model; its request is
    the row's identity. cost: what it cost us; price: what its tenant is charged. windows: where
    the price was reserved. stopped: why generation ended early (`budget`), else empty.
    """

    account: Account
    arrived: Micros
    ended: Micros
    outcome: Outcome
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    ttft_us: int | None
    device_nanos: int
    cost: NanoUSD
    price: NanoUSD
    windows: tuple[Window, ...] = ()
    stopped: str = ""

    @property
    def request_id(self) -> RequestId:
        assert self.account.request is not None
        return self.account.request


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeRow:
    """What a tenant is charged for a part of a job that is durable; at: when it was reserved."""

    id: TransferId
    account: Account
    at: Micros
    device_nanos: int
    cost: NanoUSD
    price: NanoUSD
    windows: tuple[Window, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LossRow:
    """One point of a job's loss curve; device_nanos and cost are the job's totals so far."""

    job: JobName
    step: int
    tokens: int
    loss: float | None
    held_out: float | None
    when: str
    device_nanos: int
    cost: NanoUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What is written in one transaction: all of it is durable, or none.

    session: whose requests and charges these are; may be left out where an interval says it.
    """

    session: str = ""
    closed: tuple[Interval, ...] = ()
    open: Interval | None = None
    requests: tuple[RequestRow, ...] = ()
    charges: tuple[ChargeRow, ...] = ()
    losses: tuple[LossRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Crashed:
    """A session that did not end: its open interval, and what all its intervals left suspended.

    interval is empty (no time, no lines) where the crash came right after a close. acknowledged:
    requests whose clients were told a cost that the intervals, the open one included, do not hold.
    """

    interval: Interval
    suspended: tuple[Suspended, ...]
    acknowledged: tuple[Acknowledged, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """Device time and cost of a job over all closed intervals; price: what was charged for it."""

    job: JobName
    device_nanos: int
    cost: NanoUSD
    price: NanoUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseWish:
    """What a house wants to hold of a window: `granted` in all, including what it has spent.

    Less than it holds gives the rest back. least: what it needs at once; where even that is not
    to be had, the shortage is noted for the other houses to see. A soft budget is granted always.
    used: what it cannot give back; if `least` is not to be had while others lack money too, all it
    holds above goes back, because parts too small for anybody would block each other. None: it
    keeps what it holds.
    """

    window: Window
    granted: NanoUSD
    least: NanoUSD
    used: NanoUSD | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """How a window stands. granted, spent: of this house. wanted: what other houses lack.

    all_granted, all_spent: of all houses, this one too, and of what was charged before the budget
    was made; granted of a house whose lease has run out is what it has spent.
    """

    budget: Budget
    window: Window
    granted: NanoUSD
    spent: NanoUSD
    wanted: NanoUSD
    all_granted: NanoUSD
    all_spent: NanoUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Who did what to the house, when, with which outcome; never a secret."""

    at: Micros
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A version of something that a house writes down of its levers: a receipt, a rollout, a front.

    kind and name say which; body is JSON.
    """

    kind: str
    name: str
    body: str


class Store(Protocol):
    """Durable, exactly once. Blocking: the house calls it from a thread of its own.

    A store is opened for one house, whose id tells its sessions, leases, deployments and jobs from
    those of other houses on the same database. Every method raises StoreDownError where the
    database cannot be reached.
    """

    def write(self, batch: Batch) -> None:
        """Append. A closed interval, request, charge or loss point written before is not written
        again. `open` replaces the provisional interval of its session; closing it removes it.

        A new request or charge adds its price to what this house has spent of each of its windows,
        in the same transaction; in windows of covering budgets that it does not name (a budget
        made while it ran), to what was spent before. Raises LeaseLostError, with nothing written,
        if that would exceed what this house was granted of a hard budget.
        """
        ...

    def all_written(self) -> bool:
        """Whether all batches written so far are in the database: none waits in a spool."""
        ...

    def crashed(self) -> Sequence[Crashed]:
        """Sessions of this house, and of houses that are gone, with an open interval, with time on
        accounts that were never resolved, or with acknowledged requests not fully posted."""
        ...

    def job_totals(self) -> Sequence[Total]: ...

    def save_deployment(self, deployment: Deployment) -> None: ...

    def remove_deployment(self, name: DeploymentName) -> None: ...

    def deployments(self) -> Sequence[Deployment]: ...

    def save_job(self, job: Job) -> None: ...

    def jobs(self) -> Sequence[Job]:
        """Oldest first."""
        ...

    def losses(self, job: JobName) -> Sequence[LossRow]: ...

    # Documents: versions are added, never changed.

    def append_documents(self, documents: Sequence[Document]) -> None:
        """Add a version of each: all of them, or none."""
        ...

    def documents(self, kind: str) -> Sequence[Document]:
        """The newest version of each of this house's, in the order in which their names came."""
        ...

    def document_versions(self, kind: str, name: str) -> Sequence[Document]:
        """Oldest first."""
        ...

    # Prices and rates: versions are added, never changed.

    def price_book(self) -> PriceBook: ...

    def add_price(self, version: PriceVersion) -> None: ...

    def rate_book(self) -> RateBook: ...

    def add_rate(self, version: RateVersion) -> None: ...

    # Budgets.

    def budgets(self) -> Sequence[Budget]:
        """Those in force, by name."""
        ...

    def save_budget(self, budget: Budget) -> None:
        """Make or change a budget. Its scope and period cannot change: raises StoreError."""
        ...

    def remove_budget(self, name: BudgetName) -> None:
        """Raises StoreError for an unknown name, naming those that there are."""
        ...

    def lease(self, wishes: Sequence[LeaseWish], *, now: Micros, until: Micros) -> Sequence[Lease]:
        """Extend this house's life and its leases to `until`, and grant what can be granted.

        Of a hard budget, all that all houses were granted is never over its limit. A house alone on
        the database gets all it asks for that is left; with others alive it gets at least `least`
        if that is left, and of the rest no more than its share. Leases of houses whose life ended
        before `now` shrink to what they have spent and are closed. A window that nobody has leased
        yet begins with what was charged in it before.
        """
        ...

    def standings(self, *, now: Micros) -> Sequence[Lease]:
        """How every budget's current window stands, also those that this house does not hold."""
        ...

    def reclaim(self) -> None:
        """This house begins: what it was granted before and did not spend goes back."""
        ...

    # Credentials and the audit log.

    def create_key(
        self,
        *,
        tenant: TenantName,
        project: ProjectName,
        name: str,
        admin: bool,
        limits: Limits = NO_LIMITS,
    ) -> tuple[Key, str]:
        """A new key and its secret, which is shown once and stored only as a hash."""
        ...

    def rotate_key(self, key_id: KeyId) -> tuple[Key, str]:
        """A new secret for a key; the old one is refused from now on. Raises StoreError if the key
        is unknown or revoked."""
        ...

    def find_key(self, secret: str) -> Key | None: ...

    def keys(self) -> Sequence[Key]: ...

    def revoke_key(self, key_id: KeyId) -> None: ...

    def audit(self, entry: AuditEntry) -> None: ...

    def audit_log(self, limit: int) -> Sequence[AuditEntry]:
        """Newest first."""
        ...

    def version(self) -> int:
        """Changes whenever keys, budgets, prices or rates have been changed, by whomever."""
        ...

    def close(self) -> None: ...

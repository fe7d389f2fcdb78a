"""A store that hands every call on to another one: what wrappers of stores begin from."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from meted.domain.budget import Budget
from meted.domain.deployment import Deployment
from meted.domain.job import Job
from meted.domain.units import (
    BudgetName,
    DeploymentName,
    JobName,
    KeyId,
    Micros,
    ProjectName,
    TenantName,
)
from meted.ledger.price_book import PriceBook, PriceVersion
from meted.ledger.rates import RateBook, RateVersion
from meted.live.doors import Key
from meted.live.store import (
    AuditEntry,
    Batch,
    Crashed,
    Document,
    Lease,
    LeaseWish,
    LossRow,
    Store,
    Total,
)
from meted.policy.rate_limit import NO_LIMITS, Limits

T = TypeVar("T")


class DelegatingStore:
    """`Store` over another store. A wrapper overrides `_through`, which all calls go through, and
    those methods that it changes. Closing it closes the other store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _through(self, call: Callable[[], T]) -> T:
        return call()

    def close(self) -> None:
        self._store.close()

    def write(self, batch: Batch) -> None:
        self._through(lambda: self._store.write(batch))

    def all_written(self) -> bool:
        return self._store.all_written()

    def crashed(self) -> Sequence[Crashed]:
        return self._through(self._store.crashed)

    def job_totals(self) -> Sequence[Total]:
        return self._through(self._store.job_totals)

    def save_deployment(self, deployment: Deployment) -> None:
        self._through(lambda: self._store.save_deployment(deployment))

    def remove_deployment(self, name: DeploymentName) -> None:
        self._through(lambda: self._store.remove_deployment(name))

    def deployments(self) -> Sequence[Deployment]:
        return self._through(self._store.deployments)

    def save_job(self, job: Job) -> None:
        self._through(lambda: self._store.save_job(job))

    def jobs(self) -> Sequence[Job]:
        return self._through(self._store.jobs)

    def losses(self, job: JobName) -> Sequence[LossRow]:
        return self._through(lambda: self._store.losses(job))

    def append_documents(self, documents: Sequence[Document]) -> None:
        self._through(lambda: self._store.append_documents(documents))

    def documents(self, kind: str) -> Sequence[Document]:
        return self._through(lambda: self._store.documents(kind))

    def document_versions(self, kind: str, name: str) -> Sequence[Document]:
        return self._through(lambda: self._store.document_versions(kind, name))

    def price_book(self) -> PriceBook:
        return self._through(self._store.price_book)

    def add_price(self, version: PriceVersion) -> None:
        self._through(lambda: self._store.add_price(version))

    def rate_book(self) -> RateBook:
        return self._through(self._store.rate_book)

    def add_rate(self, version: RateVersion) -> None:
        self._through(lambda: self._store.add_rate(version))

    def budgets(self) -> Sequence[Budget]:
        return self._through(self._store.budgets)

    def save_budget(self, budget: Budget) -> None:
        self._through(lambda: self._store.save_budget(budget))

    def remove_budget(self, name: BudgetName) -> None:
        self._through(lambda: self._store.remove_budget(name))

    def lease(self, wishes: Sequence[LeaseWish], *, now: Micros, until: Micros) -> Sequence[Lease]:
        return self._through(lambda: self._store.lease(wishes, now=now, until=until))

    def standings(self, *, now: Micros) -> Sequence[Lease]:
        return self._through(lambda: self._store.standings(now=now))

    def reclaim(self) -> None:
        self._through(self._store.reclaim)

    def create_key(
        self,
        *,
        tenant: TenantName,
        project: ProjectName,
        name: str,
        admin: bool,
        limits: Limits = NO_LIMITS,
    ) -> tuple[Key, str]:
        return self._through(
            lambda: self._store.create_key(
                tenant=tenant, project=project, name=name, admin=admin, limits=limits
            )
        )

    def rotate_key(self, key_id: KeyId) -> tuple[Key, str]:
        return self._through(lambda: self._store.rotate_key(key_id))

    def find_key(self, secret: str) -> Key | None:
        return self._through(lambda: self._store.find_key(secret))

    def keys(self) -> Sequence[Key]:
        return self._through(self._store.keys)

    def revoke_key(self, key_id: KeyId) -> None:
        self._through(lambda: self._store.revoke_key(key_id))

    def audit(self, entry: AuditEntry) -> None:
        self._through(lambda: self._store.audit(entry))

    def audit_log(self, limit: int) -> Sequence[AuditEntry]:
        return self._through(lambda: self._store.audit_log(limit))

    def version(self) -> int:
        return self._through(self._store.version)

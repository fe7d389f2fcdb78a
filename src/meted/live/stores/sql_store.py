"""The store over any SQL database: every batch durable as a whole, or nothing of it."""

import time
from collections.abc import Callable, Sequence
from itertools import chain

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
from meted.live.job_codec import stored_job
from meted.live.store import AuditEntry, Batch, Crashed, Document, Lease, LeaseWish, LossRow, Total
from meted.live.stores.accounts import AccountNumbers
from meted.live.stores.database import Database, Statements
from meted.live.stores.documents import Documents
from meted.live.stores.intervals import append, session_number, set_provisional
from meted.live.stores.keys import AuditLog, Keys
from meted.live.stores.leases import Leases
from meted.live.stores.memory import Memory
from meted.live.stores.postings import enter_charges, enter_requests, session_of, spend
from meted.live.stores.recovery import abandoned, crashed
from meted.live.stores.terms import Terms, revision
from meted.policy.rate_limit import NO_LIMITS, Limits


def wall_clock() -> Micros:
    """Micros since 1970, as this machine has it."""
    return Micros(time.time_ns() // 1000)


class SqlStore:
    """`Store` of one house. It may move between threads but is used by one at a time."""

    def __init__(
        self, database: Database, *, house: str, wall: Callable[[], Micros] = wall_clock
    ) -> None:
        """wall: tells which other houses are gone when sessions are looked through."""
        if not house:
            raise ValueError("a store is opened for a house; its id is empty")
        self._database = database
        self._house = house
        self._wall = wall
        self._accounts = AccountNumbers()
        self._terms = Terms(database)
        self._memory = Memory(database, house)
        self._documents = Documents(database, house)
        self._leases = Leases(database, house, self._terms.in_force)
        self._keys = Keys(database)
        self._audit = AuditLog(database)

    def close(self) -> None:
        self._database.close()

    def version(self) -> int:
        return self._database.read(revision)

    # The books.

    def write(self, batch: Batch) -> None:
        session = session_of(batch)
        self._database.write(lambda db: self._write(db, batch, session))
        self._accounts.committed()

    def _write(self, db: Statements, batch: Batch, session: str) -> None:
        self._accounts.begin()
        if batch.requests or batch.charges:
            db.share_postings()
        numbers = {
            name: session_number(db, name, self._house)
            for name in sorted({session, *(one.session for one in batch.closed)} - {""})
        }
        for interval in batch.closed:
            append(db, self._accounts, numbers[interval.session], interval)
        if batch.open is not None:
            set_provisional(db, numbers[batch.open.session], batch.open)
        if batch.requests or batch.charges:
            self._post(db, batch, numbers[session])
        if batch.losses:
            self._memory.enter_losses(db, batch.losses)

    def _post(self, db: Statements, batch: Batch, session: int) -> None:
        self._accounts.prepare(db, (row.account for row in chain(batch.requests, batch.charges)))
        entered = [
            *enter_requests(db, self._accounts, session, batch.requests),
            *enter_charges(db, self._accounts, session, batch.charges),
        ]
        if entered:
            spend(db, self._house, self._terms.by_tenant(db), entered)

    def all_written(self) -> bool:
        return True

    def crashed(self) -> Sequence[Crashed]:
        def work(db: Statements) -> list[Crashed]:
            found: list[Crashed] = []
            for session, name in abandoned(db, self._house, self._wall()):
                one = crashed(db, session, name)
                if one is not None:
                    found.append(one)
                else:
                    # It ended in order, so its lines need never be looked through again.
                    db.change("UPDATE sessions SET resolved = 1 WHERE id = ?", session)
            return found

        return self._database.write(work)

    # What the house remembers.

    def job_totals(self) -> Sequence[Total]:
        return self._memory.job_totals()

    def losses(self, job: JobName) -> Sequence[LossRow]:
        return self._memory.losses(job)

    def save_deployment(self, deployment: Deployment) -> None:
        self._memory.save("deployments", deployment.name, deployment)

    def remove_deployment(self, name: DeploymentName) -> None:
        self._memory.remove_deployment(name)

    def deployments(self) -> Sequence[Deployment]:
        return self._memory.deployments()

    def save_job(self, job: Job) -> None:
        self._memory.save("jobs", job.spec.name, stored_job(job))

    def jobs(self) -> Sequence[Job]:
        return self._memory.jobs()

    def append_documents(self, documents: Sequence[Document]) -> None:
        self._documents.append(documents)

    def documents(self, kind: str) -> Sequence[Document]:
        return self._documents.newest(kind)

    def document_versions(self, kind: str, name: str) -> Sequence[Document]:
        return self._documents.versions(kind, name)

    # Prices, rates and budgets.

    def price_book(self) -> PriceBook:
        return self._terms.price_book()

    def add_price(self, version: PriceVersion) -> None:
        self._terms.add_price(version)

    def rate_book(self) -> RateBook:
        return self._terms.rate_book()

    def add_rate(self, version: RateVersion) -> None:
        self._terms.add_rate(version)

    def budgets(self) -> Sequence[Budget]:
        return self._terms.budgets()

    def save_budget(self, budget: Budget) -> None:
        self._terms.save_budget(budget)

    def remove_budget(self, name: BudgetName) -> None:
        self._terms.remove_budget(name)

    def lease(self, wishes: Sequence[LeaseWish], *, now: Micros, until: Micros) -> Sequence[Lease]:
        return self._leases.lease(wishes, now=now, until=until)

    def standings(self, *, now: Micros) -> Sequence[Lease]:
        return self._leases.standings(now=now)

    def reclaim(self) -> None:
        self._leases.reclaim()
        self._memory.adopt()

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
        return self._keys.create(
            tenant=tenant, project=project, name=name, admin=admin, limits=limits
        )

    def rotate_key(self, key_id: KeyId) -> tuple[Key, str]:
        return self._keys.rotate(key_id)

    def find_key(self, secret: str) -> Key | None:
        return self._keys.find(secret)

    def keys(self) -> Sequence[Key]:
        return self._keys.all()

    def revoke_key(self, key_id: KeyId) -> None:
        self._keys.revoke(key_id)

    def audit(self, entry: AuditEntry) -> None:
        self._audit.append(entry)

    def audit_log(self, limit: int) -> Sequence[AuditEntry]:
        return self._audit.last(limit)

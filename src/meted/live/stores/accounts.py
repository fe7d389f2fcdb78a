"""Accounts by number: each combination of payer, deployment, model, job and note is stored once."""

from collections.abc import Iterable

from meted.domain.line import Account, Kind
from meted.domain.units import (
    DeploymentName,
    JobName,
    KeyId,
    ProjectName,
    RequestId,
    TenantName,
)
from meted.live.stores.database import Statements, check_storable, marks

PARTS = "kind, tenant, project, key_id, deployment, model, job, note"
_MATCH = " AND ".join(f"{part} = ?" for part in PARTS.split(", "))

Parts = tuple[str, str, str, str, str, str, str, str]


def parts_of(account: Account) -> Parts:
    """An account's columns: all but its request, which stands in each line."""
    return (
        account.kind,
        account.tenant or "",
        account.project or "",
        account.key or "",
        account.deployment or "",
        account.model or "",
        account.job or "",
        account.note,
    )


def account_of(parts: Iterable[str], request: str | None = None) -> Account:
    """The account with these columns and this request."""
    kind, tenant, project, key, deployment, model, job, note = parts
    return Account(
        kind=Kind(kind),
        tenant=TenantName(tenant) if tenant else None,
        project=ProjectName(project) if project else None,
        key=KeyId(key) if key else None,
        deployment=DeploymentName(deployment) if deployment else None,
        model=model or None,
        job=JobName(job) if job else None,
        request=RequestId(request) if request is not None else None,
        note=note,
    )


class AccountNumbers:
    """Numbers of accounts, remembered once the transaction that made them is durable."""

    def __init__(self) -> None:
        self._known: dict[Parts, int] = {}
        self._fresh: dict[Parts, int] = {}

    def begin(self) -> None:
        """A transaction begins: what one that failed has numbered is forgotten."""
        self._fresh.clear()

    def committed(self) -> None:
        """The transaction is durable, so its numbers are."""
        self._known.update(self._fresh)
        self._fresh.clear()

    def prepare(self, db: Statements, accounts: Iterable[Account]) -> None:
        """Number all of these, in an order that keeps two writers from waiting for each other."""
        wanted = {parts_of(account) for account in accounts}
        for parts in sorted(wanted - self._known.keys() - self._fresh.keys()):
            self._fresh[parts] = _number(db, parts)

    def of(self, account: Account) -> int:
        """The number of an account that was prepared."""
        parts = parts_of(account)
        number = self._known.get(parts)
        return self._fresh[parts] if number is None else number


def _number(db: Statements, parts: Parts) -> int:
    found = db.rows(f"SELECT id FROM accounts WHERE {_MATCH}", *parts)
    if not found:
        check_storable(*parts)
        found = db.rows(
            f"INSERT INTO accounts ({PARTS}) VALUES ({marks(PARTS)})"
            f" ON CONFLICT ({PARTS}) DO NOTHING RETURNING id",
            *parts,
        )
    if not found:
        # Another writer was faster; its row is durable by now.
        found = db.rows(f"SELECT id FROM accounts WHERE {_MATCH}", *parts)
    return found[0][0]

"""A session's intervals in SQLite: appended once, open ones replaced, crashed ones told apart."""

import sqlite3

import msgspec

from meted.domain.line import Account, Interval, Kind
from meted.domain.units import (
    DeploymentName,
    DeviceNanos,
    JobName,
    NanoUSD,
    RequestId,
    TenantName,
)
from meted.ledger.meter import IN_PROGRESS, UNCHECKPOINTED
from meted.ledger.recovery import Suspended
from meted.live.store import Crashed, StoreError

_INTERVAL = "started, ended, devices, nano_usd_per_device_hour, capacity_nanos, amount"
_UNRESOLVED = f"""
    SELECT kind, tenant, deployment, job, request, note, sum(device_nanos), sum(amount)
    FROM lines
    WHERE session = ? AND kind <> '{Kind.LOST}' AND (
        note IN ('{IN_PROGRESS}', '{UNCHECKPOINTED}')
        OR kind = '{Kind.REQUEST}' AND request IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM requests WHERE requests.id = lines.request)
    )
    GROUP BY 1, 2, 3, 4, 5, 6
"""


def marks(count: int) -> str:
    """Placeholders of a statement."""
    return ", ".join("?" * count)


def _session(db: sqlite3.Connection, name: str) -> int:
    """A session's number in the file. It is being written to, so it is no longer resolved."""
    row = db.execute(
        "INSERT INTO sessions (name) VALUES (?)"
        " ON CONFLICT (name) DO UPDATE SET resolved = 0 RETURNING id",
        (name,),
    )
    return row.fetchone()[0]


def append(db: sqlite3.Connection, interval: Interval) -> None:
    """Close an interval, once. Raises StoreError if it is closed with other content."""
    session = _session(db, interval.session)
    values = (
        *(interval.started, interval.ended, interval.devices),
        *(interval.nano_usd_per_device_hour, interval.capacity_nanos, interval.amount),
    )
    db.execute(
        "DELETE FROM provisional WHERE session = ? AND number <= ?", (session, interval.number)
    )
    written = db.execute(
        f"SELECT {_INTERVAL} FROM intervals WHERE session = ? AND number = ?",
        (session, interval.number),
    ).fetchone()
    if written is not None:
        if written != values:
            raise StoreError(
                f"interval {interval.number} of session {interval.session} is closed with "
                f"({_INTERVAL}) = {written} and cannot be closed again with {values}"
            )
        return
    db.executemany(
        f"INSERT INTO lines VALUES ({marks(11)})",
        [
            (
                *(session, interval.number, position),
                *(line.account.kind, line.account.tenant, line.account.deployment),
                *(line.account.job, line.account.request, line.account.note),
                *(line.device_nanos, line.amount),
            )
            for position, line in enumerate(interval.lines)
        ],
    )
    db.execute(
        f"INSERT INTO intervals (session, number, {_INTERVAL}) VALUES ({marks(8)})",
        (session, interval.number, *values),
    )


def set_provisional(db: sqlite3.Connection, interval: Interval) -> None:
    """Replace the open interval, unless it is closed already (a batch written late again)."""
    session = _session(db, interval.session)
    db.execute(
        "INSERT INTO provisional SELECT ?1, ?2, ?3 WHERE NOT EXISTS"
        " (SELECT 1 FROM intervals WHERE session = ?1 AND number >= ?2)"
        " ON CONFLICT (session) DO UPDATE SET number = excluded.number,"
        " interval = excluded.interval WHERE excluded.number >= provisional.number",
        (session, interval.number, msgspec.json.encode(interval)),
    )


def crashed(db: sqlite3.Connection, session: int, name: str) -> Crashed | None:
    """What a session that does not run any more left open or suspended; None if nothing."""
    row = db.execute("SELECT interval FROM provisional WHERE session = ?", (session,)).fetchone()
    if row is not None:
        interval = msgspec.json.decode(row[0], type=Interval)
    else:
        interval = _empty_next(db, session, name)
    if interval is None:
        return None
    sums: dict[Account, tuple[int, int]] = {}
    for *parts, nanos, amount in db.execute(_UNRESOLVED, (session,)):
        sums[_account(*parts)] = (nanos, amount)
    for line in interval.lines:
        if _is_unresolved(db, line.account):
            nanos, amount = sums.get(line.account, (0, 0))
            sums[line.account] = (nanos + line.device_nanos, amount + line.amount)
    suspended = tuple(
        Suspended(account=account, device_nanos=DeviceNanos(nanos), amount=NanoUSD(amount))
        for account, (nanos, amount) in sums.items()
        if nanos or amount
    )
    return Crashed(interval=interval, suspended=suspended) if row or suspended else None


def _empty_next(db: sqlite3.Connection, session: int, name: str) -> Interval | None:
    """An interval without time after a session's last one, for lines that correct it."""
    row = db.execute(
        "SELECT number, ended, devices, nano_usd_per_device_hour FROM intervals"
        " WHERE session = ? ORDER BY number DESC LIMIT 1",
        (session,),
    ).fetchone()
    if row is None:
        return None
    number, ended, devices, price = row
    return Interval(
        session=name,
        number=number + 1,
        started=ended,
        ended=ended,
        devices=devices,
        nano_usd_per_device_hour=price,
        capacity_nanos=DeviceNanos(0),
        amount=NanoUSD(0),
        lines=(),
    )


def _is_unresolved(db: sqlite3.Connection, account: Account) -> bool:
    """Whether an account's time waits for a report or an end; `_UNRESOLVED` says the same."""
    if account.kind is Kind.LOST:
        return False
    if account.note in (IN_PROGRESS, UNCHECKPOINTED):
        return True
    if account.kind is not Kind.REQUEST or account.request is None:
        return False
    ended = db.execute("SELECT 1 FROM requests WHERE id = ?", (account.request,)).fetchone()
    return ended is None


def _account(
    kind: str,
    tenant: str | None,
    deployment: str | None,
    job: str | None,
    request: str | None,
    note: str,
) -> Account:
    return Account(
        kind=Kind(kind),
        tenant=None if tenant is None else TenantName(tenant),
        deployment=None if deployment is None else DeploymentName(deployment),
        job=None if job is None else JobName(job),
        request=None if request is None else RequestId(request),
        note=note,
    )

"""The store on SQLite: one file, one writer, every batch durable as a whole or not at all."""

import contextlib
import hashlib
import secrets
import sqlite3
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from meted.domain.deployment import Deployment
from meted.domain.job import Job
from meted.domain.units import DeploymentName, JobName, NanoUSD, TenantName
from meted.live.doors import Key
from meted.live.sqlite_file import explained, open_books
from meted.live.sqlite_intervals import append, crashed, marks, set_provisional
from meted.live.store import Batch, Crashed, LossRow, RequestRow, StoreError, Total

SECRET_PREFIX = "mt-"
SECRET_BYTES = 32
SHOWN_CHARACTERS = 7

_KEY = "id, tenant, name, admin, prefix, created, revoked"


class SqliteStore:
    """`Store` in one SQLite file.

    A connection may move between threads but is used by one at a time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db = open_books(path)

    def close(self) -> None:
        self._db.close()

    def version(self) -> int:
        with explained(self._path):
            return self._db.execute("PRAGMA data_version").fetchone()[0]

    # The books.

    def write(self, batch: Batch) -> None:
        with self._transaction() as db:
            for interval in batch.closed:
                append(db, interval)
            if batch.open is not None:
                set_provisional(db, batch.open)
            db.executemany(
                f"INSERT INTO requests VALUES ({marks(13)}) ON CONFLICT (id) DO NOTHING",
                [_request_values(row) for row in batch.requests],
            )
            db.executemany(
                f"INSERT INTO losses VALUES ({marks(8)}) ON CONFLICT DO NOTHING",
                [_loss_values(row) for row in batch.losses],
            )

    def crashed(self) -> Sequence[Crashed]:
        found: list[Crashed] = []
        with self._transaction() as db:
            rows = db.execute("SELECT id, name FROM sessions WHERE resolved = 0 ORDER BY id")
            for session, name in rows.fetchall():
                one = crashed(db, session, name)
                if one is not None:
                    found.append(one)
                else:
                    # It ended in order, so its lines need never be looked through again.
                    db.execute("UPDATE sessions SET resolved = 1 WHERE id = ?", (session,))
        return found

    def job_totals(self) -> Sequence[Total]:
        rows = self._read(
            "SELECT job, sum(device_nanos), sum(amount) FROM lines"
            " WHERE job IS NOT NULL GROUP BY job"
        )
        return [
            Total(job=JobName(job), device_nanos=nanos, cost=NanoUSD(cost))
            for job, nanos, cost in rows
        ]

    def losses(self, job: JobName) -> Sequence[LossRow]:
        rows = self._read(
            "SELECT step, moment, tokens, loss, held_out, device_nanos, cost FROM losses"
            " WHERE job = ? ORDER BY rowid",
            job,
        )
        return [
            LossRow(
                job=job,
                step=step,
                tokens=tokens,
                loss=loss,
                held_out=held_out,
                when=moment,
                device_nanos=nanos,
                cost=NanoUSD(cost),
            )
            for step, moment, tokens, loss, held_out, nanos, cost in rows
        ]

    # What the house remembers.

    def save_deployment(self, deployment: Deployment) -> None:
        self._save("deployments", deployment.name, msgspec.json.encode(deployment))

    def remove_deployment(self, name: DeploymentName) -> None:
        with self._transaction() as db:
            db.execute("DELETE FROM deployments WHERE name = ?", (name,))

    def deployments(self) -> Sequence[Deployment]:
        rows = self._read("SELECT body FROM deployments ORDER BY rowid")
        return [msgspec.json.decode(body, type=Deployment) for (body,) in rows]

    def save_job(self, job: Job) -> None:
        self._save("jobs", job.spec.name, msgspec.json.encode(job))

    def jobs(self) -> Sequence[Job]:
        rows = self._read("SELECT body FROM jobs ORDER BY rowid")
        return [msgspec.json.decode(body, type=Job) for (body,) in rows]

    def _save(self, table: str, name: str, body: bytes) -> None:
        with self._transaction() as db:
            db.execute(
                f"INSERT INTO {table} (name, body) VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET body = excluded.body",
                (name, body),
            )

    # Keys.

    def create_key(self, *, tenant: TenantName, name: str, admin: bool) -> tuple[Key, str]:
        secret = SECRET_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        key = Key(
            id=f"key-{secrets.token_hex(6)}",
            tenant=tenant,
            admin=admin,
            name=name,
            prefix=secret[:SHOWN_CHARACTERS],
            created=int(time.time()),
        )
        with self._transaction() as db:
            db.execute(
                f"INSERT INTO keys ({_KEY}, hash) VALUES ({marks(8)})",
                (
                    *(key.id, key.tenant, key.name, int(key.admin), key.prefix, key.created),
                    *(0, _hash(secret)),
                ),
            )
        return key, secret

    def find_key(self, secret: str) -> Key | None:
        rows = self._read(f"SELECT {_KEY} FROM keys WHERE hash = ?", _hash(secret))
        return _key(rows[0]) if rows else None

    def keys(self) -> Sequence[Key]:
        return [_key(row) for row in self._read(f"SELECT {_KEY} FROM keys ORDER BY rowid")]

    def revoke_key(self, key_id: str) -> None:
        with self._transaction() as db:
            changed = db.execute("UPDATE keys SET revoked = 1 WHERE id = ?", (key_id,)).rowcount
        if not changed:
            known = ", ".join(key.id for key in self.keys()) or "none"
            raise StoreError(f"no key has the id {key_id!r}; there are: {known}")

    # SQLite.

    @contextlib.contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        """All of what is done inside is durable afterwards, or none of it has happened."""
        with explained(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _read(self, statement: str, *values: str) -> list[Any]:
        with explained(self._path):
            return self._db.execute(statement, values).fetchall()


def _hash(secret: str) -> str:
    """What is stored of a secret.

    A fast hash is enough: 256 random bits cannot be guessed at any speed, unlike a password. That
    it is looked up by equality tells a caller's clock nothing of the secret behind it.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _request_values(row: RequestRow) -> tuple[object, ...]:
    return (
        *(row.request_id, row.tenant, row.key_id, row.deployment, row.arrived, row.ended),
        *(row.outcome, row.prompt_tokens, row.cached_tokens, row.completion_tokens),
        *(row.ttft_us, row.device_nanos, row.cost),
    )


def _loss_values(row: LossRow) -> tuple[object, ...]:
    return (
        *(row.job, row.step, row.when, row.tokens, row.loss, row.held_out),
        *(row.device_nanos, row.cost),
    )


def _key(row: Sequence[Any]) -> Key:
    key_id, tenant, name, admin, prefix, created, revoked = row
    return Key(
        id=key_id,
        tenant=TenantName(tenant),
        admin=bool(admin),
        name=name,
        prefix=prefix,
        created=created,
        revoked=bool(revoked),
    )

"""Credentials, of which only hashes are stored, and the log of what admins did."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from meted.domain.units import KeyId, Micros, ProjectName, TenantName
from meted.live.doors import Key
from meted.live.store import AuditEntry, StoreError
from meted.live.stores.database import Database, Row, Statements, check_storable, marks
from meted.live.stores.memory import encode
from meted.live.stores.terms import bump
from meted.policy.rate_limit import Limits

SECRET_PREFIX = "mt-"
SECRET_BYTES = 32
SHOWN_CHARACTERS = 7

_KEY = "id, tenant, project, name, admin, prefix, created, revoked, limits"
_AUDIT = "at, actor, action, subject, detail"


class Keys:
    """The keys of all tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self, *, tenant: TenantName, project: ProjectName, name: str, admin: bool, limits: Limits
    ) -> tuple[Key, str]:
        """A new key and its secret."""
        check_storable(tenant, project, name)
        secret = _new_secret()
        key = Key(
            id=KeyId(f"key-{secrets.token_hex(6)}"),
            tenant=tenant,
            project=project,
            admin=admin,
            name=name,
            prefix=secret[:SHOWN_CHARACTERS],
            created=int(time.time()),
            limits=limits,
        )
        values = (
            *(key.id, key.tenant, key.project, key.name, int(key.admin), key.prefix),
            *(key.created, 0, encode(key.limits), _hash(secret)),
        )

        def work(db: Statements) -> None:
            bump(db)
            db.change(f"INSERT INTO keys ({_KEY}, hash) VALUES ({marks(_KEY)}, ?)", *values)

        self._database.write(work)
        return key, secret

    def rotate(self, key_id: KeyId) -> tuple[Key, str]:
        """A new secret for a key that is not revoked."""
        secret = _new_secret()

        def work(db: Statements) -> Key:
            bump(db)
            rows = db.rows(
                "UPDATE keys SET hash = ?, prefix = ? WHERE id = ? AND revoked = 0"
                f" RETURNING {_KEY}",
                *(_hash(secret), secret[:SHOWN_CHARACTERS], key_id),
            )
            if not rows:
                raise _unknown(db, key_id)
            return _key(rows[0])

        return self._database.write(work), secret

    def revoke(self, key_id: KeyId) -> None:
        """Refuse a key from now on."""

        def work(db: Statements) -> None:
            bump(db)
            if not db.change("UPDATE keys SET revoked = 1 WHERE id = ?", key_id):
                raise _unknown(db, key_id)

        self._database.write(work)

    def find(self, secret: str) -> Key | None:
        """The key with this secret, revoked or not.

        It is found by its hash in an index, whose timing tells nothing that helps to guess 256
        random bits; the comparison that decides takes the same time for every hash.
        """
        wanted = _hash(secret)
        rows = self._database.read(
            lambda db: db.rows(f"SELECT {_KEY}, hash FROM keys WHERE hash = ?", wanted)
        )
        for *columns, stored in rows:
            if hmac.compare_digest(stored, wanted):
                return _key(columns)
        return None

    def all(self) -> list[Key]:
        """Oldest first."""
        rows = self._database.read(lambda db: db.rows(f"SELECT {_KEY} FROM keys ORDER BY position"))
        return [_key(row) for row in rows]


class AuditLog:
    """What admins did, appended, never changed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, entry: AuditEntry) -> None:
        check_storable(entry.actor, entry.action, entry.subject)
        values = (entry.at, entry.actor, entry.action, entry.subject, encode(entry.detail))
        self._database.write(
            lambda db: db.change(f"INSERT INTO audit ({_AUDIT}) VALUES ({marks(_AUDIT)})", *values)
        )

    def last(self, limit: int) -> list[AuditEntry]:
        """Newest first."""
        rows = self._database.read(
            lambda db: db.rows(f"SELECT {_AUDIT} FROM audit ORDER BY seq DESC LIMIT ?", limit)
        )
        return [
            AuditEntry(
                at=Micros(at),
                actor=actor,
                action=action,
                subject=subject,
                detail=msgspec.json.decode(detail, type=dict[str, Any]),
            )
            for at, actor, action, subject, detail in rows
        ]


def _new_secret() -> str:
    return SECRET_PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def _hash(secret: str) -> str:
    """What is stored of a secret.

    A fast hash is enough: 256 random bits cannot be guessed at any speed, unlike a password.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _unknown(db: Statements, key_id: KeyId) -> StoreError:
    known = ", ".join(key for (key,) in db.rows("SELECT id FROM keys ORDER BY position")) or "none"
    if db.rows("SELECT 1 FROM keys WHERE id = ?", key_id):
        return StoreError(f"key {key_id!r} is revoked; create another")
    return StoreError(f"no key has the id {key_id!r}; there are: {known}")


def _key(row: Row | Sequence[Any]) -> Key:
    key_id, tenant, project, name, admin, prefix, created, revoked, limits = row
    return Key(
        id=KeyId(key_id),
        tenant=TenantName(tenant),
        project=ProjectName(project),
        admin=bool(admin),
        name=name,
        prefix=prefix,
        created=created,
        revoked=bool(revoked),
        limits=msgspec.json.decode(limits, type=Limits),
    )

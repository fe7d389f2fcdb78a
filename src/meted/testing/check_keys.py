"""Conformance of a store's credentials and of its audit log."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

from meted.domain.tenancy import DEFAULT_PROJECT
from meted.domain.units import KeyId, Micros, ProjectName
from meted.live.store import AuditEntry, Store, StoreError
from meted.policy.rate_limit import Limits
from meted.testing.store_rows import TENANT, MakeStore


def check_keys(make_store: MakeStore, stored_bytes: Callable[[], bytes] | None) -> None:
    """A secret finds its key and is nowhere stored; a revoked key says so to every store."""
    with closing(make_store()) as store, closing(make_store("there")) as other:
        before = other.version()
        key, secret = store.create_key(
            tenant=TENANT, project=DEFAULT_PROJECT, name="laptop", admin=False
        )
        admin, admin_secret = store.create_key(
            tenant=TENANT,
            project=ProjectName("größe/✓"),
            name="",
            admin=True,
            limits=Limits(requests_per_minute=3, concurrent=1),
        )
        assert other.version() != before
        assert other.find_key(secret) == key
        assert other.find_key(admin_secret) == admin
        assert secret.startswith(key.prefix)
        for wrong in ("", secret[:-1], secret + "x", key.id, key.prefix, "mt-é\udcff", "mt-\x00"):
            assert other.find_key(wrong) is None
        before = other.version()
        store.revoke_key(key.id)
        assert other.version() != before
        assert other.find_key(secret) == replace(key, revoked=True)
        assert list(other.keys()) == [replace(key, revoked=True), admin]
        rotated_secret = _check_rotation(store, other, admin.id, admin_secret)
        _refuses(lambda: store.revoke_key(KeyId("key-unknown")), says=key.id)
        _refuses(lambda: store.rotate_key(KeyId("key-unknown")), says=key.id)
        _refuses(lambda: store.rotate_key(key.id), says="revoked")
        _check_names(store)
    if stored_bytes is not None:
        content = stored_bytes()
        assert key.prefix.encode() in content
        for one in (secret, admin_secret, rotated_secret):
            assert one[len(key.prefix) :].encode() not in content


def _check_rotation(store: Store, other: Store, key_id: KeyId, old: str) -> str:
    """A rotated key keeps all but its secret, and the old one is refused from then on."""
    before, key = other.version(), other.find_key(old)
    assert key is not None
    rotated, secret = store.rotate_key(key_id)
    assert rotated == replace(key, prefix=rotated.prefix)
    assert secret.startswith(rotated.prefix)
    assert secret != old
    assert other.version() != before
    assert other.find_key(old) is None
    assert other.find_key(secret) == rotated
    return secret


def _check_names(store: Store) -> None:
    """What a database cannot store is refused by name, and nothing of it is kept."""
    known = list(store.keys())
    for name in ("nul\x00", "half a pair \ud800"):
        _refuses(
            lambda name=name: store.create_key(
                tenant=TENANT, project=DEFAULT_PROJECT, name=name, admin=False
            ),
            says="",
        )
    assert list(store.keys()) == known


def check_audit(make_store: MakeStore) -> None:
    """Entries come back whole, newest first, to every store."""
    entries = [
        AuditEntry(
            at=Micros(number),
            actor="key-1",
            action="deploy",
            subject=f"words-{number}",
            detail={"replicas": number, "note": "nul \x00 and é", "outcome": None},
        )
        for number in range(3)
    ]
    with closing(make_store()) as store, closing(make_store("there")) as other:
        for entry in entries:
            store.audit(entry)
        assert list(other.audit_log(2)) == [entries[2], entries[1]]
        assert list(other.audit_log(100))[:3] == entries[::-1]


def _refuses(call: Callable[[], object], *, says: str) -> None:
    try:
        call()
    except StoreError as error:
        assert says in str(error), error
    else:
        raise AssertionError(f"expected a refusal that says {says!r}")

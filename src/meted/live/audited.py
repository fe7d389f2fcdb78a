"""Changes of keys, budgets, prices and rates: each is entered in the audit log, exactly once.

Blocking, like the store. The doors call it in the writer's thread, the CLI as it is, so that there
is one place that says what an entry holds: never a secret.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from meted.domain.budget import Budget
from meted.domain.units import BudgetName, KeyId, Micros, ProjectName, TenantName
from meted.ledger.price_book import PriceVersion
from meted.ledger.rates import RateVersion
from meted.live.doors import Key
from meted.live.money_views import budget_view, price_view, rate_view
from meted.live.store import AuditEntry, Store
from meted.policy.rate_limit import Limits


class AuditedStore:
    """A store as its administrators change it. actor: who does so, as the log names it."""

    def __init__(self, store: Store, *, wall: Callable[[], Micros], actor: str) -> None:
        self._store = store
        self._wall = wall
        self._actor = actor

    def note(self, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        """Enter an action in the audit log. Raises StoreError."""
        self._store.audit(
            AuditEntry(
                at=self._wall(),
                actor=self._actor,
                action=action,
                subject=subject,
                detail=dict(detail),
            )
        )

    def create_key(
        self,
        *,
        tenant: TenantName,
        project: ProjectName,
        name: str,
        admin: bool,
        limits: Limits,
    ) -> tuple[Key, str]:
        """A new key and its secret, of which only the hash is stored."""
        key, secret = self._store.create_key(
            tenant=tenant, project=project, name=name, admin=admin, limits=limits
        )
        self.note("key.create", key.id, _shown(key))
        return key, secret

    def rotate_key(self, key_id: KeyId) -> tuple[Key, str]:
        """A new secret for a key. Raises StoreError if it is unknown or revoked."""
        key, secret = self._store.rotate_key(key_id)
        self.note("key.rotate", key.id, _shown(key))
        return key, secret

    def revoke_key(self, key_id: KeyId) -> None:
        """Refuse a key from now on. Raises StoreError if it is unknown."""
        self._store.revoke_key(key_id)
        self.note("key.revoke", key_id, {})

    def save_budget(self, budget: Budget) -> None:
        """Make or change a budget. Raises StoreError if its scope or period would change."""
        self._store.save_budget(budget)
        self.note("budget.save", budget.name, budget_view(budget))

    def remove_budget(self, name: BudgetName) -> None:
        """Raises StoreError for an unknown name."""
        self._store.remove_budget(name)
        self.note("budget.remove", name, {})

    def add_price(self, version: PriceVersion) -> PriceVersion:
        """Append to the price book, recorded now. Raises StoreError, ValueError."""
        versions = self._store.price_book().versions
        version = replace(version, recorded=self._after(versions[-1].recorded if versions else 0))
        self._store.add_price(version)
        self.note("price.add", version.device_kind, price_view(version))
        return version

    def add_rate(self, version: RateVersion) -> RateVersion:
        """Append to the rate book, recorded now. Raises StoreError, ValueError."""
        versions = self._store.rate_book().versions
        version = replace(version, recorded=self._after(versions[-1].recorded if versions else 0))
        self._store.add_rate(version)
        self.note("rate.add", version.tenant or "any tenant", rate_view(version))
        return version

    def _after(self, last: int) -> Micros:
        """Now, or the last recording where the wall clock was set back since: books only grow."""
        return Micros(max(self._wall(), last))


def _shown(key: Key) -> dict[str, Any]:
    """What the log holds of a key: not even the characters of its secret that lists show."""
    return {
        "tenant": key.tenant,
        "project": key.project,
        "name": key.name,
        "admin": key.admin,
        "limits": asdict(key.limits),
    }

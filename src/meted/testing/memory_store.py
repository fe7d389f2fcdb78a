"""The part of a store that keeps keys, budgets, prices, rates and the audit log, in memory."""

import hashlib
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from meted.domain.budget import Budget, Window
from meted.domain.units import BudgetName, KeyId, Micros, NanoUSD, ProjectName, TenantName
from meted.ledger.price_book import PriceBook, PriceVersion
from meted.ledger.rates import RateBook, RateVersion
from meted.ledger.windows import window_of
from meted.live.doors import Key
from meted.live.store import AuditEntry, Lease, StoreError
from meted.policy.rate_limit import NO_LIMITS, Limits

CREATED = 1_700_000_000


class MemoryMoney:
    """Those methods of `Store` that `HouseMoney` calls. spent: what was charged in each window."""

    def __init__(self) -> None:
        self.spent: Counter[Window] = Counter()
        self.entries: list[AuditEntry] = []
        self.hashes: dict[str, KeyId] = {}
        self._keys: dict[KeyId, Key] = {}
        self._budgets: dict[BudgetName, Budget] = {}
        self._prices = PriceBook()
        self._rates = RateBook()
        self._version = 0

    def version(self) -> int:
        return self._version

    # Keys: only hashes of secrets are kept.

    def add_key(self, key: Key, secret: str) -> None:
        """A key with a secret that is known beforehand, for tests."""
        self._keys[key.id] = key
        self.hashes[_hash(secret)] = key.id
        self._version += 1

    def create_key(
        self,
        *,
        tenant: TenantName,
        project: ProjectName,
        name: str,
        admin: bool,
        limits: Limits = NO_LIMITS,
    ) -> tuple[Key, str]:
        secret = _new_secret()
        key = Key(
            id=KeyId(f"key-{secrets.token_hex(6)}"),
            tenant=tenant,
            project=project,
            admin=admin,
            name=name,
            prefix=secret[:7],
            created=CREATED,
            limits=limits,
        )
        self.add_key(key, secret)
        return key, secret

    def rotate_key(self, key_id: KeyId) -> tuple[Key, str]:
        key = self._key(key_id)
        if key.revoked:
            raise StoreError(f"the key {key_id!r} is revoked; create another")
        secret = _new_secret()
        self._forget_secret(key_id)
        key = replace(key, prefix=secret[:7])
        self.add_key(key, secret)
        return key, secret

    def find_key(self, secret: str) -> Key | None:
        key_id = self.hashes.get(_hash(secret))
        return None if key_id is None else self._keys[key_id]

    def keys(self) -> Sequence[Key]:
        return list(self._keys.values())

    def revoke_key(self, key_id: KeyId) -> None:
        self._keys[key_id] = replace(self._key(key_id), revoked=True)
        self._version += 1

    def _key(self, key_id: KeyId) -> Key:
        if key_id not in self._keys:
            raise StoreError(f"no key has the id {key_id!r}; there are: {', '.join(self._keys)}")
        return self._keys[key_id]

    def _forget_secret(self, key_id: KeyId) -> None:
        self.hashes = {one: of for one, of in self.hashes.items() if of != key_id}

    # Budgets.

    def budgets(self) -> Sequence[Budget]:
        return [self._budgets[name] for name in sorted(self._budgets)]

    def save_budget(self, budget: Budget) -> None:
        known = self._budgets.get(budget.name)
        if known is not None and _scope(known) != _scope(budget):
            raise StoreError(
                f"the budget {budget.name!r} has another scope or period; remove it first, or "
                "choose another name"
            )
        self._budgets[budget.name] = budget
        self._version += 1

    def remove_budget(self, name: BudgetName) -> None:
        if name not in self._budgets:
            known = ", ".join(self._budgets) or "none"
            raise StoreError(f"there is no budget {name!r}; there are: {known}")
        del self._budgets[name]
        self._version += 1

    def standings(self, *, now: Micros) -> Sequence[Lease]:
        return [self._standing(budget, window_of(budget, now)) for budget in self.budgets()]

    def _standing(self, budget: Budget, window: Window) -> Lease:
        spent = NanoUSD(self.spent[window])
        return Lease(
            budget=budget,
            window=window,
            granted=spent,
            spent=spent,
            wanted=NanoUSD(0),
            all_granted=spent,
            all_spent=spent,
        )

    # Prices, rates, the audit log.

    def price_book(self) -> PriceBook:
        return self._prices

    def add_price(self, version: PriceVersion) -> None:
        self._prices = self._prices.with_version(version)
        self._version += 1

    def rate_book(self) -> RateBook:
        return self._rates

    def add_rate(self, version: RateVersion) -> None:
        self._rates = self._rates.with_version(version)
        self._version += 1

    def audit(self, entry: AuditEntry) -> None:
        self.entries.append(entry)

    def audit_log(self, limit: int) -> Sequence[AuditEntry]:
        return self.entries[::-1][:limit]


def _new_secret() -> str:
    return f"mt-{secrets.token_urlsafe(32)}"


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _scope(budget: Budget) -> tuple[object, ...]:
    return (budget.tenant, budget.project, budget.key, budget.deployment, budget.period)

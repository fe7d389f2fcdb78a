"""The keys that a house has been shown: looked up once, remembered until keys change."""

from meted.live.doors import Key
from meted.live.store import Store

MOST = 10_000


class Keyring:
    """Keys by their secrets, in memory. Unknown secrets are remembered too, so that asking again
    and again costs the store nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys: dict[str, Key | None] = {}

    def find(self, secret: str) -> Key | None:
        """The key behind a secret, unless it is unknown or revoked. Raises StoreDownError."""
        if secret not in self._keys:
            if len(self._keys) >= MOST:
                self._keys.clear()
            self._keys[secret] = self._store.find_key(secret)
        key = self._keys[secret]
        return key if key is not None and not key.revoked else None

    def forget(self) -> None:
        """Keys have changed in the store."""
        self._keys.clear()

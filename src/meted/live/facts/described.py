"""A model's own description, read key by key: a missing or wrong one is an error that names it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from meted.live.dollars import shortened
from meted.live.facts.errors import FactError


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """Keys and values under a title. A key that is null counts as missing."""

    title: str
    values: Mapping[str, Any]

    def has(self, key: str) -> bool:
        return self.values.get(key) is not None

    def integer(self, *keys: str, default: int | None = None) -> int:
        """The first of these keys that is there, an integer of 0 or more.

        Raises FactError if none is there and no default is given, or if the value is another.
        """
        for key in keys:
            value = self.values.get(key)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise self.wrong(key, "an integer, 0 or more")
            return value
        if default is None:
            raise FactError(
                f"{self.title} lacks {' or '.join(keys)}; add it there, or describe the model in a "
                "facts file"
            )
        return default

    def flag(self, key: str, *, default: bool) -> bool:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def text(self, key: str) -> str:
        """The text under a key, empty if there is none."""
        value = self.values.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.wrong(key, "text")
        return value

    def items(self, key: str) -> Sequence[Any]:
        """The list under a key, empty if there is none."""
        value = self.values.get(key)
        if value is None:
            return ()
        if not isinstance(value, list | tuple):
            raise self.wrong(key, "a list")
        return cast(Sequence[Any], value)

    def inner(self, key: str) -> "Described | None":
        """The mapping under a key, or None."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(key, "a mapping")
        return Described(title=f"{key} of {self.title}", values=cast(dict[str, Any], value))

    def wrong(self, key: str, expected: str) -> FactError:
        return FactError(
            f"{key} of {self.title} is {shortened(self.values.get(key))}, expected {expected}; "
            "correct it there, or describe the model in a facts file"
        )

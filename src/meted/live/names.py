"""Names that people give: tenants, projects, keys, budgets, deployments. All must be readable."""

import unicodedata

MOST_CHARACTERS = 128
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode's general categories of what no eye sees, by which one name could pass for another."""


def check_name(name: str, what: str, *, empty: bool = False, slash: bool = False) -> str:
    """The name as it is, in any script.

    Raises ValueError if it is blank (unless `empty`), too long, begins or ends with a space, holds
    a character that cannot be seen (controls, marks of direction, zero width), is not in Unicode's
    composed form (NFC, so that one name has one spelling), or holds a slash (unless `slash`), which
    would end it in an address.
    """
    if not name and empty:
        return name
    if not name.strip():
        raise ValueError(f"{what} is empty, expected a name")
    if len(name) > MOST_CHARACTERS:
        raise ValueError(
            f"{what} has {len(name)} characters, expected at most {MOST_CHARACTERS}; shorten it"
        )
    if name != name.strip():
        raise ValueError(f"{what} is {name!a}, which begins or ends with a space; remove it")
    for character in name:
        if unicodedata.category(character) in _INVISIBLE:
            raise ValueError(
                f"{what} is {name!a}, which holds the invisible character {character!a}; remove it"
            )
    if not unicodedata.is_normalized("NFC", name):
        raise ValueError(f"{what} is {name!a}, which is not composed; write it as Unicode's NFC")
    if not slash and ("/" in name or "\\" in name or name in (".", "..")):
        raise ValueError(f"{what} is {name!a}, which an address would not keep; leave out / and \\")
    return name

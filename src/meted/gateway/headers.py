"""Header values that no name can break out of: printable ASCII, the rest percent-encoded."""

import re
from collections.abc import Mapping
from urllib.parse import quote

Header = tuple[bytes, bytes]

_PRINTABLE = bytes(range(0x20, 0x7F))
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TEXT = re.compile(r"[\x20-\x7e]*")
_ECHOED = bytes((0x09, *range(0x20, 0x7F), *range(0x80, 0x100)))


def header_value(text: str) -> bytes:
    """A sentence or number as a header's value; characters that may not be there are %XX."""
    if _TEXT.fullmatch(text):
        return text.encode("ascii")
    return quote(text.encode("utf-8", "surrogatepass"), safe=_PRINTABLE).encode("ascii")


def header_word(text: str) -> bytes:
    """A name as one part of a header's value: percent-encoded, so that no separator is in it."""
    return quote(text.encode("utf-8", "surrogatepass"), safe="").encode("ascii")


def header_list(headers: Mapping[str, str]) -> list[Header]:
    """Headers that another part of the house wants sent. Raises ValueError for a wrong name."""
    for name in headers:
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a header; expected a token")
    return [(name.lower().encode(), header_value(value)) for name, value in headers.items()]


def may_echo(value: bytes) -> bool:
    """Whether a header's value that came in may go out: no control character but a tab."""
    return not value.translate(None, _ECHOED)

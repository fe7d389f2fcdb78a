"""From token ids to the text that a client may see: no half character, no part of a stop string."""

from collections.abc import Sequence

REPLACEMENT = "�"
WINDOW_TOKENS = 16
OVERLAP_TOKENS = 4
"""A UTF-8 character has at most four bytes, and so at most four tokens: cutting the window here
never loses the beginning of one that is not yet whole."""


class Window:
    """The last tokens of an answer. Decoding all of it in every step would cost more and more."""

    __slots__ = ("_open", "_seen", "tokens")

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self._seen = 0
        self._open = False

    @property
    def long(self) -> bool:
        """Whether it is time to `cut` it: never within a character."""
        return len(self.tokens) >= WINDOW_TOKENS and not self._open

    def advance(self, text: str) -> str:
        """The new text, given the text of all tokens in the window; a character that may still
        become whole is kept back."""
        settled = text.rstrip(REPLACEMENT) if text.endswith(REPLACEMENT) else text
        if len(text) - len(settled) > OVERLAP_TOKENS:
            settled = text
        self._open = len(settled) < len(text)
        new = settled[self._seen :]
        self._seen = max(self._seen, len(settled))
        return new

    def cut(self) -> list[int]:
        """Forget the oldest tokens; `restart` must follow with the text of those returned."""
        self.tokens = self.tokens[-OVERLAP_TOKENS:]
        return self.tokens

    def restart(self, text: str) -> None:
        """The text of the tokens that `cut` kept, all of which has been seen."""
        self._seen = len(text)


class StopHold:
    """Keeps back the end of a text while it may be the beginning of a stop string."""

    __slots__ = ("_held", "_stops", "stopped")

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """What may be shown now. At the first stop string `stopped` is set; the stop string and
        what follows it are never shown."""
        if not self._stops:
            return text
        if self.stopped:
            return ""
        held = self._held + text
        found = [at for at in map(held.find, self._stops) if at >= 0]
        if found:
            self.stopped = True
            self._held = ""
            return held[: min(found)]
        keep = max(_overlap(held, stop) for stop in self._stops)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def flush(self) -> str:
        """What was kept back: the text ends here, so it is no stop string."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` with which `stop` begins."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)

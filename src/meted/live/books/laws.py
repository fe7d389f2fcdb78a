"""A law of the books, how often it was tested and where it was broken first."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """says: the law in a sentence. tested: against how many. fault: the first that breaks it."""

    says: str
    tested: int
    fault: str | None = None


class LawBook:
    """Laws while they are tested."""

    def __init__(self, *sentences: str) -> None:
        self._tested = dict.fromkeys(sentences, 0)
        self._faults: dict[str, str] = {}

    def hold(self, sentence: str, *, broken: str | None = None) -> None:
        """One more thing was held against a law; broken: how it breaks it."""
        self._tested[sentence] += 1
        if broken is not None:
            self._faults.setdefault(sentence, broken)

    def count(self, sentence: str, tested: int) -> None:
        """So many more were held against a law at once."""
        self._tested[sentence] += tested

    @property
    def laws(self) -> tuple[Law, ...]:
        return tuple(
            Law(says=sentence, tested=tested, fault=self._faults.get(sentence))
            for sentence, tested in self._tested.items()
        )

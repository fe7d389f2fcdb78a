"""A search of serving run to its end: what it asks is measured, what is measured it is told."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from meted.domain.configuration import Configuration
from meted.live.tuning.measuring import Measurer
from meted.optimise.search import Search
from meted.optimise.search_values import Answer, Ask, Measured

Watch = Callable[[Ask, Measured, Search], None]
"""Told after each measurement: what was asked, what came of it, and the search with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The answer, with all evidence. chosen: None where nothing feasible was measured."""

    answer: Answer
    chosen: Configuration | None
    evidence: tuple[Measured, ...]


async def search_serving(
    search: Search,
    configurations: Sequence[Configuration],
    measurer: Measurer,
    *,
    watch: Watch = lambda ask, measured, search: None,
) -> Found:
    """Ask, measure, tell until the search is over.

    The search's candidates are the configurations, by their text.
    """
    by_key: Mapping[str, Configuration] = {str(one): one for one in configurations}
    while (ask := search.ask()) is not None:
        measured = await measurer.measure(by_key[ask.key], ask.effort)
        search = search.tell(measured)
        watch(ask, measured, search)
    answer = search.answer()
    chosen = None if answer.best is None else by_key[answer.best]
    return Found(answer=answer, chosen=chosen, evidence=search.told)

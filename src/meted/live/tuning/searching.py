"""A search of serving run to its end: what it asks is measured, what is measured it is told."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from meted.domain.configuration import Configuration
from meted.domain.units import NanoUSD
from meted.live.tuning.measuring import BEAT_S, Measurer
from meted.optimise.search import Search
from meted.optimise.search_values import Answer, Ask, Measured

PAUSES_S = (2.0, 8.0)
"""How long to wait for quiet before a disturbed measurement is made again."""

Watch = Callable[[Ask, Measured, Search], None]
"""Told after each measurement: what was asked, what came of it, and the search with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The answer, with all evidence. chosen: None where nothing feasible was measured. disturbed:
    how many measurements had to be believed though others were busy, or they stood still."""

    answer: Answer
    chosen: Configuration | None
    evidence: tuple[Measured, ...]
    disturbed: int


async def search_serving(
    search: Search,
    configurations: Sequence[Configuration],
    measurer: Measurer,
    *,
    watch: Watch = lambda ask, measured, search: None,
    pauses: Sequence[float] = PAUSES_S,
) -> Found:
    """Ask, measure, tell until the search is over.

    The search's candidates are the configurations, by their text. What was told before goes on.
    pauses: seconds before each further try of a measurement that was disturbed.
    """
    by_key: Mapping[str, Configuration] = {str(one): one for one in configurations}
    measurer.resume(search.told)
    disturbed, restless = 0, False
    while (ask := search.ask()) is not None:
        # Where waiting for quiet was in vain, the next one is measured once: under steady load more
        # tries would only cost more.
        patience = () if restless else pauses
        measured = await _quietly(measurer, by_key[ask.key], ask.effort, patience)
        restless = measurer.disturbed
        disturbed += restless
        search = search.tell(measured)
        watch(ask, measured, search)
    answer = search.answer()
    chosen = None if answer.best is None else by_key[answer.best]
    return Found(answer=answer, chosen=chosen, evidence=search.told, disturbed=disturbed)


async def _quietly(
    measurer: Measurer, configuration: Configuration, effort: float, pauses: Sequence[float]
) -> Measured:
    """A measurement that nothing disturbed, of a few tries; else the last. All of them are paid."""
    measured = await measurer.measure(configuration, effort)
    for pause in pauses:
        if not measurer.disturbed:
            break
        for _ in range(round(pause / BEAT_S)):
            await asyncio.sleep(BEAT_S)
            measurer.mind()
        again = await measurer.measure(configuration, effort)
        measured = replace(again, spent=NanoUSD(measured.spent + again.spent))
    return measured

"""Four tenants with different mixes: the same requests in the same order in every replay."""

import csv
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from load import WORDS

TENANTS = ("long-prompts", "long-answers", "chat", "bursts")
AZURE = "azure/AzureLLMInferenceTrace_code.csv"
"""8,819 LLM requests in 57 minutes, Microsoft's AzurePublicDataset, CC-BY-4.0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One request of a tenant; at_s: seconds since the replay began."""

    request: str
    tenant: str
    at_s: float
    prompt: str
    answer_tokens: int


def make_trace(*, seconds: float, scale: float = 1.0, seed: int = 7) -> tuple[list[Arrival], str]:
    """The arrivals of so many seconds, and where their moments come from.

    Each tenant's moments are a random sample, by its own seed, of the hour that Azure recorded,
    compressed to `seconds`; without that file they are drawn uniformly (a Poisson process of known
    count). scale: how many requests, relative to about half a minute of work for one core. What is
    asked does not depend on `seconds`: only the load does.
    """
    recorded = _recorded()
    moments = _moments(recorded)
    arrivals: list[Arrival] = []
    for tenant, (count, mix) in _MIXES.items():
        rng = random.Random(f"{seed} {tenant}")
        wanted = max(1, round(count * scale))
        if moments:
            at = sorted(rng.sample(moments, wanted))
        else:
            at = sorted(rng.random() for _ in range(wanted))
        arrivals += mix(rng, [one * seconds for one in at])
    source = f"recorded, {AZURE}" if recorded else f"drawn, seed {seed}"
    return sorted(arrivals, key=lambda one: (one.at_s, one.request)), source


def _recorded() -> Path | None:
    base = os.environ.get("METED_DATA")
    folder = Path(base) if base else Path(__file__).parents[2] / "shared" / "data"
    return folder / AZURE if (folder / AZURE).exists() else None


def _moments(recorded: Path | None) -> list[float]:
    """Recorded arrivals as shares of the recording's length."""
    if recorded is None:
        return []
    with recorded.open() as file:
        times = [
            datetime.fromisoformat(row["TIMESTAMP"][:26]).timestamp()
            for row in csv.DictReader(file)
        ]
    return [(one - times[0]) / (times[-1] - times[0]) for one in times]


def _words(rng: random.Random, low: int, high: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(low, high)))


def _long_prompts(rng: random.Random, moments: Sequence[float]) -> list[Arrival]:
    """Long prompts, short answers, as for reading documents."""
    return [
        Arrival(
            request=f"long-prompts-{number}",
            tenant="long-prompts",
            at_s=at,
            prompt=_words(rng, 120, 480),
            answer_tokens=rng.randint(2, 10),
        )
        for number, at in enumerate(moments)
    ]


def _long_answers(rng: random.Random, moments: Sequence[float]) -> list[Arrival]:
    """Short prompts, long answers, as for writing."""
    return [
        Arrival(
            request=f"long-answers-{number}",
            tenant="long-answers",
            at_s=at,
            prompt=_words(rng, 10, 40),
            answer_tokens=rng.randint(50, 110),
        )
        for number, at in enumerate(moments)
    ]


def _chat(rng: random.Random, moments: Sequence[float]) -> list[Arrival]:
    """Conversations whose every turn sends again all that was said before, 3 to 6 s later."""
    arrivals: list[Arrival] = []
    for number, begun in enumerate(moments):
        at, said = begun, f"chat {number}: {_words(rng, 60, 120)}"
        for turn in range(rng.randint(2, 4)):
            said = f"{said} {_words(rng, 15, 50)}"
            answer = rng.randint(15, 45)
            arrivals.append(
                Arrival(
                    request=f"chat-{number}-{turn}",
                    tenant="chat",
                    at_s=at,
                    prompt=said,
                    answer_tokens=answer,
                )
            )
            said = f"{said} {_words(rng, answer, answer)}"
            at += rng.uniform(3, 6)
    return arrivals


def _bursts(rng: random.Random, moments: Sequence[float]) -> list[Arrival]:
    """Four to six requests at once, then silence."""
    return [
        Arrival(
            request=f"bursts-{number}-{index}",
            tenant="bursts",
            at_s=at,
            prompt=_words(rng, 30, 90),
            answer_tokens=rng.randint(8, 30),
        )
        for number, at in enumerate(moments)
        for index in range(rng.randint(4, 6))
    ]


_MIXES = {
    "long-prompts": (9, _long_prompts),
    "long-answers": (4, _long_answers),
    "chat": (3, _chat),
    "bursts": (4, _bursts),
}
"""How many arrivals (conversations, bursts) each tenant has at scale 1."""

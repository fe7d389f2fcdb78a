"""Measurements on real replica processes of the engine without weights."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from meted.domain.configuration import Configuration
from meted.domain.engine_settings import EngineSettings
from meted.domain.units import Micros, NanoUSD, Tokens
from meted.live.local_host import LocalHost
from meted.live.tuning.measuring import Measurer, reference_micros
from meted.live.tuning.recorded import Recorded
from meted.live.tuning.searching import search_serving
from meted.optimise.belief import Candidate
from meted.optimise.search import Search
from meted.optimise.search_values import Budget, Measured

FAKE = EngineSettings(engine="meted.testing.fake_engine:FakeEngine")
PRICE = NanoUSD(3_600_000_000)
"""$3.60 a device-hour: a device-second costs $0.001."""


def traffic(count: int, *, output: int = 10, prompt: int = 20) -> list[Recorded]:
    words = " ".join(["word"] * prompt)
    return [
        Recorded(
            at=Micros(place * 20_000),
            prompt=words,
            prompt_tokens=Tokens(prompt),
            output_tokens=Tokens(output),
        )
        for place in range(count)
    ]


def make(folder: Path, name: str, **manners: int) -> Configuration:
    """A checkpoint whose fake engine computes so long."""
    place = folder / "checkpoints" / name
    place.mkdir(parents=True)
    (place / "fake.json").write_text(json.dumps(manners))
    return Configuration(checkpoint=name, settings=FAKE)


def measurer(
    folder: Path, requests: list[Recorded], mind: Callable[[], None] = lambda: None
) -> Measurer:
    """What else this machine does is no matter of these tests."""
    return Measurer(
        host=LocalHost(folder / "logs"),
        checkpoints=folder / "checkpoints",
        traffic=requests,
        devices=(0,),
        price=PRICE,
        mind=mind,
        most_others=2.0,
    )


async def test_cost_is_the_device_time_of_the_requests_at_the_price(tmp_path: Path) -> None:
    one = make(tmp_path, "slow", decode_us=5_000)
    measuring = measurer(tmp_path, traffic(8))
    found = await measuring.measure(one, 1.0)
    [(key, effort, replayed)] = measuring.log
    assert (key, effort) == (str(one), 1.0)
    assert [one.tokens for one in replayed.requests] == [10] * 8
    assert [one.prompt_tokens for one in replayed.requests] == [20] * 8
    assert found.cost == pytest.approx(replayed.nanos / 1e9 * 0.001 / (8 * 30) * 1e6)
    assert replayed.nanos > 10 * 5_000_000 / 2, "ten steps of 5 ms at least, half of them computing"
    assert found.tpot_p95_s is not None and found.tpot_p95_s >= 0.005
    held = replayed.load_s + replayed.seconds
    assert found.spent == pytest.approx(held * 0.001 * 1e9, abs=1)


async def test_a_part_with_longer_answers_is_no_dearer_by_the_token(tmp_path: Path) -> None:
    """The second half generates four times as much; its dollars are carried to the whole mix."""
    one = make(tmp_path, "any", decode_us=100)
    requests = [*traffic(6, output=5), *traffic(6, output=20)]
    measuring = measurer(tmp_path, requests)
    await measuring.measure(one, 0.5)
    replayed = measuring.log[0][2]
    plain = replayed.nanos / 1e9 * 0.001 / (6 * 25) * 1e6
    carried = measuring.usd_per_million(replayed, requests[:6])
    share = reference_micros(requests) / (6 * 25 + 6 * 40) / (reference_micros(requests[:6]) / 150)
    assert carried == pytest.approx(plain * share)
    assert share > 1.2


async def test_more_effort_goes_on_with_the_requests_that_follow(tmp_path: Path) -> None:
    one = make(tmp_path, "any", decode_us=100)
    measuring = measurer(tmp_path, traffic(8))
    await measuring.measure(one, 0.5)
    await measuring.measure(one, 0.5)
    assert [len(found.requests) for _, _, found in measuring.log] == [4, 4]
    again = await measuring.measure(one, 0.5)
    assert again.refused is None, "after the last request the first comes again"


async def test_a_failing_configuration_is_refused_with_what_it_said(tmp_path: Path) -> None:
    one = make(tmp_path, "broken", decode_us=100, fail_after_steps=3)
    found = await measurer(tmp_path, traffic(6)).measure(one, 1.0)
    assert found.cost is None
    assert found.refused is not None and "the engine failed in a step" in found.refused


async def test_a_rejected_request_refuses_the_configuration(tmp_path: Path) -> None:
    one = make(tmp_path, "short", context_tokens=16)
    found = await measurer(tmp_path, traffic(4)).measure(one, 1.0)
    assert found.refused is not None and "4 of 4 requests were rejected" in found.refused
    assert found.spent > 0


def test_longer_requests_are_more_work() -> None:
    assert reference_micros(traffic(2, output=40)) > 3 * reference_micros(traffic(2, output=10))


def test_too_little_traffic_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the traffic has 2 requests"):
        measurer(tmp_path, traffic(2))


async def test_a_search_finds_the_cheaper_of_two(tmp_path: Path) -> None:
    """The prior says the contrary; three times the device time is seen through it."""
    cheap = make(tmp_path, "cheap", decode_us=1_000)
    dear = make(tmp_path, "dear", decode_us=6_000)
    keys = {"cheap": str(cheap), "dear": str(dear)}
    search = Search(
        candidates=(
            Candidate(key=keys["dear"], traits=(), log_cost=-1.0, doubt=0.3),
            Candidate(key=keys["cheap"], traits=(), log_cost=0.0, doubt=0.3),
        ),
        budget=Budget(effort=3.0),
    )
    seen: list[str] = []
    found = await search_serving(
        search,
        [cheap, dear],
        measurer(tmp_path, traffic(8)),
        watch=lambda ask, measured, search: seen.append(ask.key),
    )
    assert found.chosen == cheap
    assert {keys["cheap"], keys["dear"]} == set(seen)
    assert found.answer.effort <= 3.0 + 1e-9


class Orders:
    """What a house makes of a search: on its n-th look it is kept waiting, or told to end."""

    def __init__(self, *, waits: tuple[int, ...] = (), ends: int = 0) -> None:
        self.looks, self._waits, self._ends = 0, waits, ends

    def __call__(self) -> None:
        self.looks += 1
        if self.looks in self._waits:
            time.sleep(0.9)
        if self.looks == self._ends:
            raise InterruptedError("told to end")


def one_of(found: Configuration) -> Search:
    """A search that is sure of its only candidate after one measurement."""
    candidate = Candidate(key=str(found), traits=(), log_cost=0.0, doubt=0.3)
    return Search(candidates=(candidate,), budget=Budget(effort=3.0))


async def test_a_measurement_that_stood_still_is_made_again_and_both_are_paid(
    tmp_path: Path,
) -> None:
    one = make(tmp_path, "any", decode_us=3_000)
    measuring = measurer(tmp_path, traffic(24), Orders(waits=(2,)))
    found = await search_serving(one_of(one), [one], measuring, pauses=(0.1,))
    assert len(measuring.log) == 2 and found.disturbed == 0
    held = sum(replayed.load_s + replayed.seconds for _, _, replayed in measuring.log)
    assert found.answer.dollars == pytest.approx(held * 0.001 * 1e9, abs=2)


async def test_where_it_is_never_quiet_all_is_believed_and_counted(tmp_path: Path) -> None:
    """It is waited for once, and not each time: more tries would only cost more."""
    two = [make(tmp_path, name, decode_us=3_000) for name in ("one", "other")]
    measuring = measurer(tmp_path, traffic(24), Orders(waits=tuple(range(1, 400))))
    search = Search(
        candidates=tuple(
            Candidate(key=str(one), traits=(), log_cost=0.0, doubt=0.3) for one in two
        ),
        budget=Budget(effort=0.5),
    )
    found = await search_serving(search, two, measuring, pauses=(0.1,))
    assert found.disturbed == len(found.evidence) > 1
    assert len(measuring.log) == 1 + len(found.evidence)


async def test_an_order_to_end_ends_the_replica_too(tmp_path: Path) -> None:
    one = make(tmp_path, "any", decode_us=3_000)
    measuring = measurer(tmp_path, traffic(40), Orders(ends=3))
    with pytest.raises(InterruptedError):
        await measuring.measure(one, 1.0)
    assert not [child for child in psutil.Process().children() if "replica" in command(child)]


def command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


async def test_what_was_measured_before_goes_on_with_the_requests_after_it(tmp_path: Path) -> None:
    one = make(tmp_path, "any", decode_us=100)
    requests = [*traffic(6, prompt=20), *traffic(6, prompt=40)]
    before = Measured(key=str(one), effort=0.5, cost=1.0)
    measuring = measurer(tmp_path, requests)
    measuring.resume([before])
    await measuring.measure(one, 0.5)
    assert {found.prompt_tokens for found in measuring.log[0][2].requests} == {40}

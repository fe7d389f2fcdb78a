"""Traces by word: the kind where the file tells it, other seeds, and work generated like it."""

from pathlib import Path

import pytest

from meted.cli.simulate_generated import from_numbers
from meted.cli.simulate_traces import SpecError, read_source, rotated, shuffled
from meted.domain.allocation import JobOption
from meted.domain.units import Micros
from meted.live.job_traces import TracedJob
from meted.sim.generators import Diurnal
from meted.sim.scenario import SimRequest

HOUR = 3_600_000_000


def make_jobs(count: int) -> list[TracedJob]:
    option = JobOption(kind="", devices=1, steps_per_second=1.0)
    return [
        TracedJob(
            name=f"j{n}", arrived=Micros(n * HOUR), steps=100.0 * (n + 1), options=(option,),
            deadline=Micros(n * HOUR + 60 * (n + 1)),
        )
        for n in range(count)
    ]  # fmt: skip


def test_the_first_seed_is_the_trace_itself() -> None:
    jobs = make_jobs(20)
    assert shuffled(jobs, 0) == tuple(jobs)
    requests = [SimRequest(Micros(n * 1_000), 10 + n, 5) for n in range(20)]
    assert rotated(requests, 0) == tuple(requests)


def test_another_seed_brings_the_same_jobs_at_the_same_moments() -> None:
    jobs = make_jobs(20)
    other = shuffled(jobs, 3)
    assert [one.arrived for one in other] == [one.arrived for one in jobs]
    assert [one.name for one in other] != [one.name for one in jobs]
    assert sorted(one.steps for one in other) == sorted(one.steps for one in jobs)
    for one in other:
        assert one.deadline == one.arrived + 60 * round(one.steps / 100)


def test_another_seed_begins_the_requests_elsewhere_and_goes_round() -> None:
    requests = [SimRequest(Micros(n * n * 1_000), 10 + n, 5) for n in range(20)]
    other = rotated(requests, 3)
    assert other[0].at == 0
    assert other[0].prompt_tokens != 10
    assert [one.at for one in other] == sorted(one.at for one in other)
    assert sorted(one.prompt_tokens for one in other) == [10 + n for n in range(20)]
    span = 19 * 19 * 1_000
    assert other[-1].at <= span + span // 19


PHILLY = "timestamp,duration,num_gpus,cluster\n" + "\n".join(
    f"2017-10-{9 + n // 24:02} {n % 24:02}:00:00,{60 * (1 + n % 9)},{1 + n % 2},red"
    for n in range(96)
)
REQUESTS = "seconds,prompt_tokens,output_tokens\n" + "\n".join(
    f"{3 * n},{100 + 13 * (n % 17)},{10 + n % 11}" for n in range(400)
)


@pytest.fixture
def philly(tmp_path: Path) -> Path:
    path = tmp_path / "philly.csv"
    path.write_text(PHILLY)
    return path


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    path = tmp_path / "requests.csv"
    path.write_text(REQUESTS)
    return path


def test_the_kind_may_be_left_out_where_the_file_tells_it(philly, requests) -> None:
    assert read_source(str(philly)).jobs
    assert not read_source(str(requests)).jobs
    named, plain = read_source(f"philly:{philly}"), read_source(str(philly))
    assert named.draw(2) == plain.draw(2)


def test_settings_take_a_part_of_a_trace(philly, requests) -> None:
    assert len(read_source(f"{philly},most=7").draw(0).jobs) == 7
    assert len(read_source(f"philly:{philly},gpus:1").draw(0).jobs) == 48
    assert len(read_source(f"{requests},most:9").draw(0).requests) == 9


def test_a_trace_s_time_is_scaled_to_a_rate(requests) -> None:
    plain = read_source(str(requests)).draw(0).requests
    dense = read_source(f"{requests},rate=2").draw(0).requests
    assert 399 * 1e6 / dense[-1].at == pytest.approx(2.0)
    assert [one.prompt_tokens for one in dense] == [one.prompt_tokens for one in plain]


@pytest.mark.parametrize("process", ["diurnal", "bursty", "modulated"])
def test_generated_requests_are_as_many_and_as_long_as_the_trace_s(requests, process) -> None:
    source = read_source(f"{process}:{requests},hours=20")
    drawn = source.draw(1).requests
    assert len(drawn) == pytest.approx(20 * 1_200, rel=0.1)
    assert sum(one.prompt_tokens for one in drawn) / len(drawn) == pytest.approx(204, rel=0.1)
    assert max(one.output_tokens for one in drawn) <= 20
    assert drawn == source.draw(1).requests
    assert drawn != source.draw(2).requests


def test_a_generated_trace_may_have_another_rate(requests) -> None:
    drawn = read_source(f"bursty:{requests},hours=10,rate=1").draw(0).requests
    assert len(drawn) == pytest.approx(36_000, rel=0.05)


def test_generated_jobs_are_like_the_trace_s(philly) -> None:
    jobs = read_source(f"diurnal:{philly}", span=30 * 86_400.0).draw(1).jobs
    assert len(jobs) == pytest.approx(720, rel=0.15)
    assert {one.options[0].devices for one in jobs} == {1, 2}
    assert all(60 <= one.steps <= 540.001 for one in jobs)
    assert len({one.name for one in jobs}) == len(jobs)


@pytest.mark.parametrize(
    "text",
    [
        "diurnal:rate=2,input=300,output=50,peak=2.5",
        "bursty:rate=2,input=300,output=50,cv=4",
        "modulated:rate=2,input=300,output=50,peak=4",
        "modulated:rate=2,input=300,output=50",
    ],
)
def test_numbers_alone_make_requests_of_their_means(text: str) -> None:
    source = read_source(text, span=86_400.0)
    drawn = source.draw(0).requests
    assert len(drawn) / 86_400 == pytest.approx(2.0, rel=0.15)
    assert sum(one.prompt_tokens for one in drawn) / len(drawn) == pytest.approx(300, rel=0.05)
    assert sum(one.output_tokens for one in drawn) / len(drawn) == pytest.approx(50, rel=0.05)


def test_a_day_s_peak_is_as_high_as_it_was_said() -> None:
    process = from_numbers("diurnal", rate=2.0, peak=4.0, cv=None)
    assert isinstance(process, Diurnal)
    assert max(process.rates) == pytest.approx(8.0)
    assert process.rate == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("gavel:nowhere.trace", "nowhere.trace is no file"),
        ("diurnal:rate=x,input=1,output=1", "rate is 'x', expected a number"),
        ("diurnal:rate=1,inputs=1", "says 'inputs=1', expected NAME=VALUE"),
        ("diurnal:rate=1,input=1,output=1,peak=30", "peak is 30, expected above 1"),
        ("bursty:rate=0,input=1,output=1", "rate of a renewal process is 0"),
    ],
)
def test_what_is_wrong_is_named(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_source(text, span=60.0).draw(0)


def test_a_gavel_trace_without_its_table_says_so(tmp_path) -> None:
    path = tmp_path / "a" / "b" / "c" / "d" / "jobs.trace"
    path.parent.mkdir(parents=True)
    path.write_text("x")
    with pytest.raises(SpecError, match=r"no simulation_throughputs\.json is beside"):
        read_source(str(path))

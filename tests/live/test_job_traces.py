"""Traces of jobs are read as they were recorded; what is wrong is named with its line."""

import json
from pathlib import Path

import pytest

from meted.live.job_traces import (
    JobTraceError,
    PhillyPart,
    read_gavel,
    read_philly,
    read_throughputs,
)
from meted.testing.public_data import NoDataError, data_folder

HOUR = 3_600_000_000
TABLE = {
    "v100": {"('LM', 1)": {"null": 4.0, "('LM', 1)": [2.0, 2.0]}, "('LM', 2)": {"null": 7.0}},
    "k80": {"('LM', 1)": {"null": 1.0}, "('LM', 2)": {"null": 0.0}},
    "v100_unconsolidated": {"('LM', 1)": {"null": 3.0}},
}


def line(
    kind: str = "LM", steps: object = 400, gpus: object = 1, weight: object = 1,
    slo: object = "-1.000000", at: object = 0,
) -> str:  # fmt: skip
    cells = (kind, "python3 main.py", "lm", "--steps", 1, steps, gpus, weight, slo, at)
    return "\t".join(map(str, cells))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "throughputs.json"
    path.write_text(json.dumps(TABLE))
    return path


def trace(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "jobs.trace"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_throughputs_are_of_jobs_alone_on_gpus_that_lie_together(table) -> None:
    paces = read_throughputs(table)
    assert set(paces) == {"v100", "k80"}
    assert paces["v100"] == {("LM", 1): 4.0, ("LM", 2): 7.0}


def test_a_job_has_an_option_for_each_kind_that_holds_it(tmp_path, table) -> None:
    narrow, wide = read_gavel(trace(tmp_path, line(), line(gpus=2)), read_throughputs(table))
    assert {(one.kind, one.devices, one.steps_per_second) for one in narrow.options} == {
        ("v100", 1, 4.0),
        ("k80", 1, 1.0),
    }
    assert [(one.kind, one.devices) for one in wide.options] == [("v100", 2)]


def test_a_deadline_is_a_multiple_of_the_fastest_duration(tmp_path, table) -> None:
    (job,) = read_gavel(trace(tmp_path, line(slo=1.5, at=10)), read_throughputs(table))
    assert job.deadline == job.arrived + round(1.5 * 400 / 4.0 * 1e6)
    (free,) = read_gavel(trace(tmp_path, line()), read_throughputs(table))
    assert free.deadline is None


def test_jobs_come_in_order_and_keep_the_number_of_their_line(tmp_path, table) -> None:
    jobs = read_gavel(trace(tmp_path, line(at=9), line(at=3)), read_throughputs(table))
    assert [(one.name, one.arrived) for one in jobs] == [
        ("job-002", 3_000_000),
        ("job-001", 9_000_000),
    ]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("LM\tx", "line 2 has 2 cells between tabs, expected 10"),
        (line(steps="many"), "line 2: total steps is 'many', expected 1 or more"),
        (line(gpus=0), "line 2: scale factor is '0', expected 1 or more"),
        (line(at="-4"), r"line 2: arrival \(s\) is '-4'"),
        (line(at="inf"), r"line 2: arrival \(s\) is 'inf'"),
        (line(kind="GAN"), "line 2: GAN on 1 GPUs has no throughput on v100, k80"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, table, wrong: str, sentence: str) -> None:
    with pytest.raises(JobTraceError, match=sentence):
        read_gavel(trace(tmp_path, line(), wrong), read_throughputs(table))


@pytest.mark.parametrize(
    "content", ["[]", "{", '{"v100": 3}', '{"v100": {"LM": {}}}', '{"v100": {"(\'LM\', 1)": 3}}']
)
def test_a_table_that_is_none_is_named(tmp_path, content: str) -> None:
    path = tmp_path / "table.json"
    path.write_text(content)
    with pytest.raises(JobTraceError, match=r"table\.json"):
        read_throughputs(path)


PHILLY = """\
timestamp,duration,num_gpus,gpu_time,cluster
2017-10-09 07:00:00,60.0,2,120.0,red
2017-10-08 07:00:00,30.0,1,30.0,blue
2017-10-17 07:00:00,90.0,8,720.0,red
"""


@pytest.fixture
def philly(tmp_path: Path) -> Path:
    path = tmp_path / "philly.csv"
    path.write_text(PHILLY)
    return path


def test_a_philly_job_takes_as_long_on_as_many_devices_as_it_had(philly) -> None:
    first, second, third = read_philly(philly)
    assert [one.arrived for one in (first, second, third)] == [0, 24 * HOUR, 9 * 24 * HOUR]
    (option,) = second.options
    assert (second.steps / option.steps_per_second, option.devices, option.kind) == (60, 2, "")
    assert (second.tenant, second.name) == ("red", "job-00002")


@pytest.mark.parametrize(
    ("part", "lines"),
    [
        (PhillyPart(week=0), [3, 2]),
        (PhillyPart(week=1), [4]),
        (PhillyPart(cluster="blue"), [3]),
        (PhillyPart(most_gpus=2), [3, 2]),
    ],
)
def test_a_part_is_what_it_says(philly, part: PhillyPart, lines: list[int]) -> None:
    jobs = read_philly(philly, part)
    assert [int(one.name.removeprefix("job-")) for one in jobs] == lines
    assert jobs[0].arrived == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("60.0,2", "0,2"), "line 2: duration is '0', expected a number above 0"),
        (("60.0,2", "60.0,1.5"), "line 2: num_gpus is '1.5', expected a whole number"),
        (("2017-10-09 07", "soon 07"), "line 2: timestamp is 'soon 07:00:00'"),
        (("num_gpus", "gpus"), "lacks the columns num_gpus"),
    ],
)
def test_a_wrong_philly_line_is_named(philly, change: tuple[str, str], sentence: str) -> None:
    philly.write_text(PHILLY.replace(*change))
    with pytest.raises(JobTraceError, match=sentence):
        read_philly(philly)


def test_a_part_without_jobs_says_what_there_is(philly) -> None:
    with pytest.raises(JobTraceError, match="no cluster 'green'; its largest are red, blue"):
        read_philly(philly, PhillyPart(cluster="green"))
    with pytest.raises(JobTraceError, match="its weeks are 0 to 1, it has 3 jobs"):
        read_philly(philly, PhillyPart(week=5))
    with pytest.raises(JobTraceError, match="share is 0"):
        PhillyPart(share=0)


@pytest.mark.data
def test_the_public_traces_are_read_whole() -> None:
    try:
        gavel, philly = data_folder("gavel"), data_folder("philly")
    except NoDataError as missing:
        pytest.skip(str(missing))
    paces = read_throughputs(gavel / "simulation_throughputs.json")
    assert set(paces) == {"v100", "p100", "k80"}
    jobs = read_gavel(gavel / "max_min_fairness.trace", paces)
    assert (len(jobs), jobs[-1].arrived) == (96, 46_317_000_000)
    assert len(read_gavel(gavel / "minimize_makespan.trace", paces)) == 100
    whole = read_philly(philly / "philly.csv")
    assert len(whole) == 82_247
    tenth = read_philly(philly / "philly.csv", PhillyPart(share=0.1))
    assert len(tenth) / len(whole) == pytest.approx(0.1, rel=0.01)

"""Traffic from files and from words: every format, every mistake with its place."""

from itertools import pairwise
from pathlib import Path

import pytest

from meted.domain.units import Micros
from meted.live.traffic import TrafficError, parse_traffic, read_trace, recorded_traffic
from meted.predict.batching import Arrival
from meted.testing.public_data import NoDataError, data_folder

AZURE = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:04.0319600,3180,8
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:05.9799600,110,0
"""
MOONCAKE = """\
{"timestamp": 0, "input_length": 1200, "output_length": 50, "hash_ids": [1, 2, 3]}
{"timestamp": 2500, "input_length": 1300, "output_length": 60, "hash_ids": [1, 2, 9]}
{"timestamp": 3000, "input_length": 1024, "output_length": 5, "hash_ids": [1, 2]}
"""
PLAIN = "seconds,prompt_tokens,output_tokens,cached_tokens\n10.5,100,20,40\n12,50,10,\n"


def written(folder: Path, text: str, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_azures_rows_are_put_in_order_of_time(tmp_path: Path) -> None:
    first, second, third = read_trace(written(tmp_path, AZURE))
    assert (first.at, first.prompt_tokens, first.output_tokens) == (0, 4808, 10)
    assert (second.at, third.at) == (52_000, 2_000_000)
    assert third.output_tokens == 1


def test_prompt_blocks_that_came_before_are_cached(tmp_path: Path) -> None:
    found = read_trace(written(tmp_path, MOONCAKE, "trace.jsonl"))
    assert [one.cached_tokens for one in found] == [0, 1024, 1023]
    assert found[1].at == 2_500_000


def test_plain_rows_from_csv_and_json_are_the_same(tmp_path: Path) -> None:
    lines = (
        '{"seconds": 10.5, "prompt_tokens": 100, "output_tokens": 20, "cached_tokens": 40}\n\n'
        '{"seconds": 12, "prompt_tokens": 50, "output_tokens": 10}\n'
    )
    assert read_trace(written(tmp_path, PLAIN)) == read_trace(written(tmp_path, lines, "a.jsonl"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has the columns of an empty file"),
        ("a,b\n1,2\n", "has the columns a, b; expected a CSV with TIMESTAMP"),
        (AZURE.replace("3180", "many"), "line 2: ContextTokens is 'many', expected a whole number"),
        (AZURE.replace("2023-11-16 18:17:05", "soon"), "line 4: TIMESTAMP is 'soon.9799600'"),
        (
            PLAIN.replace("100,20,40", "100,20,400"),
            "line 2: cached_tokens is 400, expected at most",
        ),
        (PLAIN.replace("12,50", "12,0"), "line 3: prompt_tokens is '0', expected 1 or more"),
        (PLAIN.replace("10.5", "x"), "line 2: seconds is 'x', expected a number"),
        (MOONCAKE.replace("60", "}"), "line 2: no JSON"),
        ("{}\n", "has the columns of an empty file"),
        (AZURE[: AZURE.index("2023-11-16 18:17:03")], "has 1 requests, expected two or more"),
    ],
)
def test_a_wrong_file_says_where_and_what(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(TrafficError, match=says):
        read_trace(written(tmp_path, text))


def test_numbers_by_name_and_by_place_are_the_same() -> None:
    named, placed = parse_traffic("rate=5,input=300,output=80"), parse_traffic("5,300,80")
    assert named == placed
    assert named.traffic.periods[0].arrivals_per_second == pytest.approx(5, rel=0.01)
    assert "5 requests/s with about 300 tokens in and 80 out" in named.told


def test_a_variation_makes_bursts() -> None:
    def variation(text: str) -> float:
        moments = [one.at for one in parse_traffic(text).traffic.sample]
        gaps = [after - before for before, after in pairwise(moments)]
        mean = sum(gaps) / len(gaps)
        return (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5 / mean

    assert variation("5,300,80") == pytest.approx(1, abs=0.1)
    assert variation("rate=5,input=300,output=80,cv=3") == pytest.approx(3, abs=0.4)


def test_an_office_day_has_the_same_mean_and_a_peak() -> None:
    flat = parse_traffic("5,300,80").traffic
    office = parse_traffic("5,300,80", day="office").traffic
    assert office.hours_per_month == pytest.approx(flat.hours_per_month)
    assert office.tokens_per_month() == pytest.approx(flat.tokens_per_month(), rel=1e-6)
    assert max(one.arrivals_per_second for one in office.periods) == pytest.approx(9, rel=0.01)


def test_a_rate_scales_a_trace_and_keeps_its_lengths(tmp_path: Path) -> None:
    rows = "".join(f"{second},{100 - second % 2 * 50},20\n" for second in range(200))
    trace = "seconds,prompt_tokens,output_tokens\n" + rows
    found = parse_traffic(str(written(tmp_path, trace)), rate=40)
    assert found.traffic.periods[0].arrivals_per_second == pytest.approx(40, rel=0.01)
    assert {one.prompt_tokens for one in found.traffic.sample} == {100, 50}
    assert "200 recorded requests of trace.csv, scaled to 40 requests/s" in found.told


def test_what_a_model_cannot_hold_is_left_out_and_told() -> None:
    found = parse_traffic("5,1000,250", longest=2048)
    assert max(one.prompt_tokens + one.output_tokens for one in found.traffic.sample) <= 2048
    assert found.traffic.periods[0].arrivals_per_second == pytest.approx(5, rel=0.01)
    assert "of them left out, longer than the model's 2048 tokens" in found.told
    assert "left out" not in parse_traffic("5,100,25", longest=8192).told
    with pytest.raises(TrafficError, match="longer than the model's context of 4 tokens"):
        parse_traffic("5,1000,250", longest=4)


def test_the_houses_own_requests_are_traffic() -> None:
    arrivals = [Arrival(Micros(100_000 * one), 50, 10) for one in range(40)]
    found = recorded_traffic(arrivals)
    assert found.traffic.periods[0].arrivals_per_second == pytest.approx(10, rel=0.05)
    assert found.told == "40 recorded requests of the house's books"
    with pytest.raises(TrafficError, match="books hold 1 generating requests"):
        recorded_traffic(arrivals[:1])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no-such-file", "is no file and no numbers"),
        ("1,2", "has 2 numbers, expected three"),
        ("rate=1,input=2", "lacks output"),
        ("rate=1,input=2,output=3,size=4", "names 'size'"),
        ("rate=1,rate=2,input=2,output=3", "names 'rate'"),
        ("rate=fast,input=2,output=3", "rate is 'fast', expected a number"),
        ("rate=0,input=2,output=3", "rate is 0, expected a number above 0"),
        ("1,0.5,3", "input is 0.5 tokens, expected 1 or more"),
    ],
)
def test_wrong_words_say_what_was_expected(text: str, says: str) -> None:
    with pytest.raises(TrafficError, match=says):
        parse_traffic(text)


@pytest.mark.data
def test_the_public_traces_are_read_whole() -> None:
    try:
        azure = data_folder("azure") / "AzureLLMInferenceTrace_code.csv"
        mooncake = data_folder("mooncake") / "conversation_trace.jsonl"
    except NoDataError as missing:
        pytest.skip(str(missing))
    assert len(read_trace(azure)) == 8_819
    found = read_trace(mooncake)
    assert len(found) == 12_031
    assert sum(one.cached_tokens for one in found) / sum(one.prompt_tokens for one in found) > 0.3

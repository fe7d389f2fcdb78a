"""Names and amounts as people give them: exact, readable, or refused with a sentence."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meted.live.dollars import exact_dollars, nano_dollars, shortened, usd
from meted.live.names import MOST_CHARACTERS, check_name


@given(st.integers(min_value=0, max_value=10**18 - 1))
def test_an_amount_survives_writing_and_reading(nanos: int) -> None:
    assert nano_dollars(usd(nanos), "limit") == nanos


@pytest.mark.parametrize(
    ("text", "nanos"),
    [("0", 0), ("0.1", 10**8), ("12.50", 125 * 10**8), ("0.000000001", 1), ("007", 7 * 10**9)],
)
def test_an_amount_is_exact(text: str, nanos: int) -> None:
    assert nano_dollars(text, "limit") == nanos


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            "-1",
            "+1",
            "1.",
            ".5",
            "1e3",
            "1e400",
            "NaN",
            "Infinity",
            "1_000",
            "1,5",
            " 1",
            "1 ",
        ),
        *("1\n", "0.0000000001", "1000000000", "٣", "1" * 5000, "0x10", "$1"),
        *(1, 1.5, True, None, float("nan"), float("inf"), 10**400, -(10**400), [], {}),
    ],
)
def test_what_is_no_exact_amount_is_refused_by_name(value: object) -> None:
    with pytest.raises(ValueError, match="limit is ") as refused:
        nano_dollars(value, "limit")
    assert len(str(refused.value)) < 400


def test_rates_have_six_places() -> None:
    assert exact_dollars("2.5", "input", places=6) == 2_500_000
    with pytest.raises(ValueError, match="at most 6 decimals"):
        exact_dollars("0.0000001", "input", places=6)


@pytest.mark.parametrize(
    "name", ["acme", "Müller & Söhne", "شركة", "日本", "a b", "🚀", "x" * MOST_CHARACTERS]
)
def test_a_readable_name_of_any_script_stays_as_it_is(name: str) -> None:
    assert check_name(name, "tenant") == name


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", " a", "a ", "a\0", "a\r\nb", "a\tb", "\u202eacme", "ac\u200bme", "a\u200dme"),
        *("\ud800", "a\u2028b", "\ufeffacme", "x" * (MOST_CHARACTERS + 1), "e\u0301", "\ue000"),
        *("a/b", "..", ".", "a\\b", "../../etc/passwd"),
    ],
)
def test_a_name_that_could_deceive_is_refused_in_plain_ascii(name: str) -> None:
    with pytest.raises(ValueError, match="tenant ") as refused:
        check_name(name, "tenant")
    assert re.fullmatch(r"[\x20-\x7e]+", str(refused.value))


def test_a_label_may_be_empty_and_hold_a_slash() -> None:
    assert check_name("", "name", empty=True) == ""
    assert check_name("team/laptop", "name", slash=True) == "team/laptop"


@given(st.one_of(st.text(), st.integers(), st.floats(), st.lists(st.integers())))
def test_a_value_in_a_sentence_is_short(value: object) -> None:
    assert len(shortened(value)) <= 80

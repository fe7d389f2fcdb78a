"""What a client may see of a text while it is being made."""

from hypothesis import given
from hypothesis import strategies as st

from meted.live.engines.text_stream import OVERLAP_TOKENS, WINDOW_TOKENS, StopHold, Window


def decode_tokens(tokens: list[int]) -> str:
    """One token is one byte; what is no character is replaced, as some detokenisers do."""
    return bytes(tokens).decode(errors="replace")


def ignore_tokens(tokens: list[int]) -> str:
    """One token is one byte; what is no character is left out, as others do."""
    return bytes(tokens).decode(errors="ignore")


@given(st.text(), st.sampled_from([decode_tokens, ignore_tokens]))
def test_a_stream_of_bytes_gives_the_text_and_no_half_character(text: str, decode):
    window, shown = Window(), ""
    for byte in text.encode():
        window.tokens.append(byte)
        shown += window.advance(decode(window.tokens))
        assert text.startswith(shown)
        if window.long:
            window.restart(decode(window.cut()))
            assert len(window.tokens) == OVERLAP_TOKENS < WINDOW_TOKENS
    assert shown == text or "�" in text


@given(
    st.lists(st.text(alphabet="ab ", max_size=4), max_size=12),
    st.lists(st.text(alphabet="ab ", min_size=1, max_size=4), max_size=3),
)
def test_text_ends_before_the_first_stop_string(pieces: list[str], stops: list[str]):
    whole = "".join(pieces)
    hold, shown = StopHold(stops), ""
    for piece in pieces:
        shown += hold.push(piece)
        assert not any(stop in shown for stop in stops)
        if hold.stopped:
            break
    hit = any(stop in whole for stop in stops)
    assert hold.stopped == hit
    if not hit:
        assert shown + hold.flush() == whole
    else:
        assert whole.startswith(shown)
        rest = whole[len(shown) :]
        assert any(rest.startswith(stop) for stop in stops)


def test_what_may_become_a_stop_string_is_kept_back():
    hold = StopHold(("</end>",))
    assert hold.push("yes </e") == "yes "
    assert hold.push("m>") == "</em>"
    assert hold.push(" </end> no") == " "
    assert hold.stopped
    assert hold.push("more") == ""

"""What is sent to llama.cpp and what is made of its stream, on events as it sends them."""

from typing import Any

import pytest

from meted.domain.engine_settings import EngineSettings
from meted.domain.request import FinishReason, RequestRejectedError, Sampling
from meted.domain.units import RequestId
from meted.live.engines.llamacpp_request import Streaming, completion_body

IDS = [5, 6, 7, 8]


def body(sampling: Sampling, *, max_tokens: int = 10) -> dict[str, Any]:
    return completion_body(sampling, IDS, max_tokens=max_tokens, settings=EngineSettings())


def event(
    cached: int, read: int, predicted: int, text: str = "", end: str | None = None
) -> dict[str, Any]:
    return {
        "choices": [{"text": text, "index": 0, "finish_reason": end}],
        "timings": {"cache_n": cached, "prompt_n": read, "predicted_n": predicted},
    }


def test_every_sampler_that_a_request_names_is_sent():
    sent = body(
        Sampling(
            temperature=0.5,
            top_p=0.9,
            top_k=3,
            seed=(1 << 32) + 4,
            stop=("", "END"),
            presence_penalty=0.1,
            frequency_penalty=0.2,
            repetition_penalty=1.3,
        )
    )
    assert (sent["temperature"], sent["top_p"], sent["top_k"], sent["seed"]) == (0.5, 0.9, 3, 5)
    assert (sent["presence_penalty"], sent["frequency_penalty"]) == (0.1, 0.2)
    assert (sent["repeat_penalty"], sent["stop"], sent["ignore_eos"]) == (1.3, ["END"], False)


def test_what_is_left_open_is_open_and_not_llamas_default():
    sent = body(Sampling())
    assert (sent["temperature"], sent["top_p"], sent["top_k"], sent["min_p"]) == (1.0, 1.0, 0, 0.0)
    assert 0 <= sent["seed"] < (1 << 32) - 1


@pytest.mark.parametrize("sampling", [Sampling(ignore_eos=True), Sampling(min_tokens=10)])
def test_an_answer_of_full_length_ignores_the_end(sampling: Sampling):
    assert body(sampling)["ignore_eos"]


@pytest.mark.parametrize(
    ("sampling", "max_tokens", "param"),
    [(Sampling(min_tokens=9), 10, "min_tokens"), (Sampling(max_tokens=0), 0, "max_tokens")],
)
def test_what_llama_cannot_do_is_refused(sampling: Sampling, max_tokens: int, param: str):
    with pytest.raises(RequestRejectedError) as caught:
        body(sampling, max_tokens=max_tokens)
    assert caught.value.param == param


def test_shares_add_up_over_any_grouping_of_the_stream():
    one = Streaming(RequestId("r"), body(Sampling()), reserved=14)
    assert not one.take(event(1, 0, 0))
    share = one.share()
    assert share is not None and (share.cached_tokens, share.prefill_tokens) == (1, 0)
    assert one.share() is None
    assert not one.take(event(1, 2, 0))
    # The whole prompt is read: its first token follows at once.
    assert one.take(event(1, 3, 0))
    assert not one.take(event(1, 3, 1, "a"))
    share = one.share()
    assert share is not None and (share.prefill_tokens, share.decode_tokens) == (3, 1)
    assert share.context_tokens == 4
    one.take(event(1, 3, 4, "bcd"))
    one.take(event(1, 3, 4, "", "length"))
    share = one.share()
    assert share is not None and (share.decode_tokens, share.context_tokens) == (3, 7)
    assert (one.text(), one.text(), one.finish) == ("abcd", "", FinishReason.LENGTH)


def test_a_server_that_fails_says_why():
    one = Streaming(RequestId("r"), body(Sampling()), reserved=14)
    with pytest.raises(RuntimeError, match="no room"):
        one.take({"error": {"code": 500, "message": "no room"}})

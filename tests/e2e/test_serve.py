"""The main job with real clients: OpenAI's own, against a real model."""

import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import openai
import pytest

from meted.testing.house import RealHouse

pytestmark = pytest.mark.e2e
MODEL = "smollm2-135m"


@pytest.fixture
def client(house: RealHouse) -> openai.OpenAI:
    return house.openai()


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert {model.id for model in client.models.list()} == {MODEL, "all-minilm-l6-v2"}


def test_the_answer_is_sensible_english_and_tells_the_cost_that_the_books_hold(
    house: RealHouse, client: openai.OpenAI
) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Which city is the capital of France?"}],
        temperature=0,
        max_tokens=30,
    )
    assert "Paris" in (raw.parse().choices[0].message.content or "")
    cost = int(Decimal(raw.headers["x-meted-cost-usd"]) * 10**9)
    assert cost > 0
    request = raw.headers["x-meted-request-id"]
    house.wait_until(
        "the books hold what the answer told",
        lambda: house.wait_for_bill_row("request", request)["nano_usd"] == cost,
    )


def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI) -> None:
    ask = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Count from one to five in words."}],
        "temperature": 0,
        "max_tokens": 24,
    }
    whole = client.chat.completions.create(**ask).choices[0].message.content
    chunks = [
        chunk.choices[0].delta.content or ""
        for chunk in client.chat.completions.create(**ask, stream=True)
        if chunk.choices
    ]
    assert "".join(chunks) == whole
    assert len(chunks) > 3


def test_a_repeated_prompt_comes_from_the_prefix_cache(client: openai.OpenAI) -> None:
    prompt = " ".join(f"item {number}" for number in range(200))
    first, again = (
        client.completions.create(model=MODEL, prompt=prompt, max_tokens=4, temperature=0)
        for _ in range(2)
    )
    assert first.usage is not None and again.usage is not None
    assert again.usage.prompt_tokens_details is not None
    assert again.usage.prompt_tokens_details.cached_tokens > 0.8 * again.usage.prompt_tokens
    assert first.choices[0].text == again.choices[0].text


def test_a_prompt_over_the_context_names_the_field(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model=MODEL, prompt="word " * 9000, max_tokens=4)
    assert refused.value.param == "prompt"
    assert refused.value.code == "context_length_exceeded"


def test_embeddings_put_like_near_like(client: openai.OpenAI) -> None:
    texts = ["a cat sat on the mat", "a kitten lay on the rug", "interest rates rose again"]
    data = client.embeddings.create(model="all-minilm-l6-v2", input=texts).data
    cat, kitten, rates = (one.embedding for one in data)
    assert dot(cat, kitten) > dot(cat, rates) + 0.3


def test_a_kept_answer_is_the_same_and_is_billed_for_what_finding_it_took(
    house: RealHouse, client: openai.OpenAI
) -> None:
    text = " ".join(f"item {number}" for number in range(90))
    (first, before), (again, after) = (
        (raw.parse(), Decimal(raw.headers["x-meted-cost-usd"]))
        for raw in (
            client.embeddings.with_raw_response.create(model="all-minilm-l6-v2", input=[text])
            for _ in range(2)
        )
    )
    assert first.data[0].embedding == again.data[0].embedding
    assert first.usage.prompt_tokens == again.usage.prompt_tokens
    assert 0 < after < before


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_a_client_that_leaves_is_billed_for_what_it_used(
    house: RealHouse, client: openai.OpenAI
) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Tell a very long story."}],
        max_tokens=2000,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    request = stream.response.headers["x-meted-request-id"]
    for number, _ in enumerate(stream):
        if number == 5:
            break
    stream.close()
    row = house.wait_for_bill_row("request", request)
    assert row["nano_usd"] > 0
    deployments = house.admin("status")["deployments"]
    assert next(d for d in deployments if d["name"] == MODEL)["running"] == 0


def test_the_example_chats_and_says_what_it_cost(house: RealHouse) -> None:
    example = Path(__file__).parents[2] / "examples" / "chat.py"
    done = subprocess.run(
        [sys.executable, str(example), "Which city is the capital of France?"],
        env={**os.environ, "METED_URL": house.url, "METED_KEY": house.key},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Paris" in done.stdout
    assert "tokens, $0.0000" in done.stdout


def test_the_bill_adds_up_while_the_house_runs(house: RealHouse) -> None:
    assert house.meted("bill", "--check")


def test_the_home_is_private(house: RealHouse) -> None:
    assert Path(house.home / "admin.key").stat().st_mode & 0o077 == 0
    assert Path(house.home / "books.sqlite").stat().st_mode & 0o077 == 0

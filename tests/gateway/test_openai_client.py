"""The doors as OpenAI's own Python client sees them."""

import openai
import pytest

from meted.gateway.app import create_app
from meted.testing.fake_doors import TENANT_KEY, FakeDoors, Manners


@pytest.fixture
async def ai(url: str):
    async with openai.AsyncOpenAI(
        base_url=f"{url}/v1", api_key=TENANT_KEY, max_retries=0
    ) as client:
        yield client


async def test_chat_answers_with_usage(ai):
    answer = await ai.chat.completions.create(
        model="words", messages=[{"role": "user", "content": "one two three four"}]
    )
    assert answer.choices[0].message.content == "one two three four"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.object == "chat.completion"
    assert answer.model == "words"
    assert answer.usage.prompt_tokens == 4
    assert answer.usage.completion_tokens == 4
    assert answer.usage.total_tokens == 8
    assert answer.usage.prompt_tokens_details.cached_tokens == 2


async def test_chat_streams_what_it_would_answer_whole(ai):
    stream = await ai.chat.completions.create(
        model="words",
        messages=[{"role": "user", "content": 'one "two" \n thréé four'}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == 'one "two" thréé four'
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 4
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


async def test_completion_streams_and_answers_whole(ai):
    whole = await ai.completions.create(model="words", prompt="a b c d", max_tokens=3)
    assert whole.choices[0].text == "a b c"
    assert whole.choices[0].finish_reason == "length"
    stream = await ai.completions.create(model="words", prompt=["a b c"], stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == "a b c"


async def test_embeddings_in_both_encodings(ai):
    coded = await ai.embeddings.create(model="vectors", input=["abcd", "ab"])
    plain = await ai.embeddings.create(model="vectors", input="abcd", encoding_format="float")
    assert [row.embedding for row in coded.data] == [[4, 2, 1, 0.5], [2, 1, 0.5, 0.25]]
    assert plain.data[0].embedding == [4, 2, 1, 0.5]
    assert coded.usage.prompt_tokens == 2
    assert [row.index for row in coded.data] == [0, 1]


async def test_models_are_listed_and_got(ai):
    listed = await ai.models.list()
    assert [model.id for model in listed.data] == ["words", "vectors"]
    assert (await ai.models.retrieve("words")).root == "words-1m"
    with pytest.raises(openai.NotFoundError, match="'nope' does not exist"):
        await ai.models.retrieve("nope")


async def chat(ai, **fields):
    fields = {"model": "words", "messages": [{"role": "user", "content": "hi"}], **fields}
    return await ai.chat.completions.create(**fields)


async def test_errors_become_the_clients_own_classes(ai, doors):
    with pytest.raises(openai.BadRequestError) as bad:
        await chat(ai, temperature=3)
    assert bad.value.param == "temperature"
    with pytest.raises(openai.NotFoundError) as missing:
        await chat(ai, model="nope")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError) as unknown:
        await chat(ai.with_options(api_key="mt-wrong"))
    assert unknown.value.code == "invalid_api_key"
    with pytest.raises(openai.APIStatusError) as large:
        await chat(ai, messages=[{"role": "user", "content": "x" * 100_001}])
    assert large.value.status_code == 413
    doors.manners = Manners(context_tokens=2)
    with pytest.raises(openai.BadRequestError) as long:
        await chat(ai, messages=[{"role": "user", "content": "a b c"}])
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError):
        await chat(ai, messages=[{"role": "user", "content": "a b c"}], stream=True)
    doors.manners = Manners(max_queue=0)
    with pytest.raises(openai.InternalServerError) as full:
        await chat(ai)
    assert full.value.status_code == 503
    assert full.value.response.headers["retry-after"] == "2"


async def test_a_failed_request_is_an_error_whole_and_streamed(serve):
    app = create_app(FakeDoors(Manners(fails_after=2)), max_body_bytes=1000)
    async with (
        serve(app) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=TENANT_KEY, max_retries=0) as ai,
    ):
        with pytest.raises(openai.InternalServerError, match="replica 'words-0' died"):
            await chat(ai, messages=[{"role": "user", "content": "a b c"}])
        stream = await chat(ai, messages=[{"role": "user", "content": "a b c"}], stream=True)
        text = ""
        with pytest.raises(openai.APIError, match="replica 'words-0' died"):
            async for chunk in stream:
                text += chunk.choices[0].delta.content or ""
        assert text == "a b"

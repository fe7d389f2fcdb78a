"""The mirror of the pipeline's scheduler and prefix cache, on its own."""

from hypothesis import given, settings
from hypothesis import strategies as st

from meted.live.engines.prefix_mirror import PrefixMirror

BLOCK = 4


def mirror(*, batch: int = 16, blocks: int = 64) -> PrefixMirror:
    return PrefixMirror(batch_tokens=batch, block_tokens=BLOCK, blocks=blocks)


def prefill(one: PrefixMirror, name: str, prompt: list[int]) -> list[int]:
    """Prompt tokens computed in each step until the mirror expects the first token."""
    left = len(prompt) - one.add(name, prompt)
    steps: list[int] = []
    while left:
        one.schedule()
        done = left <= 16
        work = one.settle(name, [99] if done else [])
        steps.append(work.computed)
        left -= work.computed
    return steps


def test_a_fresh_prompt_is_computed_in_chunks_of_the_batch_limit():
    assert prefill(mirror(), "a", list(range(40))) == [16, 16, 8]


def test_a_repeated_prompt_is_cached_but_for_its_last_token():
    one = mirror()
    prefill(one, "a", list(range(40)))
    one.end("a")
    assert one.add("b", list(range(40))) == 39


def test_a_shared_beginning_is_cached_in_full_blocks():
    one = mirror()
    prefill(one, "a", list(range(40)))
    assert one.add("b", [*range(10), 77, 78, 79]) == 8


def test_a_partly_filled_block_is_found_again():
    one = mirror()
    prefill(one, "a", list(range(10)))
    one.end("a")
    assert one.add("b", [*range(10), 77, 78, 79]) == 10


def test_generated_tokens_are_cached_too():
    one = mirror()
    prefill(one, "a", list(range(8)))
    for token in range(100, 108):
        one.schedule()
        one.settle("a", [token])
    one.end("a")
    assert one.add("b", [*range(8), 99, *range(100, 107)]) == 15


def test_requests_that_generate_go_before_prompts():
    one = mirror()
    prefill(one, "a", list(range(4)))
    one.add("b", list(range(50, 90)))
    one.schedule()
    assert one.settle("b", []).computed == 15
    assert one.settle("a", [1]).computed == 0


def test_the_least_recently_taken_block_is_overwritten_first():
    one = mirror(blocks=6)
    prefill(one, "old", list(range(8)))
    one.end("old")
    prefill(one, "new", list(range(50, 58)))
    one.end("new")
    prefill(one, "big", list(range(100, 116)))
    assert one.add("again", list(range(50, 58))) == 7
    one.end("again")
    assert one.add("gone", list(range(8))) == 0


def test_a_first_token_that_comes_early_means_the_rest_was_cached():
    one = mirror()
    one.add("a", list(range(40)))
    one.schedule()
    work = one.settle("a", [7])
    assert (work.computed, work.cached) == (16, 24)


def test_a_first_token_that_comes_late_keeps_a_token_back():
    one = mirror()
    one.add("a", list(range(8)))
    one.schedule()
    first = one.settle("a", [])
    one.schedule()
    second = one.settle("a", [7])
    assert (first.computed, second.computed) == (7, 1)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_computed_and_cached_always_add_up_to_the_prompt(data: st.DataObject):
    one = mirror(blocks=24)
    for number in range(data.draw(st.integers(1, 12))):
        prompt = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=30))
        name = str(number)
        total = one.add(name, prompt)
        assert 0 <= total < len(prompt)
        for _ in range(40):
            one.schedule()
            work = one.settle(name, [5] if data.draw(st.booleans()) else [])
            total += work.computed + work.cached
            assert 0.0 < one.usage <= 1.0
            if total == len(prompt):
                break
        one.schedule()
        work = one.settle(name, [6])
        assert total + work.computed + work.cached == len(prompt)
        one.end(name)
        assert one.usage == 0.0


def test_accepted_tokens_are_in_the_cache_as_if_they_had_come_one_by_one():
    answers: list[int] = []
    for taken in (1, 4):
        one = mirror()
        prefill(one, "a", list(range(8)))
        for start in range(100, 108, taken):
            one.schedule()
            one.settle("a", list(range(start, start + taken)))
        assert one.context("a") == 16
        one.end("a")
        answers.append(one.add("b", [*range(8), 99, *range(100, 107)]))
    assert answers == [15, 15]


def test_without_caching_nothing_is_found_again():
    one = PrefixMirror(batch_tokens=16, block_tokens=BLOCK, blocks=64, caching=False)
    prefill(one, "a", list(range(40)))
    one.end("a")
    assert one.usage == 0.0
    assert one.add("b", list(range(40))) == 0

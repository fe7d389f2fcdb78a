"""What a whole request costs by one step model, whoever answers it: a yardstick for comparisons."""

from meted.predict.step_time import StepCost


def request_micros(
    cost: StepCost, *, prompt_tokens: int, output_tokens: int, cached_tokens: int = 0
) -> float:
    """Sum of the request's own parts of all its steps, in the units of `cost`; no fixed part, which
    the requests of a step share.

    Fresh prompt tokens attend to all before them; each token generated reads what is there so far.
    """
    fresh = prompt_tokens - cached_tokens
    prefill = fresh * (cost.prefill + cost.attention * (cached_tokens + fresh / 2))
    read = output_tokens * (prompt_tokens + output_tokens / 2)
    return prefill + cost.decode * output_tokens + cost.context * read

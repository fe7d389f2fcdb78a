"""Speculative decoding: what a round of guesses brings, what it costs, and when it loses."""

from dataclasses import dataclass

from meted.predict.replica import StepTime
from meted.predict.step_time import StepWork


def expected_tokens(acceptance: float, tokens: int) -> float:
    """Tokens that a round of `tokens` guesses yields, the target's own one included.

    (1 - a^(k+1)) / (1 - a), guesses kept independently with chance a (Leviathan et al. 2023).
    """
    if acceptance == 1:
        return tokens + 1.0
    return (1 - acceptance ** (tokens + 1)) / (1 - acceptance)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeculativeStep:
    """Step time of an engine that guesses, spread over the tokens that its rounds yield.

    A scheduler sees steps in which every sequence gains one token; a round takes `tokens` draft
    steps and one target step that verifies `tokens` + 1 tokens of each sequence. Prompts are
    computed by both models, whatever the guesses yield. draft: None for lookup.
    """

    target: StepTime
    draft: StepTime | None
    tokens: int
    acceptance: float

    def micros(self, work: StepWork) -> float:
        if not work.decode_tokens:
            return self.target.micros(work) + (self.draft.micros(work) if self.draft else 0.0)
        decode = StepWork(
            prefill_tokens=0,
            decode_tokens=work.decode_tokens,
            context_tokens=work.context_tokens,
        )
        verify = self._verify(decode)
        checked = self.target.micros(verify)
        per_token = (checked + self._guess(decode)) / expected_tokens(self.acceptance, self.tokens)
        if not work.prefill_tokens:
            return per_token
        both = StepWork(
            prefill_tokens=work.prefill_tokens,
            decode_tokens=verify.decode_tokens,
            context_tokens=verify.context_tokens,
            attended=work.attended,
        )
        prompts = self.target.micros(both) - checked
        if self.draft is not None:
            prompts += self.draft.micros(work) - self.draft.micros(decode)
        return per_token + prompts

    def _verify(self, decode: StepWork) -> StepWork:
        return StepWork(
            prefill_tokens=0,
            decode_tokens=decode.decode_tokens * (self.tokens + 1),
            context_tokens=decode.context_tokens,
        )

    def _guess(self, decode: StepWork) -> float:
        return self.tokens * self.draft.micros(decode) if self.draft is not None else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeculationGain:
    """What guessing does to one batch: time per token without it over time with it, the tokens of
    a round, and the least acceptance at which it wins, None if it never does."""

    speedup: float
    tokens_per_round: float
    least_acceptance: float | None

    @property
    def loses(self) -> bool:
        return self.speedup < 1

    def __str__(self) -> str:
        verdict = "slower" if self.loses else "faster"
        if self.least_acceptance is None:
            needed = "no acceptance makes it win on this batch"
        else:
            needed = f"it wins from an acceptance of {self.least_acceptance:.2f}"
        times = 1 / self.speedup if self.loses else self.speedup
        return f"speculation is {times:.2f} times {verdict} per token; {needed}"


def speculation_gain(step: SpeculativeStep, work: StepWork) -> SpeculationGain:
    """What guessing does to a batch that only decodes.

    A round costs more as the batch grows and verifying becomes bound by arithmetic, so a gain at
    one sequence may be a loss at many. Raises ValueError for a step with prompts.
    """
    if work.prefill_tokens or not work.decode_tokens:
        raise ValueError(
            f"the step has {work.prefill_tokens} prompt tokens and {work.decode_tokens} to decode, "
            "expected one that only decodes; leave the prompts out"
        )
    yielded = expected_tokens(step.acceptance, step.tokens)
    plain = step.target.micros(work)
    needed = step.micros(work) * yielded / plain
    return SpeculationGain(
        speedup=yielded / needed,
        tokens_per_round=yielded,
        least_acceptance=_acceptance_for(needed, step.tokens),
    )


def _acceptance_for(needed: float, tokens: int) -> float | None:
    """The acceptance at which a round yields `needed` tokens."""
    if needed > tokens + 1:
        return None
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if expected_tokens(middle, tokens) >= needed else (middle, high)
    return high

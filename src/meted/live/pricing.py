"""What a request or a job is charged, and the most it could be before it begins."""

from dataclasses import dataclass

from meted.domain.pool import Price
from meted.domain.request import ChatPrompt, EmbeddingPrompt, Prompt, TextPrompt
from meted.domain.units import (
    NANOS_PER_MICRO,
    DeploymentName,
    DeviceNanos,
    Micros,
    NanoUSD,
    TenantName,
)
from meted.ledger.money import amount
from meted.ledger.rates import ByCost, RateBook, RateCard, Rates, price_of_request, worst_price
from meted.predict.step_time import StepCost

TEMPLATE_TOKENS = 64
"""What a chat template may put around a prompt, and around each of its turns."""
TURN_TOKENS = 16
OPEN_ENDED_TOKENS = 256
"""Output tokens set aside at a time for a request that names no max_tokens."""
LOOKAHEAD_TOKENS = 4
"""Tokens that an engine may generate before an order to stop reaches it."""
COST_SAFETY = 2
"""Factor from a predicted cost to one that is rarely exceeded; a request extends beyond it."""

BY_COST = ByCost()


def prompt_tokens_most(prompt: Prompt) -> int:
    """The most tokens that a prompt can become: a token stands for at least one byte of text."""
    match prompt:
        case ChatPrompt(messages=messages):
            text = sum(len(one.role) + len(one.content.encode()) for one in messages)
            return text + TURN_TOKENS * len(messages) + TEMPLATE_TOKENS
        case TextPrompt(text=text):
            return len(text.encode()) + TEMPLATE_TOKENS
        case EmbeddingPrompt(texts=texts):
            return sum(len(one.encode()) + TURN_TOKENS for one in texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What a request has used so far."""

    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    cost: NanoUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """How one request is charged: its rates, and its engine's steps in device-microseconds."""

    rates: Rates
    steps: StepCost
    price: Price

    def now(self, used: Used) -> NanoUSD:
        """The charge if the request ended now."""
        return price_of_request(
            self.rates,
            input_tokens=max(0, used.prompt_tokens - used.cached_tokens),
            cached_tokens=used.cached_tokens,
            output_tokens=used.output_tokens,
            cost=used.cost,
        )

    def most(self, *, prompt_tokens: int, output_tokens: int) -> NanoUSD:
        """The most that a request can be charged (by cost: the predicted upper cost)."""
        cost = self._cost_most(prompt_tokens, prompt_tokens, output_tokens)
        return worst_price(
            self.rates,
            prompt_tokens_most=prompt_tokens,
            output_tokens_most=output_tokens,
            predicted_cost_most=cost,
        )

    def most_after(self, used: Used, output_tokens: int) -> NanoUSD:
        """The most that it is charged once it has generated so many tokens more."""
        if isinstance(self.rates, RateCard):
            return self.now(
                Used(
                    prompt_tokens=used.prompt_tokens,
                    cached_tokens=used.cached_tokens,
                    output_tokens=used.output_tokens + output_tokens,
                    cost=used.cost,
                )
            )
        context = used.prompt_tokens + used.output_tokens
        more = self._cost_most(0, context, output_tokens)
        return worst_price(
            self.rates,
            prompt_tokens_most=0,
            output_tokens_most=0,
            predicted_cost_most=NanoUSD(used.cost + more),
        )

    def _cost_most(self, prefill_tokens: int, context_tokens: int, output_tokens: int) -> NanoUSD:
        """Upper cost of work alone in its batch: every step's fixed part is all its own."""
        steps = self.steps
        each = steps.fixed + steps.decode + steps.context * (context_tokens + output_tokens)
        prefill = (steps.prefill + steps.attention * prefill_tokens / 2) * prefill_tokens
        micros = steps.fixed + prefill + each * output_tokens
        nanos = round(micros * NANOS_PER_MICRO * COST_SAFETY)
        return amount(DeviceNanos(nanos), self.price)


class Pricing:
    """The rates in force for whoever asks, from the rate book; by cost where it says nothing."""

    def __init__(self, rates: RateBook) -> None:
        self._rates = rates

    def load(self, rates: RateBook) -> None:
        """The rate book has grown."""
        self._rates = rates

    def rates(self, tenant: TenantName, deployment: DeploymentName | None, at: Micros) -> Rates:
        """The rates for a tenant at a moment; deployment None: for training."""
        if not self._rates.versions:
            return BY_COST
        try:
            return self._rates.at(tenant, deployment, at)
        except ValueError:
            return BY_COST

"""Money for requests: set aside before dispatch, more while they run, charged once at the end."""

from collections.abc import Callable

from meted.domain.pool import Price
from meted.domain.request import EmbeddingPrompt, Outcome
from meted.domain.units import NanoUSD, TransferId
from meted.live.budget_desk import BudgetDesk, NoMoney
from meted.live.clock import Clock
from meted.live.doors import HouseError
from meted.live.pricing import (
    LOOKAHEAD_TOKENS,
    OPEN_ENDED_TOKENS,
    Pricing,
    Tariff,
    Used,
    prompt_tokens_most,
)
from meted.live.refusals import no_money
from meted.live.served import ServedDeployment
from meted.live.tickets import LiveRequest

EARLY_TOKENS = 32
"""Tokens before its money ends from which on a request asks for more."""
CHARGED = (Outcome.DONE, Outcome.CANCELLED)
"""Who leaves pays for what was computed; what failed costs its tenant nothing."""


class Funding:
    """From a request's tariff to its charge. No charge exceeds what was set aside for it."""

    def __init__(
        self,
        *,
        clock: Clock,
        desk: BudgetDesk,
        pricing: Pricing,
        price: Callable[[], Price],
    ) -> None:
        self._clock = clock
        self._desk = desk
        self._pricing = pricing
        self._price = price

    def prepare(self, request: LiveRequest, served: ServedDeployment) -> None:
        """A request has come: how it is charged, by which budgets, and whether that can be.

        Raises HouseError 402 if a budget is spent so far that even waiting would not help.
        """
        submission = request.submission
        at = self._clock.wall(request.arrived)
        payer, deployment = submission.payer, submission.deployment
        request.tariff = Tariff(
            rates=self._pricing.rates(payer.tenant, deployment, at),
            steps=served.watch.device_cost,
            price=self._price(),
        )
        request.windows = self._desk.windows(payer, deployment, at)
        request.prompt_tokens_most = prompt_tokens_most(submission.prompt)
        if request.windows:
            lack = self._desk.hopeless(request.windows, self._worst(request, served))
            if lack is not None:
                raise self._refusal(lack)

    def fund(self, request: LiveRequest, served: ServedDeployment) -> bool:
        """Set aside the worst case; False: not now. Raises HouseError 402 for never."""
        if not request.windows or request.transfer is not None:
            return True
        name = TransferId(request.submission.request_id)
        worst = self._worst(request, served)
        made = self._desk.reserve(name, request.windows, worst)
        if isinstance(made, NoMoney):
            raise self._refusal(made)
        if made is None:
            return False
        request.transfer, request.reserved = name, worst
        request.windows = made.windows
        return True

    def give_up(self, request: LiveRequest, served: ServedDeployment) -> HouseError | None:
        """A request has waited for money long enough; None if it is not money that it lacks, but
        a place on a replica."""
        worst = self._worst(request, served)
        lack = self._desk.waiting(request.windows, worst)
        if lack is not None:
            return self._refusal(lack)
        if self._desk.knows(request.windows):
            return None
        return HouseError(
            "the house could not learn how its budgets stand; try again in a moment",
            status=503,
            type="server_error",
            code="budgets_unavailable",
            retry_after_s=2,
        )

    def admitted(self, request: LiveRequest, served: ServedDeployment) -> None:
        """The engine has counted the prompt: what was set aside for more goes back."""
        if request.transfer is None:
            return
        request.prompt_tokens_most = request.prompt_tokens
        worst = self._worst(request, served)
        if worst < request.reserved:
            self._desk.resize(request.transfer, worst)
            request.reserved = worst

    def stepped(self, request: LiveRequest, cost: NanoUSD) -> NoMoney | None:
        """A request has generated: see that the next steps are covered too, else why it stops.

        More is asked for some tokens before it is needed, so that another house may give it back.
        """
        tariff, transfer = request.tariff, request.transfer
        if transfer is None or tariff is None:
            return None
        used = self._used(request, cost)
        left = self._output_left(request)
        if tariff.most_after(used, min(EARLY_TOKENS, left)) <= request.reserved:
            return None
        soon = tariff.most_after(used, min(LOOKAHEAD_TOKENS, left))
        lack = self._extend(
            request, transfer, tariff.most_after(used, min(OPEN_ENDED_TOKENS, left))
        )
        if lack is not None and soon > request.reserved:
            lack = self._extend(request, transfer, soon)
            if lack is not None:
                self._desk.refuse(lack)
                return lack
        return None

    def _extend(
        self, request: LiveRequest, transfer: TransferId, wanted: NanoUSD
    ) -> NoMoney | None:
        made = self._desk.resize(transfer, wanted)
        if isinstance(made, NoMoney):
            return made
        request.reserved = wanted
        return None

    def settle(self, request: LiveRequest, outcome: Outcome, cost: NanoUSD) -> NanoUSD:
        """The end: charge what was used, never more than was set aside; the rest goes back."""
        price = NanoUSD(0)
        if outcome in CHARGED and request.tariff is not None:
            price = request.tariff.now(self._used(request, cost))
        if request.transfer is None:
            return price if not request.windows else NanoUSD(0)
        if outcome not in CHARGED:
            self._desk.void(request.transfer)
            return NanoUSD(0)
        price = max(NanoUSD(0), min(price, request.reserved))
        self._desk.post(request.transfer, price)
        return price

    def _worst(self, request: LiveRequest, served: ServedDeployment) -> NanoUSD:
        assert request.tariff is not None
        output = request.submission.sampling.max_tokens or OPEN_ENDED_TOKENS
        if served.context_tokens:
            output = min(output, served.context_tokens)
        if isinstance(request.submission.prompt, EmbeddingPrompt):
            output = 0
        return request.tariff.most(prompt_tokens=request.prompt_tokens_most, output_tokens=output)

    def _used(self, request: LiveRequest, cost: NanoUSD) -> Used:
        return Used(
            prompt_tokens=request.prompt_tokens,
            cached_tokens=request.cached_tokens,
            output_tokens=request.completion_tokens,
            cost=cost,
        )

    def _output_left(self, request: LiveRequest) -> int:
        most = request.submission.sampling.max_tokens
        if most is None:
            return OPEN_ENDED_TOKENS
        return max(0, most - request.completion_tokens)

    def _refusal(self, lack: NoMoney) -> HouseError:
        self._desk.refuse(lack)
        return no_money(lack, now=self._clock.wall())

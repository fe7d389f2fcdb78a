"""One block of a rollout: what the arm whose turn it is did with the requests of its time. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from meted.domain.deployment import SLO
from meted.domain.request import Outcome
from meted.domain.units import Micros, NanoUSD, Tokens
from meted.live.store import RequestRow
from meted.optimise.switchback import Arm, Block
from meted.predict.request_work import request_micros
from meted.predict.step_time import StepCost

CHARGED = (Outcome.DONE, Outcome.CANCELLED)
"""Requests whose device time the books keep under their own name; what failed is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited:
    """A request that has not ended: how long it is here, and what its client has seen of it.

    held: it waits for money, or its client has left: no arm is to blame for how long it is here.
    """

    since_us: int
    ttft_us: int | None
    gaps: tuple[Micros, ...] = ()
    held: bool = False


class Tally:
    """Counts one block. Give it only requests that arrived after the block's washout; of those
    that arrived in it, what failed.

    yardstick: the step model that says what a request's work is worth. It is not told which tokens
    came from a cache: what an arm's cache saves is that arm's saving.
    """

    def __init__(self, arm: Arm, *, slo: SLO, yardstick: StepCost) -> None:
        self.arm = arm
        self._slo = slo
        self._yardstick = yardstick
        self._cost = self._tokens = 0
        self._predicted = 0.0
        self._requests = self._ttft_met = self._tpot_met = 0
        self._arrived = self.errors = 0

    def came(self) -> None:
        """A request of the block that is no longer open, whatever became of it."""
        self._arrived += 1

    def ended(self, row: RequestRow, gaps: Sequence[Micros], *, fault: bool) -> None:
        """A request of the block has ended. fault: it was the arm that failed it."""
        if fault:
            self.failed()
        if row.outcome not in CHARGED:
            return
        self._cost += row.cost
        self._tokens += row.prompt_tokens + row.completion_tokens
        self._predicted += request_micros(
            self._yardstick, prompt_tokens=row.prompt_tokens, output_tokens=row.completion_tokens
        )
        if row.outcome is Outcome.DONE and not fault:
            self._met(row.ttft_us, gaps, generated=row.completion_tokens > 0)

    def failed(self) -> None:
        """The arm has failed a request, whoever served it then."""
        self._requests += 1
        self.errors += 1

    def block(self, open_still: Sequence[Waited] = ()) -> Block:
        """What the block comes to. open_still: its requests that have not ended.

        Their cost is left out, as they straddle the end. Of the SLO counts what is known already:
        else the slowest requests of the slower arm would never count.
        """
        requests, ttft_met, tpot_met = self._requests, self._ttft_met, self._tpot_met
        for one in open_still:
            early = one.ttft_us is None and one.since_us <= self._slo.ttft_p95
            if early or one.held:
                continue
            requests += 1
            ttft_met += one.ttft_us is not None and one.ttft_us <= self._slo.ttft_p95
            tpot_met += self._paced(one.gaps)
        return Block(
            arm=self.arm,
            cost=NanoUSD(self._cost),
            predicted_cost=self._predicted,
            tokens=Tokens(self._tokens),
            requests=requests,
            ttft_met=ttft_met,
            tpot_met=tpot_met,
            errors=self.errors,
            arrived=self._arrived + len(open_still),
        )

    def _met(self, ttft_us: int | None, gaps: Sequence[Micros], *, generated: bool) -> None:
        self._requests += 1
        self._ttft_met += not generated or (ttft_us is not None and ttft_us <= self._slo.ttft_p95)
        self._tpot_met += self._paced(gaps)

    def _paced(self, gaps: Sequence[Micros]) -> bool:
        """Whether the mean time per later token is within the SLO; it is where there is none."""
        return not gaps or sum(gaps) <= self._slo.tpot_p95 * len(gaps)

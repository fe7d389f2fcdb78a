"""A rollout that runs: whose turn it is, since when, and what came of it so far."""

from meted.domain.deployment import Deployment
from meted.domain.request import Outcome
from meted.domain.units import MICROS_PER_SECOND, Micros
from meted.live.rollout_block import Tally, Waited
from meted.live.rollout_record import RolloutRecord
from meted.live.served import ServedDeployment
from meted.live.store import RequestRow
from meted.live.tickets import LiveRequest
from meted.optimise.receipt import Status
from meted.optimise.rollout import Phase, Route
from meted.optimise.rollout_guard import broken_in_canary, broken_so_far
from meted.optimise.switchback import Arm, Block


class Turn:
    """One turn of an arm. It begins once both arms can serve; until then the first arm does."""

    def __init__(self, record: RolloutRecord, route: Route, *, now: Micros) -> None:
        self.route = route
        self.since = now
        self.started: Micros | None = None
        self.deployment = record.arm(route.arm)
        self._tally = Tally(route.arm, slo=record.first.slo, yardstick=record.yardstick)

    def serves(self, record: RolloutRecord) -> Deployment:
        """The arm that requests go to now."""
        return record.first if self.started is None else self.deployment

    def over(self, now: Micros) -> bool:
        seconds = self.route.seconds
        if self.started is None or seconds is None:
            return False
        return now >= self.started + seconds * MICROS_PER_SECOND

    def seconds_left(self, now: Micros) -> float | None:
        """None before it began."""
        if self.started is None or self.route.seconds is None:
            return None
        return max(0.0, self.route.seconds - (now - self.started) / MICROS_PER_SECOND)

    def ended(self, request: LiveRequest, row: RequestRow) -> None:
        """A request of the deployment has ended, in whichever arm."""
        if not self._came(request):
            return
        if request.moved_from is not None:
            # A request that no arm takes is its client's mistake; one that the other took is not.
            wrongly = request.rejected and row.outcome is Outcome.DONE
            if wrongly and request.moved_from == self.deployment.name:
                self._tally.failed()
            return
        if request.submission.deployment != self.deployment.name:
            return
        fault = row.outcome is Outcome.EXPIRED or (
            row.outcome is Outcome.FAILED and request.attempts > 0 and not request.rejected
        )
        if self._counts(request):
            self._tally.came()
            self._tally.ended(row, request.gaps, fault=fault)
        elif fault:
            self._tally.failed()

    def moved(self, request: LiveRequest) -> None:
        """A request leaves this turn's arm, which could not serve it."""
        if request.submission.deployment != self.deployment.name:
            return
        if self._counts(request):
            self._tally.came()
        if not request.rejected and self._came(request):
            self._tally.failed()

    def refused(self) -> None:
        """The arm had no place for a request that came now."""
        if self.started is not None:
            self._tally.came()
            self._tally.failed()

    def block(self, served: ServedDeployment | None, now: Micros) -> Block:
        """What came of the turn until now."""
        open_now: list[LiveRequest] = []
        if served is not None:
            open_now += served.waiting
            open_now += (one for r in served.replicas.values() for one in r.running.values())
        waited = [
            Waited(
                since_us=now - request.arrived,
                ttft_us=None
                if request.first_token is None
                else request.first_token - request.arrived,
                gaps=tuple(request.gaps),
                held=request.parked is not None or request.cancelled,
            )
            for request in open_now
            if self._counts(request)
        ]
        return self._tally.block(waited)

    def fails(self, record: RolloutRecord, block: Block) -> bool:
        """Whether the second arm's errors so far must end the rollout before the block does."""
        if self.route.arm is Arm.FIRST or not block.errors:
            return False
        state = record.state
        if state.phase is Phase.CANARY:
            broken = broken_in_canary((*state.canary, block), state.plan.limits)
        else:
            broken = broken_so_far((*state.blocks, block), state.plan.limits)
        return broken is not None and broken.status is Status.FAILED

    def _came(self, request: LiveRequest) -> bool:
        return self.started is not None and request.arrived >= self.started

    def _counts(self, request: LiveRequest) -> bool:
        """Whether a request came after the washout."""
        if self.started is None:
            return False
        return request.arrived >= self.started + self.route.washout_s * MICROS_PER_SECOND

"""What the books and /metrics keep of a request that has ended."""

from meted.domain.request import FinishReason, Outcome
from meted.domain.units import Micros
from meted.live.clock import Clock
from meted.live.doors import Finish, Usage
from meted.live.store import RequestRow
from meted.live.tickets import LiveRequest

STOPPED_BY_BUDGET = "budget"


def row_of(
    request: LiveRequest, outcome: Outcome, usage: Usage, *, clock: Clock, now: Micros
) -> RequestRow:
    """The row for the books; moments are the wall clock's there."""
    return RequestRow(
        account=request.account,
        arrived=clock.wall(request.arrived),
        ended=clock.wall(now),
        outcome=outcome,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
        ttft_us=_since_arrival(request, request.first_token),
        device_nanos=usage.device_nanos,
        cost=usage.cost,
        price=usage.price,
        windows=request.windows if request.transfer is not None else (),
        stopped=STOPPED_BY_BUDGET if request.stopped is not None else "",
    )


def finish_of(
    request: LiveRequest, outcome: Outcome, reason: FinishReason | None, *, now: Micros
) -> Finish:
    """The times for the histograms of /metrics."""
    return Finish(
        deployment=request.submission.deployment,
        outcome=outcome,
        finish_reason=reason,
        queue_us=_since_arrival(request, request.dispatched),
        ttft_us=_since_arrival(request, request.first_token),
        e2e_us=Micros(now - request.arrived),
        inter_token_us=tuple(request.gaps),
    )


def _since_arrival(request: LiveRequest, moment: Micros | None) -> Micros | None:
    return None if moment is None else Micros(moment - request.arrived)

"""A turn of a rollout: which requests count in it, and whose fault an end was."""

from typing import Any

import pytest
from rollout_world import deployment, wish

from meted.domain.line import Account, Kind
from meted.domain.request import ChatPrompt, Outcome, Sampling
from meted.domain.tenancy import Payer
from meted.domain.units import DeploymentName, KeyId, Micros, NanoUSD, RequestId, TenantName
from meted.live.doors import Submission
from meted.live.rollout_record import RolloutRecord
from meted.live.rollout_start import plan_of
from meted.live.rollout_turn import Turn
from meted.live.served import ServedDeployment
from meted.live.store import RequestRow
from meted.live.tickets import LiveRequest
from meted.optimise.rollout import Route, begin
from meted.optimise.switchback import Arm
from meted.predict.step_time import StepCost

SECOND = 1_000_000
BEGAN = 100 * SECOND
FIRST, CANDIDATE = deployment(), deployment("chat~2", "small")
RECORD = RolloutRecord(
    first=FIRST,
    second=CANDIDATE,
    state=begin(plan_of(wish(), FIRST))[0],
    yardstick=StepCost(fixed=0.0, prefill=1.0, decode=1.0, context=0.0),
    began=Micros(0),
)


def turn(*, began: int | None = BEGAN) -> Turn:
    """The candidate's: ten seconds, the first of which does not count."""
    route = Route(arm=Arm.SECOND, turn=1, seconds=10.0, washout_s=1.0)
    made = Turn(RECORD, route, now=Micros(BEGAN))
    made.started = None if began is None else Micros(began)
    return made


def request(at: float, *, arm: str = "chat~2", **changes: Any) -> LiveRequest:
    """One that came so many seconds after the turn began."""
    submission = Submission(
        request_id=RequestId("r"),
        payer=Payer(tenant=TenantName("acme"), key=KeyId("k")),
        deployment=DeploymentName(arm),
        prompt=ChatPrompt(messages=()),
        sampling=Sampling(),
    )
    account = Account(kind=Kind.REQUEST, deployment=DeploymentName(arm))
    arrived = Micros(BEGAN + round(at * SECOND))
    return LiveRequest(
        submission=submission, account=account, arrived=arrived, **{"attempts": 1, **changes}
    )


def row(outcome: Outcome = Outcome.DONE) -> RequestRow:
    return RequestRow(
        account=Account(kind=Kind.REQUEST),
        arrived=Micros(0),
        ended=Micros(1),
        outcome=outcome,
        prompt_tokens=10,
        cached_tokens=0,
        completion_tokens=10,
        ttft_us=5,
        device_nanos=1,
        cost=NanoUSD(3),
        price=NanoUSD(0),
    )


def counted(one: Turn) -> tuple[int, int, int]:
    """Cost, requests and errors so far."""
    block = one.block(None, Micros(BEGAN + 10 * SECOND))
    return block.cost, block.requests, block.errors


def arrived(one: Turn, *waiting: LiveRequest) -> int | None:
    """How many have come, of which some wait still."""
    served = ServedDeployment(CANDIDATE)
    for request in waiting:
        served.waiting.push(request)
    return one.block(served, Micros(BEGAN + 10 * SECOND)).arrived


@pytest.mark.parametrize(
    ("at", "arm", "cost"),
    [
        (-0.1, "chat~2", 0),
        (0.999, "chat~2", 0),
        (1.0, "chat~2", 3),
        (9.0, "chat~2", 3),
        (9.0, "chat", 0),
    ],
)
def test_only_requests_of_the_arm_that_came_after_the_washout_count(
    at: float, arm: str, cost: int
) -> None:
    one = turn()
    one.ended(request(at, arm=arm), row())
    assert counted(one) == (cost, 1 if cost else 0, 0)


def test_before_both_arms_can_serve_nothing_counts_and_the_first_serves() -> None:
    one = turn(began=None)
    one.ended(request(5), row())
    one.refused()
    one.moved(request(5))
    assert counted(one) == (0, 0, 0)
    assert one.serves(RECORD) == FIRST
    assert turn().serves(RECORD) == CANDIDATE
    assert not one.over(Micros(BEGAN + 99 * SECOND))


@pytest.mark.parametrize(
    ("changes", "outcome", "errors"),
    [
        ({}, Outcome.FAILED, 1),
        ({}, Outcome.EXPIRED, 1),
        ({"attempts": 0}, Outcome.FAILED, 0),
        ({"rejected": True}, Outcome.FAILED, 0),
        ({}, Outcome.CANCELLED, 0),
    ],
)
@pytest.mark.parametrize("at", [0.5, 5.0])
def test_an_error_is_the_arms_if_it_had_the_request_and_did_not_refuse_it(
    at: float, changes: dict[str, Any], outcome: Outcome, errors: int
) -> None:
    one = turn()
    one.ended(request(at, **changes), row(outcome))
    assert counted(one)[2] == errors


def test_a_request_that_leaves_counts_once_and_its_answer_elsewhere_not_at_all() -> None:
    one, leaving = turn(), request(5)
    one.moved(leaving)
    leaving.move(FIRST)
    one.ended(leaving, row())
    assert counted(one) == (0, 1, 1)


@pytest.mark.parametrize(("outcome", "errors"), [(Outcome.DONE, 1), (Outcome.FAILED, 0)])
def test_a_refusal_is_a_fault_only_if_the_other_arm_answers(outcome: Outcome, errors: int) -> None:
    one, refused = turn(), request(5, rejected=True)
    one.moved(refused)
    assert counted(one) == (0, 0, 0)
    refused.move(FIRST)
    one.ended(refused, row(outcome))
    assert counted(one)[2] == errors


@pytest.mark.parametrize("outcome", list(Outcome))
def test_whatever_became_of_it_a_request_has_come(outcome: Outcome) -> None:
    one = turn()
    assert arrived(one) == 0
    for at in (-3, 0.999):
        one.ended(request(at), row(outcome))
    one.ended(request(5, arm="chat"), row(outcome))
    assert arrived(one) == 0
    one.ended(request(5), row(outcome))
    assert arrived(one) == 1


def test_what_is_open_still_has_come_and_so_has_what_was_not_taken() -> None:
    one = turn()
    parked, gone = request(2, parked=Micros(BEGAN)), request(2, cancelled=True)
    assert arrived(one, request(0.5), request(9.9), parked, gone) == 3
    one.refused()
    assert arrived(one) == 1


@pytest.mark.parametrize("rejected", [False, True])
def test_a_request_that_leaves_has_come_once(rejected: bool) -> None:
    one = turn()
    for at in (0.5, 5):
        leaving = request(at, rejected=rejected)
        one.moved(leaving)
        leaving.move(FIRST)
        one.ended(leaving, row())
    assert arrived(one) == 1


def test_a_turn_ends_after_its_seconds() -> None:
    one = turn()
    assert not one.over(Micros(BEGAN + 10 * SECOND - 1))
    assert one.over(Micros(BEGAN + 10 * SECOND))
    assert one.seconds_left(Micros(BEGAN + 4 * SECOND)) == 6.0


def test_what_still_waits_at_the_end_is_late_once_it_is_sure() -> None:
    served = ServedDeployment(CANDIDATE)
    for at in (0.5, 2.0, 9.5):
        served.waiting.push(request(at))
    served.waiting.push(request(2.0, parked=Micros(BEGAN)))
    block = turn().block(served, Micros(BEGAN + 10 * SECOND))
    # The first came in the washout, the third may still be in time, the last waits for money.
    assert (block.requests, block.ttft_met, block.cost) == (1, 0, 0)


def test_errors_end_a_turn_of_the_candidate_and_never_one_of_the_first() -> None:
    one = turn()
    assert not one.fails(RECORD, one.block(None, Micros(BEGAN)))
    one.refused()
    assert one.fails(RECORD, one.block(None, Micros(BEGAN)))
    first = Turn(RECORD, Route(arm=Arm.FIRST, turn=0, seconds=10.0), now=Micros(BEGAN))
    first.started = Micros(BEGAN)
    first.refused()
    assert not first.fails(RECORD, first.block(None, Micros(BEGAN)))

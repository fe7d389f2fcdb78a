"""Pure parts of rollouts: what a block comes to, who is served after a restart, plans, verdicts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rollout_world import deployment, wish

from meted.domain.deployment import Deployment, Task
from meted.domain.engine_settings import CachePrecision, EngineSettings
from meted.domain.line import Account, Kind
from meted.domain.request import Outcome
from meted.domain.units import (
    DeploymentName,
    KeyId,
    Micros,
    NanoUSD,
    ProjectName,
    RequestId,
    TenantName,
    Tokens,
)
from meted.live.books.opening import opened
from meted.live.checkpoints.checkpoint import Checkpoint
from meted.live.checkpoints.quality import Quality, TextQuality
from meted.live.rollout_block import Tally, Waited
from meted.live.rollout_record import (
    RolloutRecord,
    changed,
    lever_of,
    read_receipt,
    read_rollout,
    receipt_document,
    rollout_document,
)
from meted.live.rollout_resume import in_force, resumed
from meted.live.rollout_savings import HOUR_US, tokens_served
from meted.live.rollout_start import (
    UNKNOWN,
    QualityError,
    check_context,
    plan_of,
    second_arm,
    verdict_on,
)
from meted.live.rollout_views import savings_view, so_far
from meted.live.store import Batch, Document, RequestRow
from meted.live.stores import open_store
from meted.live.stores.database import Statements
from meted.optimise.gate import UNCHANGED, Verdict
from meted.optimise.receipt import ArmTotals, Lever, Receipt, ReceiptId, Status
from meted.optimise.rollout import (
    BlockEnded,
    Cancelled,
    QualityMeasured,
    Rollout,
    begin,
    handle,
)
from meted.optimise.switchback import Arm, Block
from meted.predict.estimate import Estimate, exactly
from meted.predict.step_time import StepCost
from meted.testing.builders import make_slo

YARDSTICK = StepCost(fixed=100.0, prefill=2.0, decode=10.0, context=0.0)
SLO_1S = make_slo(ttft_ms=1_000, tpot_ms=100)
FIRST = deployment()
SECOND = deployment("chat~2", "small")
SAVES = Estimate(low=0.1, expected=0.2, high=0.3, level=0.95)


def row(number: int = 0, **changes: Any) -> RequestRow:
    given: dict[str, Any] = {
        **{"arrived": Micros(0), "ended": Micros(1), "outcome": Outcome.DONE},
        **{"prompt_tokens": 100, "cached_tokens": 60, "completion_tokens": 20},
        **{"ttft_us": 500_000, "device_nanos": 9, "cost": NanoUSD(7), "price": NanoUSD(0)},
        **changes,
    }
    name = given.pop("deployment", "chat")
    account = Account(
        kind=Kind.REQUEST,
        tenant=TenantName("acme"),
        project=ProjectName("default"),
        key=KeyId("k"),
        deployment=DeploymentName(name),
        model="big",
        request=RequestId(f"r{number}"),
    )
    return RequestRow(account=account, **given)


def tally() -> Tally:
    return Tally(Arm.SECOND, slo=SLO_1S, yardstick=YARDSTICK)


# What a block comes to.


def test_a_block_sums_cost_tokens_and_predicted_work_whatever_a_cache_held() -> None:
    one = tally()
    one.ended(row(), [Micros(50_000)], fault=False)
    one.ended(row(1, cached_tokens=0, cost=NanoUSD(3)), [], fault=False)
    block = one.block()
    assert (block.arm, block.cost, block.tokens, block.requests) == (Arm.SECOND, 10, 240, 2)
    assert block.predicted_cost == pytest.approx(2 * (100 * 2.0 + 20 * 10.0))
    assert (block.ttft_met, block.tpot_met, block.errors) == (2, 2, 0)


def test_targets_are_met_up_to_their_limit() -> None:
    one = tally()
    one.ended(row(ttft_us=1_000_000), [Micros(100_000)] * 3, fault=False)
    one.ended(row(ttft_us=1_000_001), [Micros(100_000), Micros(100_001)], fault=False)
    one.ended(row(ttft_us=None, completion_tokens=0), [], fault=False)
    block = one.block()
    assert (block.requests, block.ttft_met, block.tpot_met) == (3, 2, 2)


def test_who_leaves_counts_in_cost_and_not_in_the_slo() -> None:
    one = tally()
    one.ended(row(outcome=Outcome.CANCELLED, ttft_us=None), [], fault=False)
    block = one.block()
    assert (block.cost, block.requests) == (7, 0)


def test_a_failure_of_the_arm_is_an_error_and_one_of_the_client_is_not() -> None:
    one = tally()
    one.ended(row(outcome=Outcome.FAILED), [], fault=True)
    one.ended(row(outcome=Outcome.EXPIRED), [], fault=True)
    one.ended(row(outcome=Outcome.FAILED), [], fault=False)
    one.failed()
    block = one.block()
    assert (block.requests, block.errors, block.cost, block.tokens) == (3, 3, 0, 0)


def test_of_requests_that_straddle_the_end_only_what_is_known_counts() -> None:
    block = tally().block(
        [
            Waited(since_us=1_000_000, ttft_us=None),
            Waited(since_us=1_000_001, ttft_us=None),
            Waited(since_us=9, ttft_us=3, gaps=(Micros(200_000),)),
            Waited(since_us=9_000_000, ttft_us=2_000_000, gaps=(Micros(5),)),
        ]
    )
    assert (block.requests, block.ttft_met, block.tpot_met, block.cost) == (3, 1, 2, 0)


# What is written down.


def record(state: Rollout | None = None, **changes: Any) -> RolloutRecord:
    begun, _ = begin(plan_of(wish(), FIRST))
    given: dict[str, Any] = {"first": FIRST, "second": SECOND, "state": state or begun, **changes}
    return RolloutRecord(yardstick=YARDSTICK, began=Micros(5), **given)


def ended(event: Any) -> Rollout:
    return handle(record().state, event)[0]


def promoted() -> Rollout:
    """A rollout whose second arm costs half in every block."""
    state, _ = handle(
        record().state, QualityMeasured(verdict=Verdict(passed=True, reason="it is good"))
    )
    for number in range(30):
        if state.ended:
            break
        cost = (100 if state.arm is Arm.FIRST else 50) + number % 3
        block = Block(
            arm=state.arm,
            cost=NanoUSD(cost),
            predicted_cost=1.0,
            requests=300,
            ttft_met=300,
            tpot_met=300,
        )
        state, _ = handle(state, BlockEnded(turn=state.turn, block=block))
    return state


def test_a_rollout_and_its_receipt_come_back_as_they_were() -> None:
    for state in (record().state, promoted(), ended(Cancelled(reason="enough"))):
        one = record(state)
        assert read_rollout(rollout_document(one)) == one
    receipt = Receipt(
        id=ReceiptId("chat~2"),
        lever=Lever.VARIANT,
        deployment=DeploymentName("chat~2"),
        before="a",
        after="b",
        predicted=exactly(0.3),
        began=Micros(5),
        measured=SAVES,
        status=Status.VERIFIED,
        ended=Micros(9),
        first=ArmTotals(tokens=Tokens(3), cost=NanoUSD(4)),
    )
    assert read_receipt(receipt_document(receipt)) == receipt


def test_a_rollout_that_was_written_down_before_arrivals_were_counted_is_read() -> None:
    body = json.loads(rollout_document(record(promoted())).body)
    assert body["state"].pop("quiet") == 0
    for block in (*body["state"]["canary"], *body["state"]["blocks"]):
        del block["arrived"]
    found = read_rollout(Document(kind="rollout", name="chat~2", body=json.dumps(body)))
    assert found == record(promoted())
    assert {one.arrived for one in found.state.blocks} == {None}


def test_a_rollout_knows_what_it_changes() -> None:
    assert changed(FIRST, SECOND) == ["checkpoint"]
    assert lever_of(FIRST, SECOND) is Lever.VARIANT
    assert lever_of(FIRST, replace(FIRST, settings=EngineSettings())) is Lever.ENGINE
    assert lever_of(FIRST, replace(FIRST, max_batch=3)) is Lever.BATCH


# Who is served after a restart.


def names(*given: Deployment) -> dict[DeploymentName, Deployment]:
    return {one.name: one for one in given}


def test_while_it_runs_both_arms_come_back_even_if_neither_was_remembered() -> None:
    assert resumed([record()], {}).deployments == names(FIRST, SECOND)


@pytest.mark.parametrize("remembered", [(), (FIRST,), (SECOND,), (FIRST, SECOND)])
def test_after_the_end_one_arm_comes_back_whatever_was_remembered(
    remembered: tuple[Deployment, ...],
) -> None:
    after = resumed([record(promoted())], names(*remembered))
    assert after.deployments == names(SECOND)
    assert after.forgotten == tuple(one.name for one in remembered if one == FIRST)
    after = resumed([record(ended(Cancelled(reason="x")))], names(*remembered))
    assert after.deployments == names(FIRST)


def test_the_last_rollout_decides_and_one_that_is_gone_decides_nothing() -> None:
    third = deployment("chat~3", "tiny")
    later = record(first=SECOND, second=third)
    assert in_force([record(promoted()), later]) == {"chat": later}
    assert resumed([record(promoted()), later], names(FIRST)).deployments == names(SECOND, third)
    gone = record(promoted(), gone=True)
    assert resumed([gone], names(FIRST)).deployments == names(FIRST)
    assert resumed([gone], names(FIRST, SECOND)).forgotten == ("chat~2",)


def test_other_deployments_are_left_alone_and_a_version_of_no_rollout_is_not_served() -> None:
    other = deployment("words")
    after = resumed([record()], names(other, deployment("words~2")))
    assert after.deployments == names(other, FIRST, SECOND)
    assert after.forgotten == ("words~2",)


# From a wish.


def test_a_second_arm_is_the_first_with_what_is_wished() -> None:
    name = DeploymentName("chat~2")
    assert second_arm(wish(), FIRST, name) == SECOND
    same = wish(checkpoint=None, max_batch=2)
    assert second_arm(same, FIRST, name) == replace(FIRST, name=name, max_batch=2)


def test_a_plan_has_its_defaults_by_the_length_of_a_block() -> None:
    plan = plan_of(wish(washout_s=None, block_s=60.0), FIRST)
    assert (plan.design.washout_s, plan.canary_s, plan.looks.at[-1]) == (6.0, 60.0, 12)
    assert plan_of(wish(washout_s=None, block_s=600.0), FIRST).design.washout_s == 15.0
    assert plan.limits.ttft_share == 0.95
    embeds = plan_of(wish(), replace(FIRST, task=Task.EMBED))
    assert (embeds.limits.ttft_share, embeds.limits.tpot_share) == (None, None)


def measured(passed: bool = True, parent: str = "big") -> Checkpoint:
    text = TextQuality(
        text="t",
        documents=30,
        tokens=900,
        loss=exactly(2.0),
        loss_increase=exactly(0.01),
        kl=exactly(0.01),
        same_top=exactly(0.9),
    )
    return Checkpoint(
        name="small",
        task=Task.GENERATE,
        folder=Path("small"),
        architecture="llama",
        context_tokens=100,
        parameters=1,
        weight_bytes=1,
        source="test",
        created=0,
        quality=Quality(
            parent=parent,
            text=text,
            accuracy=exactly(0.5),
            parent_accuracy=exactly(0.5),
            questions=100,
            passed=passed,
            reason="loss increase 0.01",
        ),
    )


def test_quality_is_what_was_measured_against_the_version_that_serves() -> None:
    batch = replace(FIRST, max_batch=2)
    assert verdict_on(FIRST, batch, None, unknown=False) == UNCHANGED
    known = verdict_on(FIRST, SECOND, measured(), unknown=False)
    assert known == Verdict(passed=True, reason="loss increase 0.01")
    with pytest.raises(QualityError, match="did not pass"):
        verdict_on(FIRST, SECOND, measured(passed=False), unknown=True)
    for checkpoint in (None, replace(measured(), quality=None), measured(parent="other")):
        with pytest.raises(QualityError, match="--quality-unknown"):
            verdict_on(FIRST, SECOND, checkpoint, unknown=False)
        assert verdict_on(FIRST, SECOND, checkpoint, unknown=True) == UNKNOWN


@pytest.mark.parametrize(
    "settings",
    [
        replace(FIRST.settings, cache=CachePrecision.INT4),
        replace(FIRST.settings, engine="llamacpp"),
    ],
)
def test_settings_that_may_change_answers_are_not_covered_by_a_gate_without_them(
    settings: EngineSettings,
) -> None:
    with pytest.raises(QualityError):
        verdict_on(FIRST, replace(SECOND, settings=settings), measured(), unknown=False)
    with pytest.raises(QualityError):
        verdict_on(FIRST, replace(FIRST, settings=settings), None, unknown=False)


def test_a_smaller_context_is_refused() -> None:
    check_context(100, 100)
    with pytest.raises(ValueError, match="takes 99 tokens of context"):
        check_context(100, 99)


# What was saved.


def test_the_saving_so_far_needs_three_pairs() -> None:
    state = promoted()
    assert so_far(record().state) is None
    seen = so_far(state)
    assert seen is not None
    assert seen.low < seen.expected < seen.high
    assert seen.expected == pytest.approx(0.5, abs=0.05)


def test_only_verified_receipts_are_summed() -> None:
    def receipt(name: str, status: Status) -> Receipt:
        return Receipt(
            id=ReceiptId(name),
            lever=Lever.BATCH,
            deployment=DeploymentName(name),
            before="a",
            after="b",
            predicted=exactly(0.3),
            began=Micros(0),
            measured=SAVES,
            status=status,
            ended=Micros(1),
            first=ArmTotals(tokens=Tokens(1_000), cost=NanoUSD(5_000)),
        )

    receipts = {
        one.id: one for one in (receipt("a~2", Status.VERIFIED), receipt("b~2", Status.ROLLED_BACK))
    }
    tokens = {ReceiptId("a~2"): Tokens(2_000), ReceiptId("b~2"): Tokens(9_000)}
    view = savings_view(receipts, tokens)
    assert view["total_nano_usd"] == {"low": 1_000, "expected": 2_000, "high": 3_000}
    assert [one["saved_nano_usd"]["expected"] for one in view["receipts"]] == [2_000, 0]


def test_tokens_since_a_promotion_are_those_of_the_version_that_came_after(tmp_path: Path) -> None:
    path = tmp_path / "books.sqlite"
    since = Micros(10 * HOUR_US + 7)
    rows = (
        row(0, deployment="chat~2", arrived=since),
        row(1, deployment="chat~2", arrived=Micros(since - 1)),
        row(2, deployment="chat~2", arrived=Micros(since + 5), outcome=Outcome.CANCELLED),
        row(3, deployment="chat~2", arrived=Micros(since + 5), outcome=Outcome.FAILED),
        row(4, deployment="chat", arrived=Micros(since + 5)),
    )
    store = open_store(path, house="here")
    store.write(Batch(session="s", requests=rows))
    store.close()
    served = {DeploymentName("chat~2"): since}
    assert tokens_served(path, served) == {"chat~2": 240}
    assert tokens_served(path, {}) == {}


def test_folded_hours_count_if_they_began_after_the_promotion(tmp_path: Path) -> None:
    path = tmp_path / "books.sqlite"
    name = DeploymentName("chat~2")
    store = open_store(path, house="here")
    store.write(Batch(session="s", requests=(row(deployment=name, arrived=Micros(12 * HOUR_US)),)))
    store.close()

    def fold(db: Statements) -> None:
        (account,) = db.rows("SELECT account FROM requests")[0]
        columns = "hour, account, outcome, requests, prompt_tokens, cached_tokens"
        columns += ", completion_tokens, device_nanos, cost, price"
        hours = [(hour, account, "done", 1, 70 + hour, 0, 20, 1, 1, 1) for hour in (10, 11)]
        db.insert("hour_requests", columns, hours)

    with opened(path, write=True) as database:
        database.write(fold)
    assert tokens_served(path, {name: Micros(0)}) == {name: 100 + 101 + 120}
    assert tokens_served(path, {name: Micros(10 * HOUR_US + 1)}) == {name: 101 + 120}

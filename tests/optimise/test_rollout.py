"""A rollout ends surely and in one way, and promotes nothing without saving and quality."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from meted.domain.units import NanoUSD, Tokens
from meted.optimise.gate import UNCHANGED, Verdict
from meted.optimise.looks import Looks
from meted.optimise.receipt import Status
from meted.optimise.rollout import Phase, Rollout, RolloutPlan, begin, handle
from meted.optimise.rollout_guard import Limits
from meted.optimise.rollout_moves import (
    ArmFailed,
    BlockEnded,
    Cancelled,
    Effect,
    EnterReceipt,
    Event,
    HouseRestarted,
    Promote,
    QualityMeasured,
    Return,
    Route,
)
from meted.optimise.switchback import Arm, Block, Design

PLAN = RolloutPlan(
    design=Design(seed=5, blocks=24, block_s=60.0, washout_s=5.0),
    looks=Looks(at=(6, 9, 12)),
    canary_s=20.0,
    limits=Limits(ttft_share=0.9, tpot_share=0.9),
    most_void=3,
)
LOST = Verdict(passed=False, reason="loss increase 0.05 nats per token")


def block(
    arm: Arm,
    *,
    factor: float = 1.0,
    met: float = 0.98,
    errors: int = 0,
    requests: int = 400,
    work: float = 1e9,
) -> Block:
    good = round(requests * met)
    return Block(
        arm=arm,
        cost=NanoUSD(round(1.2 * work * factor)),
        predicted_cost=work,
        tokens=Tokens(requests * 100),
        requests=requests,
        ttft_met=good,
        tpot_met=good,
        errors=errors,
    )


def idle(arm: Arm, *, arrived: int | None = 0) -> Block:
    """A turn of which nothing counts."""
    return Block(arm=arm, cost=NanoUSD(0), predicted_cost=0.0, arrived=arrived)


class World:
    """Executes effects, and remembers what was ordered."""

    def __init__(self, plan: RolloutPlan = PLAN) -> None:
        self.log: list[Effect] = []
        self.turns: list[Route] = []
        self.state, effects = begin(plan)
        self._execute(effects)

    def send(self, event: Event) -> tuple[Effect, ...]:
        self.state, effects = handle(self.state, event)
        self._execute(effects)
        return effects

    def end_block(self, done: Block) -> tuple[Effect, ...]:
        return self.send(BlockEnded(turn=self.state.turn, block=done))

    def drive(
        self, *, saved: float, noise: float = 0.02, seed: int = 1, **second: float
    ) -> Rollout:
        rng = np.random.default_rng(seed)
        while not self.state.ended:
            arm = self.state.arm
            factor = math.exp(rng.normal(0, noise)) * (1 - saved if arm is Arm.SECOND else 1)
            mine = second if arm is Arm.SECOND else {}
            self.end_block(block(arm, factor=factor, **mine))
        return self.state

    def receipts(self) -> list[EnterReceipt]:
        return [one for one in self.log if isinstance(one, EnterReceipt)]

    def _execute(self, effects: tuple[Effect, ...]) -> None:
        self.log += effects
        self.turns += [one for one in effects if isinstance(one, Route)]


def test_a_saving_is_verified_at_a_look_and_promoted() -> None:
    world = World()
    world.send(QualityMeasured(verdict=UNCHANGED))
    assert world.drive(saved=0.1).phase is Phase.PROMOTED
    assert len(world.state.blocks) == 2 * PLAN.looks.at[0]
    assert world.turns[-1] == Route(arm=Arm.SECOND, turn=world.state.turn)
    begun, entry = world.receipts()
    assert (begun.status, entry.status) == (Status.MEASURING, Status.VERIFIED)
    assert entry.measured is not None and 0 < entry.measured.low < 0.1 < entry.measured.high
    assert entry.first.tokens == 6 * 40_000 and entry.second.cost < entry.first.cost
    assert "saves" in entry.reason and "TTFT was met for 98.00%" in entry.reason


def test_the_canary_is_one_short_block_of_each_arm_and_counts_for_no_money() -> None:
    world = World()
    world.send(QualityMeasured(verdict=UNCHANGED))
    world.drive(saved=0.1)
    assert [(one.arm, one.seconds) for one in world.turns[:2]] == [
        (Arm.FIRST, 20.0),
        (Arm.SECOND, 20.0),
    ]
    assert {one.seconds for one in world.turns[2:-1]} == {60.0}
    assert [one.arm for one in world.turns[2:-1]] == list(PLAN.design.order()[:12])


def test_a_no_op_comes_back_after_the_last_look() -> None:
    world = World()
    world.send(QualityMeasured(verdict=UNCHANGED))
    assert world.drive(saved=0.0).phase is Phase.RETURNED
    assert world.receipts()[-1].status is Status.NOT_THERE
    assert "no saving after 12 pairs" in world.receipts()[-1].reason


def test_a_dearer_arm_comes_back_at_the_first_look() -> None:
    world = World()
    world.drive(saved=-0.2)
    assert len(world.state.blocks) == 12
    assert world.receipts()[-1].reason.startswith("it is dearer: saves -")


@pytest.mark.parametrize(
    ("second", "status"),
    [
        (block(Arm.SECOND, errors=4), Status.FAILED),
        (block(Arm.SECOND, met=0.5), Status.SLIPPED_SLO),
    ],
)
def test_a_candidate_that_errs_or_breaks_the_slo_in_the_canary_returns_at_once(
    second: Block, status: Status
) -> None:
    world = World()
    world.end_block(block(Arm.FIRST))
    effects = world.end_block(second)
    assert world.state.phase is Phase.RETURNED and world.receipts()[-1].status is status
    assert effects[0] == Route(arm=Arm.FIRST, turn=world.state.turn)
    assert isinstance(effects[1], Return)


def test_an_slo_that_the_first_arm_misses_as_well_is_not_the_candidates_fault() -> None:
    world = World()
    world.end_block(block(Arm.FIRST, met=0.5))
    world.end_block(block(Arm.SECOND, met=0.52))
    assert world.state.phase is Phase.COMPARING


def test_a_saving_that_is_bought_with_the_slo_comes_back() -> None:
    world = World()
    world.send(QualityMeasured(verdict=UNCHANGED))
    for _ in range(2):
        world.end_block(block(world.state.arm))
    world.drive(saved=0.1, met=0.7)
    assert world.receipts()[-1].status is Status.SLIPPED_SLO
    assert world.state.phase is Phase.RETURNED


def test_a_verified_saving_is_not_promoted_while_the_slo_is_missed_by_little() -> None:
    """Too little for the guard, which must be beyond doubt; enough to hold a promotion back."""
    world = World()
    world.send(QualityMeasured(verdict=UNCHANGED))
    while len(world.state.blocks) < 2 * PLAN.looks.at[0]:
        second = world.state.arm is Arm.SECOND
        wobble = 1 + 0.01 * (len(world.state.blocks) % 3)
        done = block(
            world.state.arm, factor=wobble * (0.9 if second else 1.0), met=0.885 if second else 0.92
        )
        world.end_block(done)
    assert world.state.verified and not world.state.ended
    world.drive(saved=0.1, met=0.885)
    assert world.receipts()[-1].status is Status.SLIPPED_SLO


def test_errors_in_the_comparison_end_it_even_where_no_work_was_done() -> None:
    world = World()
    for _ in range(2):
        world.end_block(block(world.state.arm))
    while world.state.arm is Arm.FIRST:
        world.end_block(block(Arm.FIRST))
    bad = Block(arm=Arm.SECOND, cost=NanoUSD(0), predicted_cost=0.0, requests=50, errors=50)
    world.end_block(bad)
    assert world.receipts()[-1].status is Status.FAILED


def test_a_verified_saving_waits_for_quality_and_not_for_ever() -> None:
    world = World()
    while not world.state.verified:
        world.end_block(
            block(world.state.arm, factor=0.9 if world.state.arm is Arm.SECOND else 1.0)
        )
    assert not world.state.ended
    waiting = world.state
    promoted, effects = handle(waiting, QualityMeasured(verdict=UNCHANGED))
    assert promoted.phase is Phase.PROMOTED and Promote() in effects
    lost, _ = handle(waiting, QualityMeasured(verdict=LOST))
    assert lost.phase is Phase.RETURNED
    world.drive(saved=0.1)
    assert world.receipts()[-1].reason == "its quality was not measured until the end"


def test_a_restart_repeats_the_turn_and_a_late_report_of_it_is_ignored() -> None:
    world = World()
    stale = BlockEnded(turn=world.state.turn, block=block(Arm.FIRST))
    (route,) = world.send(HouseRestarted())
    assert isinstance(route, Route) and (route.arm, route.turn) == (Arm.FIRST, 1)
    assert world.send(stale) == ()
    assert world.state.canary == ()


def test_too_many_void_blocks_give_up() -> None:
    world = World()
    for _ in range(PLAN.most_void + 1):
        world.send(ArmFailed(arm=Arm.FIRST, reason="out of memory"))
    assert world.receipts()[-1].status is Status.ROLLED_BACK
    assert "4 blocks came to nothing" in world.receipts()[-1].reason


@pytest.mark.parametrize("before", [0, 1, 2, 7])
def test_a_quiet_night_ends_no_rollout_and_decides_nothing(before: int) -> None:
    world = World()
    world.send(QualityMeasured(verdict=UNCHANGED))
    for _ in range(before):
        world.end_block(block(world.state.arm, factor=0.9 if world.state.arm is Arm.SECOND else 1))
    evening = world.state
    for number in range(1, 500):
        (route,) = world.end_block(idle(world.state.arm))
        assert isinstance(route, Route)
        assert (route.arm, route.turn) == (evening.arm, evening.turn + number)
    assert replace(world.state, turn=evening.turn, quiet=0) == evening
    assert world.state.waiting == "waiting for requests: none came in 499 turns"
    world.end_block(block(world.state.arm))
    assert world.state.waiting is None
    assert world.drive(saved=0.1).phase is Phase.PROMOTED
    assert world.state.void == 0


def test_quiet_turns_between_others_change_no_decision() -> None:
    ends: set[Status] = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        plain, sparse = World(), World()
        for world in (plain, sparse):
            world.send(QualityMeasured(verdict=UNCHANGED))
        while not plain.state.ended:
            while rng.random() < 0.6:
                sparse.end_block(idle(sparse.state.arm))
            second = plain.state.arm is Arm.SECOND
            factor = math.exp(rng.normal(0, 0.05)) * (0.95 if second else 1.0)
            work = 1e9 * (rng.random() > 0.1)
            done = replace(block(plain.state.arm, factor=factor, work=work), arrived=400)
            plain.end_block(done)
            sparse.end_block(done)
        assert replace(sparse.state, turn=plain.state.turn) == plain.state
        assert sparse.receipts()[-1].status is plain.receipts()[-1].status
        ends.add(plain.receipts()[-1].status)
    assert ends >= {Status.VERIFIED, Status.NOT_THERE, Status.ROLLED_BACK}


@pytest.mark.parametrize("before", [0, 1, 2])
@pytest.mark.parametrize("arrived", [None, 1])
def test_turns_whose_requests_do_not_count_are_void_and_pass_no_canary(
    before: int, arrived: int | None
) -> None:
    world = World()
    for _ in range(before):
        world.end_block(block(world.state.arm))
    phase, arm = world.state.phase, world.state.arm
    for number in range(PLAN.most_void):
        world.end_block(idle(arm, arrived=arrived))
        assert (world.state.phase, world.state.arm) == (phase, arm)
        assert (world.state.void, world.state.waiting) == (number + 1, None)
        world.end_block(idle(arm))
    world.end_block(idle(arm, arrived=arrived))
    assert world.receipts()[-1].status is Status.ROLLED_BACK
    assert "4 blocks came to nothing, the last as turn" in world.receipts()[-1].reason


def test_what_failed_in_the_washout_is_not_waited_out() -> None:
    world = World()
    while len(world.state.canary) < 2 or world.state.arm is Arm.FIRST:
        world.end_block(block(world.state.arm))
    world.end_block(replace(idle(Arm.SECOND), requests=50, errors=50))
    assert world.receipts()[-1].status is Status.FAILED


def test_a_rollout_that_waits_can_be_stopped() -> None:
    world = World()
    world.end_block(idle(Arm.FIRST))
    assert world.state.waiting == "waiting for requests: none came in 1 turn"
    world.send(Cancelled(reason="it was stopped"))
    assert (world.state.phase, world.state.waiting) == (Phase.RETURNED, None)


def test_a_plan_that_cannot_be_kept_is_refused() -> None:
    with pytest.raises(ValueError, match="plan the looks within it"):
        replace(PLAN, looks=Looks(at=(20,)))
    with pytest.raises(ValueError, match="more than the washout"):
        replace(PLAN, canary_s=5.0)
    with pytest.raises(ValueError, match="its block is of the second arm"):
        World().end_block(block(Arm.SECOND))


def test_no_op_rollouts_are_rarely_promoted_and_bursts_rarely_end_them() -> None:
    """300 rollouts of equal arms, where whole blocks miss the SLO in bursts that hit either arm."""
    ends: list[tuple[Status, int]] = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        world = World(replace(PLAN, design=replace(PLAN.design, seed=seed)))
        world.send(QualityMeasured(verdict=UNCHANGED))
        load = 0.0
        while not world.state.ended:
            load = 0.7 * load + rng.normal(0, 0.5)
            met = 0.95 - 0.1 * max(0.0, load) + 0.01 * rng.normal()
            done = block(
                world.state.arm,
                factor=math.exp(rng.normal(0, 0.05)),
                met=min(1.0, met),
                requests=int(100 * math.exp(load)) + 5,
            )
            world.end_block(done)
        ends.append((world.receipts()[-1].status, len(world.state.blocks)))
    assert sum(status is Status.VERIFIED for status, _ in ends) / 300 <= 0.05
    slipped = [blocks for status, blocks in ends if status is Status.SLIPPED_SLO]
    assert sum(blocks > 0 for blocks in slipped) / 300 <= 0.03
    assert len(slipped) / 300 <= 0.1


def test_a_gross_break_of_the_slo_ends_a_comparison_in_its_first_pair() -> None:
    world = World()
    for _ in range(2):
        world.end_block(block(world.state.arm))
    while not world.state.ended:
        arm = world.state.arm
        world.end_block(block(arm, met=0.5 if arm is Arm.SECOND else 0.98))
    assert world.receipts()[-1].status is Status.SLIPPED_SLO
    assert len(world.state.blocks) < 2


class Machine(RuleBasedStateMachine):
    """Whatever happens, in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.passed: bool | None = None
        self.verified = False
        self.waited = 0

    @rule(
        factor=st.sampled_from([0.5, 0.8, 0.9, 1.0, 1.1]),
        met=st.sampled_from([0.4, 0.9, 0.97, 1.0]),
        errors=st.sampled_from([0, 0, 0, 0, 1, 300]),
        work=st.sampled_from([0.0, 1e9, 3e9, 3e9]),
        times=st.integers(1, 8),
    )
    def blocks_end(self, factor: float, met: float, errors: int, work: float, times: int) -> None:
        for _ in range(times):
            arm = self.world.state.arm
            second = arm is Arm.SECOND
            done = block(
                arm,
                factor=factor if second else 1.0,
                met=met if second else 0.97,
                errors=errors if second else 0,
                work=work,
            )
            self.world.end_block(done)

    @rule(times=st.integers(1, 40))
    def nobody_asks(self, times: int) -> None:
        for _ in range(times):
            self.waited += not self.world.state.ended
            self.world.end_block(idle(self.world.state.arm))

    @rule(times=st.integers(1, 26), factor=st.sampled_from([0.8, 0.99]))
    def good_blocks_end(self, times: int, factor: float) -> None:
        for at in range(times):
            arm = self.world.state.arm
            wobble = 1 + 0.001 * (at % 3)
            self.world.end_block(block(arm, factor=wobble * (factor if arm is Arm.SECOND else 1)))

    @rule(passed=st.sampled_from([True, True, True, False]))
    def quality(self, passed: bool) -> None:
        if not self.world.state.ended:
            self.passed = passed
        self.world.send(QualityMeasured(verdict=UNCHANGED if passed else LOST))

    @rule(arm=st.sampled_from(Arm))
    @precondition(lambda self: self.world.state.turn > 6)
    def fails(self, arm: Arm) -> None:
        self.world.send(ArmFailed(arm=arm, reason="out of memory"))

    @rule()
    def restarts(self) -> None:
        self.world.send(HouseRestarted())

    @rule(turn=st.integers(0, 400))
    def reports_late(self, turn: int) -> None:
        if turn != self.world.state.turn:
            before = self.world.state
            assert self.world.send(BlockEnded(turn=turn, block=block(Arm.FIRST))) == ()
            assert self.world.state == before

    @rule()
    @precondition(lambda self: self.world.state.turn > 15)
    def cancelled(self) -> None:
        self.world.send(Cancelled(reason="a user wants the first arm back"))

    @invariant()
    def it_ends_once_and_its_effects_agree(self) -> None:
        ends = [one for one in self.world.log if isinstance(one, Promote | Return)]
        entries = self.world.receipts()
        assert len(ends) == int(self.world.state.ended) == len(entries) - 1
        if ends:
            promoted = isinstance(ends[0], Promote)
            assert promoted is (self.world.state.phase is Phase.PROMOTED)
            assert promoted is (entries[-1].status is Status.VERIFIED)
            assert self.world.turns[-1].seconds is None

    @invariant()
    def nothing_is_promoted_without_a_saving_and_a_verdict(self) -> None:
        if self.world.state.phase is Phase.PROMOTED:
            measured = self.world.receipts()[-1].measured
            assert self.passed is True
            assert measured is not None and measured.low > 0
            assert len(self.world.state.blocks) >= 2 * PLAN.looks.at[0]

    @invariant()
    def what_was_returned_gets_nothing_any_more(self) -> None:
        ended = [at for at, one in enumerate(self.world.log) if isinstance(one, Return)]
        if ended:
            after = [one for one in self.world.log[ended[0] - 1 :] if isinstance(one, Route)]
            assert after and all(one.arm is Arm.FIRST for one in after)

    @invariant()
    def turns_are_bounded(self) -> None:
        state = self.world.state
        assert state.turn - self.waited <= PLAN.most_turns
        assert state.void <= PLAN.most_void + 1


TestRollout = Machine.TestCase
TestRollout.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)

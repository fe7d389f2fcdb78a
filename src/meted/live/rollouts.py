"""Rollouts in the house: which version of a deployment serves, and what follows from how it does.

The comparison itself is `optimise/rollout.py`, which is pure; here its routes, promotions and
returns are put in force, and each step is written down before anything that it ends is taken away.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from meted.control.events import Deployed, Event, Undeployed
from meted.control.state import ControlState
from meted.domain.arms import arm_name, arm_number, public_name
from meted.domain.deployment import Deployment
from meted.domain.units import DeploymentName, Micros
from meted.live.clock import Clock
from meted.live.rollout_book import RolloutBook
from meted.live.rollout_health import failed_arm, is_ready, ready_replicas
from meted.live.rollout_record import RolloutRecord
from meted.live.rollout_resume import in_force, resumed
from meted.live.rollout_turn import Turn
from meted.live.serving import Serving
from meted.live.store import RequestRow, Store
from meted.live.tickets import LiveRequest
from meted.optimise.gate import Verdict
from meted.optimise.receipt import Receipt
from meted.optimise.rollout import (
    ArmFailed,
    BlockEnded,
    Cancelled,
    EnterReceipt,
    HouseRestarted,
    Promote,
    QualityMeasured,
    Return,
    RolloutPlan,
    Route,
    Step,
    begin,
    handle,
)
from meted.optimise.rollout import Event as RolloutEvent
from meted.optimise.switchback import Arm
from meted.predict.step_time import StepCost

TICK_S = 0.1
READY_US = 900_000_000
"""How long an arm may take until one of its replicas answers."""


@dataclass(slots=True, kw_only=True)
class Running:
    """A rollout that has not ended."""

    record: RolloutRecord
    turn: Turn


class Rollouts:
    """All rollouts of a house, those that ended too; `Arms` for the hot path.

    later: makes a call to the store after all before it. told: what was explained of late.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        serving: Serving,
        store: Store,
        state: Callable[[], ControlState],
        happen: Callable[[Event], None],
        later: Callable[[Callable[[], None]], None],
        explain: Callable[[str], None],
        told: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._clock = clock
        self._serving = serving
        self._store = store
        self._state = state
        self._happen = happen
        self._later = later
        self._explain = explain
        self._told = told
        self._running: dict[DeploymentName, Running] = {}
        self._retiring: set[DeploymentName] = set()
        self._base: dict[DeploymentName, DeploymentName] = {}
        self._book = RolloutBook(clock=clock, store=store, later=later)
        self.records, self.receipts = self._book.records, self._book.receipts
        serving.arms = self

    # Who serves.

    def base(self, public: DeploymentName) -> DeploymentName:
        """The version that a deployment falls back to, and that is shown for it."""
        return self._base.get(public, public)

    def route(self, public: DeploymentName) -> DeploymentName:
        """The version that a request for this name goes to now."""
        running = self._running.get(public)
        if running is not None:
            return running.turn.serves(running.record).name
        return self.base(public)

    def elsewhere(self, arm: DeploymentName) -> DeploymentName | None:
        base = self.base(public_name(arm))
        return None if base == arm else base

    def serves(self, name: DeploymentName) -> bool:
        """Whether clients may ask for this name."""
        return public_name(name) == name and self.base(name) in self._state().deployments

    def public(self) -> list[DeploymentName]:
        """The names that clients may ask for."""
        names = dict.fromkeys(public_name(name) for name in self._state().deployments)
        return [name for name in names if self.serves(name)]

    def running(self, public: DeploymentName) -> Running | None:
        return self._running.get(public)

    # What requests came to.

    def moved(self, request: LiveRequest) -> None:
        running = self._running.get(public_name(request.submission.deployment))
        if running is not None:
            running.turn.moved(request)

    def ended(self, request: LiveRequest, row: RequestRow) -> None:
        running = self._running.get(public_name(request.submission.deployment))
        if running is not None:
            running.turn.ended(request, row)

    def refused(self, arm: DeploymentName) -> None:
        """The arm whose turn it is had no place for a request."""
        running = self._running.get(public_name(arm))
        if running is not None and running.turn.deployment.name == arm:
            running.turn.refused()

    # From outside.

    def next_arm(self, public: DeploymentName) -> DeploymentName:
        """A name that no version of this deployment has had."""
        known = [*self._state().deployments, *(one.second.name for one in self.records.values())]
        return arm_name(public, 1 + max(arm_number(n) for n in known if public_name(n) == public))

    def start(
        self,
        *,
        first: Deployment,
        second: Deployment,
        plan: RolloutPlan,
        receipt: Receipt,
        quality: Verdict,
        yardstick: StepCost,
    ) -> RolloutRecord:
        """Deploy the second arm and begin. Precondition: no rollout of this deployment runs."""
        state, effects = begin(plan)
        record = RolloutRecord(
            first=first,
            second=second,
            state=state,
            yardstick=yardstick,
            began=self._clock.wall(),
        )
        self.receipts[record.id] = receipt
        self._enter(record, (state, effects))
        self._happen(Deployed(now=self._clock.now(), deployment=second))
        self._handle(self._running[record.name], QualityMeasured(verdict=quality))
        return self.records[record.id]

    def cancel(self, public: DeploymentName, reason: str) -> None:
        """Give the first arm everything back. Precondition: a rollout of it runs."""
        self._handle(self._running[public], Cancelled(reason=reason))
        self._retire()

    def undeploy(self, public: DeploymentName) -> bool:
        """Serve none of its versions any more; False if it has none of its own."""
        if public in self._running:
            self.cancel(public, f"{public} was undeployed")
        if public not in self._base:
            return False
        del self._base[public]
        record = in_force(self.records.values())[public]
        self._book.write(replace(record, gone=True))
        for name in [n for n in self._state().deployments if public_name(n) == public]:
            self._happen(Undeployed(now=self._clock.now(), name=name))
        return True

    # After a restart.

    def remembered(
        self, wanted: Mapping[DeploymentName, Deployment]
    ) -> dict[DeploymentName, Deployment]:
        """Read what was written down; the deployments to be served, given those that are wanted."""
        self._book.read()
        found = resumed(self.records.values(), wanted)
        for record in in_force(self.records.values()).values():
            self._base[record.name] = record.base.name
        for name in found.forgotten:
            self._explain(f"{name} is not served: a rollout ended it")
            self._later(lambda name=name: self._store.remove_deployment(name))
        return found.deployments

    def resume(self) -> None:
        """Go on with the rollouts that ran; their deployments are deployed again."""
        for record in in_force(self.records.values()).values():
            if not record.runs:
                continue
            self._enter(record, handle(record.state, HouseRestarted()))
            running = self._running.get(record.name)
            now = self._state().deployments.get(record.first.name)
            if running is not None and now is not None and now != record.first:
                reason = f"{record.first.name} was configured otherwise while the house was down"
                self._handle(running, Cancelled(reason=reason))

    # The loop.

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            self.tick()

    def tick(self) -> None:
        """End turns that are over, and arms that cannot serve; take away what has drained."""
        now = self._clock.now()
        for running in list(self._running.values()):
            event = self._seen(running, now)
            if event is not None:
                self._handle(running, event)
        self._retire()

    def _seen(self, running: Running, now: Micros) -> RolloutEvent | None:
        turn, record = running.turn, running.record
        began, told = turn.started is not None, self._told()
        failed = failed_arm(record, self._state(), turn_began=began, told=told)
        if failed is not None:
            return failed
        if turn.started is None:
            late = [which for which in Arm if not self._ready(record.arm(which))]
            if not late:
                turn.started = now
            elif now - turn.since > READY_US:
                reason = f"no replica of it answered within {READY_US // 60_000_000} min"
                return ArmFailed(arm=late[-1], reason=reason)
            return None
        block = turn.block(self._serving.deployments.get(turn.deployment.name), now)
        if turn.over(now) or turn.fails(record, block):
            return BlockEnded(turn=turn.route.turn, block=block)
        return None

    def _ready(self, arm: Deployment) -> bool:
        return is_ready(arm, self._serving.deployments.get(arm.name))

    # Effects.

    def _handle(self, running: Running, event: RolloutEvent) -> None:
        step = handle(running.record.state, event)
        if step[0] is not running.record.state or step[1]:
            self._enter(running.record, step)

    def _enter(self, record: RolloutRecord, step: Step) -> None:
        state, effects = step
        if state.waiting is not None and record.state.waiting is None:
            self._explain(f"the rollout {record.id} is {state.waiting}")
        record = replace(record, state=state)
        self._base[record.name] = record.base.name
        receipt = self.receipts[record.id]
        for effect in effects:
            match effect:
                case Route():
                    turn = Turn(record, effect, now=self._clock.now())
                    self._running[record.name] = Running(record=record, turn=turn)
                case Promote():
                    self._retiring.add(record.first.name)
                    self._explain(f"{record.name} is {record.second.name} from now on")
                case Return(reason=reason):
                    self._retiring.add(record.second.name)
                    self._explain(f"{record.name} stays {record.first.name}: {reason}")
                case EnterReceipt():
                    receipt = self._book.entered(receipt, effect)
                case _:
                    assert_never(effect)
        if state.ended:
            self._running.pop(record.name, None)
        elif record.name in self._running:
            self._running[record.name].record = record
        self._book.write(record, receipt)

    def _retire(self) -> None:
        """Take away the arms that are over, once they have answered all that came to them."""
        for name in sorted(self._retiring):
            served = self._serving.deployments.get(name)
            if served is not None and not served.closed:
                if len(served.waiting) and not ready_replicas(served):
                    self._serving.move_waiting(name)
                if len(served.waiting) or served.running:
                    continue
            self._retiring.discard(name)
            if name in self._state().deployments:
                self._happen(Undeployed(now=self._clock.now(), name=name))

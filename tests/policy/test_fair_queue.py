"""Fair queueing: the paper's bound under backlog, no credit for idling, order within a tenant."""

from collections import Counter
from itertools import cycle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from meted.domain.units import TenantName
from meted.policy.fair_queue import COUNTS_PER_TOKEN, INPUT_WEIGHT, OUTPUT_WEIGHT, FairQueue

A, B, C = TenantName("a"), TenantName("b"), TenantName("c")
Work = tuple[int, int]
"""Tokens of prompt and of answer."""

SLOTS, LONGEST = 4, 16
# The bound of Sheng et al. 2024, with the most tokens that the batch below can hold.
BOUND = 2 * max(INPUT_WEIGHT * LONGEST, OUTPUT_WEIGHT * SLOTS * 2 * LONGEST)


class Batch:
    """An engine in little: so many slots, and a token for each running request in each step."""

    def __init__(self, queue: FairQueue[Work]) -> None:
        self.queue = queue
        self.running: list[tuple[TenantName, int]] = []
        self.served: Counter[TenantName] = Counter()
        self.backlogs: dict[TenantName, cycle[Work]] = {}

    def backlog(self, tenant: TenantName, works: list[Work]) -> None:
        """From now on this tenant always has something waiting."""
        self.backlogs[tenant] = cycle(works)

    def step(self) -> None:
        for tenant, works in self.backlogs.items():
            while self.queue.waiting(tenant) <= SLOTS:
                self.queue.push(tenant, next(works))
        while len(self.running) < SLOTS and self.queue:
            tenant = next(self.queue.candidates())
            prompt, answer = self.queue.pop(tenant)
            self.queue.charge(tenant, input_tokens=prompt)
            self.served[tenant] += INPUT_WEIGHT * prompt
            self.running.append((tenant, answer))
        for tenant, _ in self.running:
            self.queue.charge(tenant, output_tokens=1)
            self.served[tenant] += OUTPUT_WEIGHT
        self.running = [(tenant, left - 1) for tenant, left in self.running if left > 1]


def push(queue: FairQueue[Work], tenant: TenantName, works: list[Work]) -> None:
    for work in works:
        queue.push(tenant, work)


def weights(**weight_of: int) -> FairQueue[Work]:
    return FairQueue(weight_of=lambda tenant: weight_of.get(tenant, 1))


WORKS = st.lists(
    st.tuples(st.integers(1, LONGEST), st.integers(1, LONGEST)), min_size=1, max_size=5
)


@settings(deadline=None)
@given(ours=WORKS, theirs=WORKS, weight=st.integers(1, 3), start=st.integers(0, 100))
def test_served_work_over_weight_differs_by_no_more_than_the_bound(
    ours: list[Work], theirs: list[Work], weight: int, start: int
) -> None:
    batch = Batch(weights(a=weight))
    batch.backlog(A, ours)
    batch.backlog(B, theirs)
    for _ in range(start):
        batch.step()
    before = batch.served.copy()
    for _ in range(400):
        batch.step()
        served = batch.served - before
        assert abs(served[A] / weight - served[B]) <= BOUND
    assert served.total() > 4 * BOUND, "too little was served for the bound to say anything"


@pytest.mark.parametrize("weight", [1, 2, 5])
def test_weights_share_the_work_in_their_ratio(weight: int) -> None:
    batch = Batch(weights(a=weight))
    batch.backlog(A, [(3, 7)])
    batch.backlog(B, [(11, 2), (5, 16)])
    for _ in range(3_000):
        batch.step()
    assert batch.served[A] / batch.served[B] == pytest.approx(weight, rel=0.03)


@settings(deadline=None)
@given(flood=WORKS, single=st.tuples(st.integers(1, LONGEST), st.integers(1, LONGEST)))
def test_a_flood_delays_anothers_single_request_by_no_more_than_the_bound(
    flood: list[Work], single: Work
) -> None:
    batch = Batch(weights())
    batch.backlog(A, flood)
    for _ in range(100):
        batch.step()
    batch.queue.push(B, single)
    before = batch.served[A]
    while batch.queue.waiting(B):
        assert batch.served[A] - before <= BOUND
        batch.step()


def test_a_new_tenant_is_next_after_one_of_the_flood() -> None:
    queue = weights()
    push(queue, A, [(1, 1)] * 100)
    queue.push(B, (1, 1))
    order: list[TenantName] = []
    for _ in range(3):
        order.append(next(queue.candidates()))
        queue.pop(order[-1])
        queue.charge(order[-1], input_tokens=1)
    assert order == [A, B, A]


@settings(deadline=None)
@given(works=WORKS, alone=st.integers(50, 200))
def test_idling_earns_no_credit(works: list[Work], alone: int) -> None:
    batch = Batch(weights())
    batch.queue.push(B, works[0])
    batch.backlog(A, works)
    for _ in range(alone):
        batch.step()
    batch.backlog(B, works)
    before = batch.served.copy()
    for _ in range(300):
        batch.step()
        served = batch.served - before
        assert abs(served[A] - served[B]) <= BOUND


def test_who_comes_to_an_empty_queue_starts_where_the_last_one_left() -> None:
    queue = weights()
    queue.push(A, (1, 1))
    queue.pop(A)
    queue.charge(A, input_tokens=5, output_tokens=10)
    queue.push(B, (1, 1))
    assert queue.counter(A) == queue.counter(B) == 25 * COUNTS_PER_TOKEN


def test_a_tenant_that_only_runs_is_charged_and_keeps_its_debt() -> None:
    queue = weights()
    queue.push(A, (1, 1))
    queue.push(B, (1, 1))
    queue.pop(A)
    queue.charge(A, output_tokens=50)
    queue.push(A, (1, 1))
    assert list(queue.candidates()) == [B, A]
    assert queue.counter(A) - queue.counter(B) == 100 * COUNTS_PER_TOKEN


def test_of_equal_counters_the_tenant_popped_longest_ago_is_first() -> None:
    queue = weights()
    for tenant in (B, A, C):
        push(queue, tenant, [(1, 1)] * 2)
    order: list[TenantName] = []
    while queue:
        order.append(next(queue.candidates()))
        queue.pop(order[-1])
    assert order == [B, A, C, B, A, C]


def test_within_a_tenant_the_oldest_goes_first_and_a_retry_before_it() -> None:
    queue: FairQueue[str] = FairQueue()
    for item in ("one", "two", "three"):
        queue.push(A, item)
    queue.push(B, "other")
    assert queue.pop(A) == "one"
    queue.push_front(A, "one")
    assert queue.remove(A, "two")
    assert not queue.remove(A, "two")
    assert not queue.remove(C, "two")
    assert (len(queue), queue.waiting(A), queue.waiting(C)) == (3, 2, 0)
    assert list(queue) == ["other", "one", "three"]
    assert [queue.pop(A), queue.pop(A), queue.pop(B)] == ["one", "three", "other"]
    assert not queue


def test_candidates_may_be_passed_over_while_the_queue_changes() -> None:
    queue: FairQueue[int] = FairQueue()
    for tenant in (A, B, C):
        queue.push(tenant, 1)
        queue.push(tenant, 2)
    seen: list[TenantName] = []
    for tenant in queue.candidates():
        seen.append(tenant)
        queue.pop(tenant)
        queue.charge(tenant, input_tokens=9)
    assert seen == [A, B, C]


def test_wrong_use_is_named() -> None:
    queue = weights(b=0)
    with pytest.raises(ValueError, match="'a' has nothing waiting"):
        queue.pop(A)
    with pytest.raises(ValueError, match="'a' is charged -1 input"):
        queue.charge(A, input_tokens=-1)
    with pytest.raises(ValueError, match="'b' has weight 0, expected 1 or more"):
        queue.charge(B, input_tokens=1)


def serve(queue: FairQueue[int], tenant: TenantName, tokens: int) -> None:
    queue.push(tenant, 0)
    queue.pop(tenant)
    queue.charge(tenant, input_tokens=tokens)


def test_who_is_charged_before_ever_waiting_pays_on_top_of_what_others_have() -> None:
    queue: FairQueue[int] = FairQueue()
    queue.push(A, 0)
    queue.charge(A, input_tokens=10)
    queue.charge(B, input_tokens=5)
    assert queue.counter(B) == 15 * COUNTS_PER_TOKEN


def test_who_is_removed_leaves_like_one_who_was_popped() -> None:
    queue: FairQueue[int] = FairQueue()
    queue.push(A, 0)
    queue.push(B, 0)
    queue.charge(B, input_tokens=5)
    queue.pop(A)
    assert queue.remove(B, 0)
    assert queue.counter(C) == 5 * COUNTS_PER_TOKEN


def test_no_charge_is_free_however_large_the_weight() -> None:
    queue = weights(a=10**9)
    queue.charge(A, input_tokens=1)
    assert queue.counter(A) == 1


@pytest.mark.parametrize("most", [0, 1, 100])
def test_ten_thousand_tenants_that_came_once_are_not_all_remembered(most: int) -> None:
    queue: FairQueue[int] = FairQueue(idle_tenants_most=most)
    queue.push(TenantName("steady"), 0)
    # Beside the idle ones: who waits, who left last, who has just been charged.
    remembered = most + 3
    for number in range(10_000):
        serve(queue, TenantName(f"t{number}"), 1 + number % 7)
    assert len(queue._lanes) <= remembered
    for number in range(10_000):
        queue.charge(TenantName(f"stranger{number}"), output_tokens=1)
    assert len(queue._lanes) <= remembered


def test_the_last_that_left_is_never_forgotten() -> None:
    queue: FairQueue[int] = FairQueue(idle_tenants_most=0)
    serve(queue, A, 5)
    queue.charge(C, input_tokens=1)
    queue.push(B, 0)
    assert queue.counter(A) == queue.counter(B) == 5 * COUNTS_PER_TOKEN


def test_who_was_served_most_is_remembered_longest() -> None:
    queue: FairQueue[int] = FairQueue(idle_tenants_most=4)
    queue.push(A, 0)
    serve(queue, B, 1_000)
    for number in range(100):
        serve(queue, TenantName(f"t{number}"), 1)
    assert queue.counter(B) == 1_000 * COUNTS_PER_TOKEN


def test_a_forgotten_tenant_comes_back_like_a_new_one() -> None:
    queue: FairQueue[int] = FairQueue(idle_tenants_most=1)
    queue.push(A, 0)
    queue.charge(A, input_tokens=10)
    for tenant in (B, C, TenantName("d"), TenantName("e")):
        queue.push(tenant, 0)
        queue.pop(tenant)
    assert queue.counter(B) == queue.counter(A)
    queue.push(B, 1)
    assert list(queue.candidates()) == [A, B]


class AgainstThePaper(RuleBasedStateMachine):
    """Whatever happens, counters and order are those of the paper's algorithm, written plainly."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[int] = FairQueue(weight_of=lambda tenant: 1 + (tenant == B))
        self.items: dict[TenantName, list[int]] = {A: [], B: [], C: []}
        self.counters: dict[TenantName, int] = {A: 0, B: 0, C: 0}
        self.last_left: TenantName | None = None
        self.known: set[TenantName] = set()
        self.number = 0

    tenants = st.sampled_from([A, B, C])

    def lift(self, tenant: TenantName) -> None:
        self.known.add(tenant)
        if self.items[tenant]:
            return
        active = [self.counters[other] for other in self.items if self.items[other]]
        last = self.counters[self.last_left] if self.last_left else 0
        self.counters[tenant] = max(self.counters[tenant], min(active, default=last))

    def left(self, tenant: TenantName) -> None:
        if not self.items[tenant]:
            self.last_left = tenant

    @rule(tenant=tenants, front=st.booleans())
    def push(self, tenant: TenantName, front: bool) -> None:
        self.number += 1
        self.lift(tenant)
        if front:
            self.queue.push_front(tenant, self.number)
            self.items[tenant].insert(0, self.number)
        else:
            self.queue.push(tenant, self.number)
            self.items[tenant].append(self.number)

    @precondition(lambda self: len(self.queue) > 0)
    @rule()
    def pop(self) -> None:
        tenant = next(self.queue.candidates())
        assert self.counters[tenant] == min(self.counters[t] for t in self.items if self.items[t])
        assert self.queue.pop(tenant) == self.items[tenant].pop(0)
        self.left(tenant)

    @rule(tenant=tenants, number=st.integers(0, 20))
    def remove(self, tenant: TenantName, number: int) -> None:
        there = number in self.items[tenant]
        assert self.queue.remove(tenant, number) == there
        if there:
            self.items[tenant].remove(number)
            self.left(tenant)

    @rule(tenant=tenants, prompt=st.integers(0, 9), answer=st.integers(0, 9))
    def charge(self, tenant: TenantName, prompt: int, answer: int) -> None:
        if tenant not in self.known:
            # The paper charges nobody who never waited; here it is on top of what one starts with.
            self.lift(tenant)
        self.queue.charge(tenant, input_tokens=prompt, output_tokens=answer)
        self.counters[tenant] += (prompt + 2 * answer) * COUNTS_PER_TOKEN // (1 + (tenant == B))

    @invariant()
    def the_same_waits_in_the_same_order(self) -> None:
        assert len(self.queue) == sum(len(items) for items in self.items.values())
        order = list(self.queue.candidates())
        assert sorted(order) == [tenant for tenant in sorted(self.items) if self.items[tenant]]
        assert [self.queue.counter(tenant) for tenant in order] == sorted(
            self.counters[tenant] for tenant in order
        )
        assert list(self.queue) == [item for tenant in order for item in self.items[tenant]]


AgainstThePaper.TestCase.settings = settings(max_examples=60, deadline=None)
TestAgainstThePaper = AgainstThePaper.TestCase

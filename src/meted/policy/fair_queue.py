"""Weighted fair queueing of tenants by the tokens they were served, not by who came first.

The virtual token counter of Sheng et al. 2024, "Fairness in Serving Large Language Models": each
tenant has a counter of served work over its weight; the next request is the oldest of the tenant
with the lowest counter. For two tenants with requests waiting, work served over weight differs by
at most 2 * max(INPUT_WEIGHT * longest prompt, OUTPUT_WEIGHT * tokens of a full batch).
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from meted.domain.units import TenantName

INPUT_WEIGHT = 1
OUTPUT_WEIGHT = 2
COUNTS_PER_TOKEN = 1_000_000
"""Fineness of a counter: what rounding adds is less than a millionth of a token for each charge."""
IDLE_TENANTS_MOST = 1_024

T = TypeVar("T")


def _one(_tenant: TenantName) -> int:
    return 1


class _Lane(Generic[T]):
    """A tenant's waiting items and its counter. turn: who of equal counters is first."""

    __slots__ = ("counter", "items", "turn")

    def __init__(self, counter: int) -> None:
        self.counter = counter
        self.turn = 0
        self.items: deque[T] = deque()


class FairQueue(Generic[T]):
    """Items that wait, by tenant; first come, first served only within a tenant.

    Take the first of `candidates` that can go on, `pop` it and `charge` its input at once; charge
    output as it is generated, whether or not the tenant still has something waiting.

    weight_of: a tenant's weight, 1 or more; one of weight 2 gets twice the work of one of weight 1.
    idle_tenants_most: counters kept of tenants without a waiting item. Beyond it the lowest are
    forgotten, as if they had been served as little as the tenant that was served least.
    """

    def __init__(
        self,
        *,
        weight_of: Callable[[TenantName], int] = _one,
        idle_tenants_most: int = IDLE_TENANTS_MOST,
    ) -> None:
        self._weight_of = weight_of
        self._idle_most = idle_tenants_most
        self._lanes: dict[TenantName, _Lane[T]] = {}
        self._order: list[tuple[int, int, TenantName]] = []
        """Counter, turn and name of each tenant with a waiting item, lowest first."""
        self._last_left: TenantName | None = None
        self._turns = 0
        self._size = 0

    def __len__(self) -> int:
        """Items waiting."""
        return self._size

    def __iter__(self) -> Iterator[T]:
        """All items: tenants in the order of their counters, the oldest first in each."""
        for tenant in self.candidates():
            yield from self._lanes[tenant].items

    def candidates(self) -> Iterator[TenantName]:
        """Tenants with a waiting item as they stand now, the lowest counter first.

        Of equal counters, the tenant that has not been popped for longest is first.
        """
        return (tenant for _, _, tenant in self._order.copy())

    def waiting(self, tenant: TenantName) -> int:
        """Items of a tenant that wait."""
        lane = self._lanes.get(tenant)
        return len(lane.items) if lane else 0

    def counter(self, tenant: TenantName) -> int:
        """Served work over weight, in COUNTS_PER_TOKEN; what a new tenant would start with."""
        lane = self._lanes.get(tenant)
        return lane.counter if lane else self._floor()

    def push(self, tenant: TenantName, item: T) -> None:
        """An item that waits behind the tenant's others."""
        self._waiting_lane(tenant).items.append(item)
        self._size += 1

    def push_front(self, tenant: TenantName, item: T) -> None:
        """An item that waits before the tenant's others, such as a request that is tried again."""
        self._waiting_lane(tenant).items.appendleft(item)
        self._size += 1

    def pop(self, tenant: TenantName) -> T:
        """The tenant's oldest item, which waits no longer. Raises ValueError if none waits."""
        lane = self._lanes.get(tenant)
        if lane is None or not lane.items:
            raise ValueError(f"tenant {tenant!r} has nothing waiting; pop one of the candidates")
        item = lane.items.popleft()
        self._size -= 1
        self._take_out(tenant, lane)
        if lane.items:
            self._put_in(tenant, lane)
        else:
            self._leave(tenant)
        return item

    def remove(self, tenant: TenantName, item: T) -> bool:
        """An item that no longer wants to wait. False if it does not wait (any more)."""
        lane = self._lanes.get(tenant)
        if lane is None or item not in lane.items:
            return False
        lane.items.remove(item)
        self._size -= 1
        if not lane.items:
            self._take_out(tenant, lane)
            self._leave(tenant)
        return True

    def charge(self, tenant: TenantName, *, input_tokens: int = 0, output_tokens: int = 0) -> None:
        """A tenant was served so many tokens.

        Raises ValueError for negative tokens, and for a weight below 1.
        """
        if input_tokens < 0 or output_tokens < 0:
            raise ValueError(
                f"tenant {tenant!r} is charged {input_tokens} input and {output_tokens} output "
                "tokens, expected 0 or more"
            )
        weight = self._weight_of(tenant)
        if weight < 1:
            raise ValueError(f"tenant {tenant!r} has weight {weight}, expected 1 or more")
        work = INPUT_WEIGHT * input_tokens + OUTPUT_WEIGHT * output_tokens
        lane = self._lanes.get(tenant) or self._new_lane(tenant)
        if lane.items:
            del self._order[bisect_left(self._order, (lane.counter, lane.turn, tenant))]
        # Rounded up, so that no charge is free however large the weight.
        lane.counter -= -work * COUNTS_PER_TOKEN // weight
        if lane.items:
            insort(self._order, (lane.counter, lane.turn, tenant))

    def _floor(self) -> int:
        """What a tenant that comes back has at least, so that being idle earns no credit."""
        if self._order:
            return self._order[0][0]
        return self._lanes[self._last_left].counter if self._last_left is not None else 0

    def _waiting_lane(self, tenant: TenantName) -> _Lane[T]:
        """The lane of a tenant that is about to have one more item."""
        lane = self._lanes.get(tenant) or self._new_lane(tenant)
        if not lane.items:
            lane.counter = max(lane.counter, self._floor())
            self._put_in(tenant, lane)
        return lane

    def _new_lane(self, tenant: TenantName) -> _Lane[T]:
        self._forget_beyond(self._idle_most - 1)
        lane: _Lane[T] = _Lane(self._floor())
        self._lanes[tenant] = lane
        return lane

    def _put_in(self, tenant: TenantName, lane: _Lane[T]) -> None:
        self._turns += 1
        lane.turn = self._turns
        insort(self._order, (lane.counter, lane.turn, tenant))

    def _take_out(self, tenant: TenantName, lane: _Lane[T]) -> None:
        del self._order[bisect_left(self._order, (lane.counter, lane.turn, tenant))]

    def _leave(self, tenant: TenantName) -> None:
        self._last_left = tenant
        self._forget_beyond(self._idle_most)

    def _forget_beyond(self, most: int) -> None:
        """If more tenants are idle, forget the lowest: their counters are what a new one gets.

        About half at a time, so that sorting them costs little for each that leaves.
        """
        if len(self._lanes) - len(self._order) <= most:
            return
        idle = [
            tenant
            for tenant, lane in self._lanes.items()
            if not lane.items and tenant != self._last_left
        ]
        idle.sort(key=lambda tenant: self._lanes[tenant].counter)
        for tenant in idle[: len(idle) - self._idle_most // 2]:
            del self._lanes[tenant]

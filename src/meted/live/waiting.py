"""Requests that wait: for a replica, the least served tenant's first, or for money, in turn."""

from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum

from meted.domain.budget import Window
from meted.domain.units import Micros, TenantName
from meted.live.tickets import LiveRequest
from meted.policy.fair_queue import FairQueue

BYTES_PER_TOKEN = 4
"""A guess at a prompt's length until the engine has counted it."""


class Funded(Enum):
    """What became of the attempt to set a request's money aside. REFUSED: it has ended."""

    YES = "yes"
    NOT_NOW = "not now"
    REFUSED = "refused"


class Waiting:
    """One deployment's requests that are on no replica.

    Who waits for money is parked with all that are covered by the same budgets, so that it does
    not hold up the rest of its tenant.
    """

    def __init__(self, weight_of: Callable[[TenantName], int]) -> None:
        self._queue: FairQueue[LiveRequest] = FairQueue(weight_of=weight_of)
        self._parked: dict[tuple[Window, ...], deque[LiveRequest]] = {}
        self._parked_count = 0

    def __len__(self) -> int:
        return len(self._queue) + self._parked_count

    def __iter__(self) -> Iterator[LiveRequest]:
        yield from self._queue
        for group in self._parked.values():
            yield from group

    @property
    def for_money(self) -> int:
        """Requests that are parked."""
        return self._parked_count

    def push(self, request: LiveRequest) -> None:
        self._queue.push(request.submission.payer.tenant, request)

    def push_front(self, request: LiveRequest) -> None:
        """A request that is tried again goes before its tenant's others."""
        self._queue.push_front(request.submission.payer.tenant, request)

    def remove(self, request: LiveRequest) -> None:
        """A request waits no longer."""
        if self._queue.remove(request.submission.payer.tenant, request):
            return
        group = self._parked[request.windows]
        group.remove(request)
        self._parked_count -= 1
        if not group:
            del self._parked[request.windows]

    def next(self, fund: Callable[[LiveRequest], Funded], now: Micros) -> LiveRequest | None:
        """The next request that is paid for: the first of those that waited for money, else of the
        tenant that was served least. Who cannot be paid for now is parked."""
        for windows in list(self._parked):
            found = self._first_parked(windows, fund)
            if found is not None:
                return found
        for tenant in self._queue.candidates():
            while self._queue.waiting(tenant):
                request = self._queue.pop(tenant)
                behind = request.windows in self._parked
                match Funded.NOT_NOW if behind else fund(request):
                    case Funded.YES:
                        return request
                    case Funded.NOT_NOW:
                        request.parked = now
                        self._parked.setdefault(request.windows, deque()).append(request)
                        self._parked_count += 1
                    case Funded.REFUSED:
                        pass
        return None

    def _first_parked(
        self, windows: tuple[Window, ...], fund: Callable[[LiveRequest], Funded]
    ) -> LiveRequest | None:
        group = self._parked[windows]
        found: LiveRequest | None = None
        while group and found is None:
            funded = fund(group[0])
            if funded is Funded.NOT_NOW:
                break
            request = group.popleft()
            self._parked_count -= 1
            if funded is Funded.YES:
                request.parked = None
                found = request
        if not group:
            del self._parked[windows]
        return found

    def dispatched(self, request: LiveRequest) -> None:
        """Its tenant is served its prompt, by a guess at first."""
        request.dispatched_tokens = max(1, request.prompt_tokens_most // BYTES_PER_TOKEN)
        self._queue.charge(request.submission.payer.tenant, input_tokens=request.dispatched_tokens)

    def counted(self, request: LiveRequest) -> None:
        """The engine has counted the prompt, which may be longer than the guess."""
        more = max(0, request.prompt_tokens - request.dispatched_tokens)
        request.dispatched_tokens += more
        self._queue.charge(request.submission.payer.tenant, input_tokens=more)

    def generated(self, request: LiveRequest, tokens: int) -> None:
        """Its tenant is served so many output tokens."""
        self._queue.charge(request.submission.payer.tenant, output_tokens=tokens)

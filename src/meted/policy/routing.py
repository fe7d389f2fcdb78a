"""Routing: which replica takes the next request."""

from collections.abc import Sequence


def least_loaded(running: Sequence[int], *, limit: int) -> int | None:
    """Index of the replica with the fewest requests in its batch, the first on a tie.

    None if every replica already runs `limit`.
    """
    best = min(range(len(running)), key=lambda index: running[index], default=None)
    return best if best is not None and running[best] < limit else None

"""Splitting a whole over shares so that nothing is lost: largest remainder."""

from collections.abc import Sequence
from typing import cast


def largest_remainder(total: int, weights: Sequence[float]) -> list[int]:
    """Integers in proportion to the weights that sum to `total` exactly.

    Each gets the floor of its share; what is left goes one by one to the largest fractions, first
    come first on a tie (Hamilton's method). All-zero weights split evenly. Exact at any size if
    all weights are integers; with a float among them, shares are right to a float's 53 bits.
    Raises ValueError for no weights, a negative weight or a negative total.
    """
    if not weights:
        raise ValueError(f"cannot split {total} over no shares; give at least one weight")
    if total < 0 or min(weights) < 0:
        raise ValueError(f"cannot split {total} by {list(weights)}; expected nothing negative")
    whole = sum(weights)
    if isinstance(whole, int):
        return _largest_integer_remainder(total, cast("Sequence[int]", weights), whole)
    if whole <= 0:
        weights, whole = [1.0] * len(weights), float(len(weights))
    exact = [total * weight / whole for weight in weights]
    parts = [min(int(share), total) for share in exact]
    left = total - sum(parts)
    order = sorted(range(len(parts)), key=lambda i: (parts[i] - exact[i], i))
    index = 0
    while left:
        step = 1 if left > 0 else -1
        position = order[index % len(order)]
        if parts[position] + step >= 0:
            parts[position] += step
            left -= step
        index += 1
    return parts


def _largest_integer_remainder(total: int, weights: Sequence[int], whole: int) -> list[int]:
    if whole == 0:
        weights, whole = [1] * len(weights), len(weights)
    parts: list[int] = []
    remainders: list[int] = []
    for weight in weights:
        part, remainder = divmod(total * weight, whole)
        parts.append(part)
        remainders.append(remainder)
    left = total - sum(parts)
    for index in sorted(range(len(parts)), key=lambda i: (-remainders[i], i))[:left]:
        parts[index] += 1
    return parts

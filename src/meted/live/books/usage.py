"""What was asked for: requests, tokens, and how money depends on tokens, by deployment."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from meted.domain.request import Outcome
from meted.ledger.statement import Tokens
from meted.live.books.cells import HOUR_US, Scope
from meted.live.stores.database import Statements, whole

_TOKENS = ("prompt_tokens", "cached_tokens", "completion_tokens")
Matrix = NDArray[np.float64]
KINDS = 3
"""Input, cached and output tokens."""


@dataclass(slots=True)
class Usage:
    """Requests of one account. outcomes: how many ended in which way."""

    outcomes: dict[Outcome, int] = field(default_factory=dict[Outcome, int])
    prompt: int = 0
    cached: int = 0
    output: int = 0

    @property
    def requests(self) -> int:
        return sum(self.outcomes.values())

    @property
    def tokens(self) -> Tokens:
        return Tokens(
            input=max(0, self.prompt - self.cached), cached=self.cached, output=self.output
        )

    def add(self, other: "Usage") -> None:
        for outcome, count in other.outcomes.items():
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + count
        self.prompt += other.prompt
        self.cached += other.cached
        self.output += other.output


def usage(
    db: Statements, scope: Scope, *, by_hour: bool = False
) -> dict[tuple[int, int | None], Usage]:
    """Requests and tokens by account and, if asked for, by hour since 1970."""
    found: dict[tuple[int, int | None], Usage] = {}
    tokens = ", ".join(db.exact_sum(one) for one in _TOKENS)
    for table, at, count, where in (
        ("requests", f"arrived / {HOUR_US}", "count(*)", scope.moments("arrived")),
        ("hour_requests", "hour", "sum(requests)", scope.hours("hour")),
    ):
        hour = at if by_hour else "null"
        groups = f"account, outcome, {at}" if by_hour else "account, outcome"
        for account, outcome, of_hour, requests, prompt, cached, output in db.rows(
            f"SELECT account, outcome, {hour}, {count}, {tokens} FROM {table}"
            f"{where.on('account')} GROUP BY {groups}",
            *where.all_values,
        ):
            found.setdefault((account, of_hour), Usage()).add(
                Usage(
                    outcomes={Outcome(outcome): int(requests)},
                    prompt=whole(prompt),
                    cached=whole(cached),
                    output=whole(output),
                )
            )
    return found


def token_weights(
    db: Statements, scope: Scope, accounts: Sequence[int], money: str
) -> tuple[float, float, float]:
    """Relative money of an input, a cached and an output token of these accounts' requests.

    money: `cost` or `price`. The weights, none negative, with which tokens x weights come nearest
    to each request's money (least squares; Lawson and Hanson 1974, chapter 23). Where requests are
    too alike to tell the kinds of tokens apart all tokens count the same.
    """
    normal, right = np.zeros((KINDS, KINDS)), np.zeros(KINDS)
    columns = ["(prompt_tokens - cached_tokens)", "cached_tokens", "completion_tokens"]
    pairs = [(i, j) for i in range(KINDS) for j in range(i, KINDS)]
    listed = ", ".join(str(account) for account in accounts)
    for table, weight, where in (
        ("requests", "1", scope.moments("arrived")),
        # An hour's sums are one observation of that many requests.
        ("hour_requests", "requests", scope.hours("hour")),
    ):
        products = [f"{_double(columns[i])} * {_double(columns[j])}" for i, j in pairs]
        products += [f"{_double(column)} * {_double(money)}" for column in columns]
        sums = ", ".join(f"sum({product} / {_double(weight)})" for product in products)
        texts = [*where.texts, f"account IN ({listed})"]
        row = db.rows(f"SELECT {sums} FROM {table} WHERE {' AND '.join(texts)}", *where.values)[0]
        numbers = [float(value or 0) for value in row]
        for (i, j), value in zip(pairs, numbers, strict=False):
            normal[i, j] += value
            if i != j:
                normal[j, i] += value
        right += np.array(numbers[len(pairs) :])
    return _nearest(normal, right)


def _double(column: str) -> str:
    return f"CAST({column} AS DOUBLE PRECISION)"


def _nearest(normal: Matrix, right: Matrix) -> tuple[float, float, float]:
    """The non-negative weights of least squares, by trying every set of weights that are not 0."""
    scale = np.sqrt(np.diag(normal))
    present = [kind for kind in range(KINDS) if scale[kind] > 0]
    alike = (1.0, 1.0, 1.0)
    if not present:
        return alike
    scaled = normal[np.ix_(present, present)] / np.outer(scale[present], scale[present])
    if np.linalg.matrix_rank(scaled, tol=1e-6) < len(present):
        return alike
    best, best_error = alike, np.inf
    for size in range(1, len(present) + 1):
        for kinds in combinations(present, size):
            chosen = list(kinds)
            weights = np.linalg.solve(normal[np.ix_(chosen, chosen)], right[chosen])
            error = float(-(right[chosen] @ weights))
            if (weights >= 0).all() and error < best_error:
                full = np.zeros(KINDS)
                full[chosen] = weights
                best, best_error = (float(full[0]), float(full[1]), float(full[2])), error
    return best

"""Tokens that were served since a promotion, from the books. Reads only."""

from collections.abc import Mapping

from meted.domain.request import Outcome
from meted.domain.units import (
    MICROS_PER_SECOND,
    SECONDS_PER_HOUR,
    DeploymentName,
    Micros,
    Tokens,
)
from meted.live.books.opening import Target, opened
from meted.live.stores.database import Statements, whole

HOUR_US = SECONDS_PER_HOUR * MICROS_PER_SECOND


def tokens_served(
    target: Target, since: Mapping[DeploymentName, Micros]
) -> dict[DeploymentName, Tokens]:
    """Prompt and output tokens of requests that arrived at each deployment since a moment.

    Of hours that are folded, those that began since then; so that nothing is counted that came
    before. Requests that failed do not count. Raises StoreError if the books cannot be read.
    """

    def work(db: Statements) -> dict[DeploymentName, Tokens]:
        return {name: _served(db, name, moment) for name, moment in since.items()}

    if not since:
        return {}
    with opened(target) as database:
        return database.read(work)


def _served(db: Statements, name: DeploymentName, since: Micros) -> Tokens:
    tokens = 0
    for table, at, moment in (
        ("requests", "arrived", since),
        ("hour_requests", "hour", -(-since // HOUR_US)),
    ):
        (row,) = db.rows(
            f"SELECT {db.exact_sum('prompt_tokens')}, {db.exact_sum('completion_tokens')}"
            f" FROM {table} JOIN accounts ON accounts.id = {table}.account"
            f" WHERE deployment = ? AND {at} >= ? AND outcome IN (?, ?)",
            *(name, moment, Outcome.DONE, Outcome.CANCELLED),
        )
        tokens += sum(whole(one) for one in row)
    return Tokens(tokens)

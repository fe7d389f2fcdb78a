"""Training that is in closed intervals and not charged yet, because no checkpoint holds it."""

from collections import defaultdict

from meted.domain.line import Kind
from meted.domain.units import DeviceNanos
from meted.ledger.meter import UNCHECKPOINTED
from meted.live.books.cells import HOUR_US, Scope
from meted.live.stores.database import Statements, whole

_WAITING = (
    f"(SELECT id FROM accounts WHERE kind = '{Kind.TRAINING}' AND note = '{UNCHECKPOINTED}'{{own}})"
)


def uncharged(db: Statements, scope: Scope) -> DeviceNanos:
    """Device time of training that waited for a checkpoint when the scope ended, and waits now.

    A part of a job is charged once it is durable, where it began: what a scope charges may grow by
    that much time. `scope.from_us` has no part in it, for such a part may have begun before it.
    """
    own = "" if scope.tenant is None else " AND tenant = ?"
    values = () if scope.tenant is None else (scope.tenant,)
    waits: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
    for table, joined, starts, indexed in (
        # The index of lines by account has those without a request.
        ("lines", "intervals USING (session, number)", "started", " AND request IS NULL"),
        ("hour_lines", "hours USING (session, first)", f"hour * {HOUR_US}", ""),
    ):
        nanos = f"{table}.device_nanos"
        then, join = nanos, ""
        if scope.to_us is not None:
            join = f" JOIN {joined}"
            then = f"(CASE WHEN {starts} < {int(scope.to_us)} THEN {nanos} ELSE 0 END)"
        for session, account, at_the_end, now in db.rows(
            f"SELECT {table}.session, account, {db.exact_sum(then)}, {db.exact_sum(nanos)}"
            f" FROM {table}{join} WHERE account IN {_WAITING.format(own=own)}{indexed}"
            # In a session that is resolved nothing waits.
            f" AND {table}.session IN (SELECT id FROM sessions WHERE resolved = 0)"
            f" GROUP BY {table}.session, account",
            *values,
        ):
            waits[session, account][0] += whole(at_the_end)
            waits[session, account][1] += whole(now)
    return DeviceNanos(sum(max(0, min(both)) for both in waits.values()))

"""A session's intervals: appended once, the open one replaced."""

import msgspec

from meted.domain.line import Interval
from meted.live.store import IntervalClosedError
from meted.live.stores.accounts import AccountNumbers
from meted.live.stores.database import Statements, marks

FACTS = "priced_from, started, ended, devices, nano_usd_per_device_hour, capacity_nanos, amount"
_CLOSED = f"session, number, {FACTS}"
LINE = "session, number, position, account, request, device_nanos, amount"


def session_number(db: Statements, name: str, house: str) -> int:
    """A session's number. It is being written to, so it is no longer resolved."""
    known = db.rows("SELECT id FROM sessions WHERE name = ? AND resolved = 0", name)
    if not known:
        known = db.rows(
            "INSERT INTO sessions (name, house, resolved) VALUES (?, ?, 0)"
            " ON CONFLICT (name) DO UPDATE SET resolved = 0 RETURNING id",
            name,
            house,
        )
    return known[0][0]


def append(db: Statements, accounts: AccountNumbers, session: int, interval: Interval) -> None:
    """Close an interval, once. Raises IntervalClosedError if it is closed with other content, or
    does not begin where its session's last one ended."""
    db.change("DELETE FROM provisional WHERE session = ? AND number <= ?", session, interval.number)
    values = (
        *(interval.priced_from, interval.started, interval.ended, interval.devices),
        *(interval.nano_usd_per_device_hour, interval.capacity_nanos, interval.amount),
    )
    if _is_closed(db, session, interval, values):
        return
    _check_follows(db, session, interval)
    accounts.prepare(db, [line.account for line in interval.lines])
    db.insert(
        "lines",
        LINE,
        [
            (
                *(session, interval.number, position),
                *(accounts.of(line.account), line.account.request),
                *(line.device_nanos, line.amount),
            )
            for position, line in enumerate(interval.lines)
        ],
    )
    db.change(
        f"INSERT INTO intervals ({_CLOSED}) VALUES ({marks(_CLOSED)})",
        *(session, interval.number, *values),
    )


def _is_closed(db: Statements, session: int, interval: Interval, values: tuple[int, ...]) -> bool:
    written = db.rows(
        f"SELECT {FACTS} FROM intervals WHERE session = ? AND number = ?", session, interval.number
    )
    if not written:
        return bool(
            db.rows(
                "SELECT 1 FROM hours WHERE session = ? AND first <= ? AND last >= ?",
                *(session, interval.number, interval.number),
            )
        )
    if written[0] != values:
        raise IntervalClosedError(
            f"interval {interval.number} of session {interval.session} is closed with "
            f"({FACTS}) = {written[0]} and cannot be closed again with {values}"
        )
    return True


def _check_follows(db: Statements, session: int, interval: Interval) -> None:
    last = db.rows(
        "SELECT number, ended FROM intervals WHERE session = ? ORDER BY number DESC LIMIT 1",
        session,
    ) or db.rows(
        "SELECT last, ended FROM hours WHERE session = ? ORDER BY last DESC LIMIT 1", session
    )
    if last and last[0] != (interval.number - 1, interval.started):
        number, ended = last[0]
        raise IntervalClosedError(
            f"interval {interval.number} of session {interval.session} starts at "
            f"{interval.started} (us), but the last one there is {number} and ended at {ended}; "
            "another house has closed the session"
        )


def set_provisional(db: Statements, session: int, interval: Interval) -> None:
    """Replace the open interval, unless it is closed already (a batch written late again)."""
    if db.rows(
        "SELECT 1 FROM intervals WHERE session = ? AND number >= ?"
        " UNION ALL SELECT 1 FROM hours WHERE session = ? AND last >= ? LIMIT 1",
        *(session, interval.number, session, interval.number),
    ):
        return
    db.change(
        "INSERT INTO provisional (session, number, interval) VALUES (?, ?, ?)"
        " ON CONFLICT (session) DO UPDATE SET number = excluded.number,"
        " interval = excluded.interval WHERE excluded.number >= provisional.number",
        *(session, interval.number, msgspec.json.encode(interval)),
    )

"""What sessions that run no more left behind: an open interval, suspended time, told costs."""

from collections.abc import Iterator

import msgspec

from meted.domain.line import Account, Interval, Kind
from meted.domain.units import DeviceNanos, Micros, NanoUSD
from meted.ledger.meter import IN_PROGRESS, UNCHECKPOINTED
from meted.ledger.recovery import Acknowledged, Suspended
from meted.live.store import Crashed
from meted.live.stores.accounts import PARTS, account_of
from meted.live.stores.database import Statements, whole

_PARTS = ", ".join(f"accounts.{part}" for part in PARTS.split(", "))


def abandoned(db: Statements, house: str, now: Micros) -> list[tuple[int, str]]:
    """Sessions not resolved yet, by number and name, of this house and of houses that are gone.

    A house is gone when its life has ended; '' wrote before houses had names.
    """
    return [
        (number, name)
        for number, name in db.rows(
            "SELECT sessions.id, sessions.name FROM sessions"
            " LEFT JOIN houses ON houses.id = sessions.house"
            " WHERE resolved = 0 AND (house IN (?, '') OR houses.alive_until < ?)"
            " ORDER BY sessions.id",
            house,
            now,
        )
    ]


def crashed(db: Statements, session: int, name: str) -> Crashed | None:
    """What a session that does not run any more left open or untold; None if nothing."""
    row = db.rows("SELECT interval FROM provisional WHERE session = ?", session)
    interval = (
        msgspec.json.decode(row[0][0], type=Interval) if row else _empty_next(db, session, name)
    )
    if interval is None:
        return None
    suspended = tuple(_suspended(db, session, interval))
    acknowledged = tuple(_acknowledged(db, session, interval))
    if not (row or suspended or acknowledged):
        return None
    return Crashed(interval=interval, suspended=suspended, acknowledged=acknowledged)


def _empty_next(db: Statements, session: int, name: str) -> Interval | None:
    """An interval without time after a session's last one, for lines that correct it."""
    last = db.rows(
        "SELECT number, priced_from, ended, devices, nano_usd_per_device_hour FROM intervals"
        " WHERE session = ? ORDER BY number DESC LIMIT 1",
        session,
    )
    if not last:
        return None
    number, priced_from, ended, devices, price = last[0]
    return Interval(
        session=name,
        number=number + 1,
        priced_from=priced_from,
        started=ended,
        ended=ended,
        devices=devices,
        nano_usd_per_device_hour=price,
        capacity_nanos=DeviceNanos(0),
        amount=NanoUSD(0),
        lines=(),
    )


def _suspended(db: Statements, session: int, interval: Interval) -> Iterator[Suspended]:
    """Accounts whose time waits for a report or an end, with what all intervals hold of them."""
    nanos, amount = db.exact_sum("lines.device_nanos"), db.exact_sum("lines.amount")
    sums: dict[Account, tuple[int, int]] = {}
    for *parts, request, held, cost in db.rows(
        f"SELECT {_PARTS}, lines.request, {nanos}, {amount}"
        " FROM lines JOIN accounts ON accounts.id = lines.account"
        f" WHERE lines.session = ? AND kind <> '{Kind.LOST}' AND ("
        f"note IN ('{IN_PROGRESS}', '{UNCHECKPOINTED}')"
        f" OR kind = '{Kind.REQUEST}' AND request IS NOT NULL"
        " AND NOT EXISTS (SELECT 1 FROM requests WHERE requests.id = lines.request))"
        f" GROUP BY {_PARTS}, lines.request ORDER BY {_PARTS}, lines.request",
        session,
    ):
        sums[account_of(parts, request)] = (whole(held), whole(cost))
    for account, held, cost in _folded(db, session):
        before = sums.get(account, (0, 0))
        sums[account] = (before[0] + held, before[1] + cost)
    for line in interval.lines:
        if _is_unresolved(db, line.account):
            held, cost = sums.get(line.account, (0, 0))
            sums[line.account] = (held + line.device_nanos, cost + line.amount)
    for account, (held, cost) in sums.items():
        if held or cost:
            yield Suspended(account=account, device_nanos=DeviceNanos(held), amount=NanoUSD(cost))


def _folded(db: Statements, session: int) -> Iterator[tuple[Account, int, int]]:
    """What the folded hours of a session hold on accounts whose time waits; no request is left
    in them."""
    nanos, amount = db.exact_sum("hour_lines.device_nanos"), db.exact_sum("hour_lines.amount")
    for *parts, held, cost in db.rows(
        f"SELECT {_PARTS}, {nanos}, {amount}"
        " FROM hour_lines JOIN accounts ON accounts.id = hour_lines.account"
        f" WHERE hour_lines.session = ? AND kind <> '{Kind.LOST}'"
        f" AND note IN ('{IN_PROGRESS}', '{UNCHECKPOINTED}') GROUP BY {_PARTS} ORDER BY {_PARTS}",
        session,
    ):
        yield account_of(parts, None), whole(held), whole(cost)


def _is_unresolved(db: Statements, account: Account) -> bool:
    """Whether an account's time waits for a report or an end; `_suspended` asks for the same."""
    if account.kind is Kind.LOST:
        return False
    if account.note in (IN_PROGRESS, UNCHECKPOINTED):
        return True
    if account.kind is not Kind.REQUEST or account.request is None:
        return False
    return not db.rows("SELECT 1 FROM requests WHERE id = ?", account.request)


def _acknowledged(db: Statements, session: int, interval: Interval) -> Iterator[Acknowledged]:
    """Requests of the session whose clients were told another cost than its intervals hold.

    What ended before the last two closed intervals is posted: an interval leaves out no more than
    the skew between clock readings, which the next one posts. So not all requests are looked at.
    """
    since = db.rows(
        "SELECT started FROM intervals WHERE session = ? ORDER BY number DESC LIMIT 1 OFFSET 1",
        session,
    )
    late = (session, since[0][0] if since else 0)
    candidates = db.rows(
        f"SELECT requests.id, {_PARTS}, ended, device_nanos, cost FROM requests"
        " JOIN accounts ON accounts.id = requests.account"
        " WHERE session = ? AND ended >= ? ORDER BY ended, requests.id",
        *late,
    )
    if not candidates:
        return
    posted = _posted(db, session, late)
    for line in interval.lines:
        held, amount = posted.get(line.account, (0, 0))
        posted[line.account] = (held + line.device_nanos, amount + line.amount)
    for request, *parts, ended, nanos, cost in candidates:
        account = account_of(parts, request)
        posted_nanos, posted_cost = posted.get(account, (0, 0))
        if (posted_nanos, posted_cost) != (nanos, cost):
            yield Acknowledged(
                account=account,
                ended=ended,
                device_nanos=nanos,
                cost=cost,
                posted_nanos=DeviceNanos(posted_nanos),
                posted_cost=NanoUSD(posted_cost),
            )


def _posted(db: Statements, session: int, late: tuple[int, int]) -> dict[Account, tuple[int, int]]:
    """What the closed intervals hold of each request of a session that ended late."""
    nanos, amount = db.exact_sum("lines.device_nanos"), db.exact_sum("lines.amount")
    return {
        account_of(parts, request): (whole(held), whole(cost))
        for *parts, request, held, cost in db.rows(
            f"SELECT {_PARTS}, lines.request, {nanos}, {amount}"
            " FROM lines JOIN accounts ON accounts.id = lines.account"
            " WHERE lines.session = ? AND lines.request IN"
            " (SELECT id FROM requests WHERE session = ? AND ended >= ?)"
            f" GROUP BY {_PARTS}, lines.request",
            *(session, *late),
        )
    }

"""Laws of requests and charges: what clients were told is what the lines hold, each once."""

from itertools import pairwise

from meted.domain.line import Kind
from meted.live.books.laws import Law, LawBook
from meted.live.stores.database import Row, Statements, whole

TOLD = "a request's lines sum to the time and cost that its client was told"
ELSEWHERE = "a request that ended has no other time left on a request's account"
FOLDED = "an account's folded lines and requests sum to the same"
CHARGED = "a job is charged for no more time than its lines hold, and nothing is charged twice"

# One sort of both tables instead of a join, so that it needs no index on the lines.
_GROUPS = f"""
    SELECT id, account, max(session), max(arrived), max(ended), sum(told_nanos), sum(told_cost),
        sum(nanos), sum(amount), max(of_request), max(line_session)
    FROM (
        SELECT id, account, session, arrived, ended, device_nanos AS told_nanos, cost AS told_cost,
            0 AS nanos, 0 AS amount, 0 AS of_request, null AS line_session
        FROM requests
        UNION ALL
        SELECT request, account, null, null, null, 0, 0, device_nanos, amount,
            CASE WHEN account IN (SELECT id FROM accounts WHERE kind = '{Kind.REQUEST}')
                THEN 1 ELSE 0 END, session
        FROM lines WHERE request IS NOT NULL
    ) AS both_sides
    GROUP BY id, account
    HAVING sum(told_nanos) <> sum(nanos) OR sum(told_cost) <> sum(amount)
    ORDER BY id, account
"""


class RequestCheck:
    """Compares requests with their lines. folded: requests that are in hours by now."""

    def __init__(self, db: Statements) -> None:
        self._db = db
        self.requests, self.folded, self.waiting = _counts(db)
        self._laws = LawBook(TOLD, ELSEWHERE, FOLDED)
        self._differ: dict[int, list[int]] = {}
        self._resolved = {
            session for (session,) in db.rows("SELECT id FROM sessions WHERE resolved <> 0")
        }

    @property
    def laws(self) -> tuple[Law, ...]:
        return self._laws.laws

    def run(self) -> None:
        """Test all laws. Of requests in rows of their own only those that differ are looked at."""
        settled = Settled(self._db)
        self._laws.count(TOLD, self.requests)
        self._laws.count(ELSEWHERE, self.requests)
        for row in self._db.stream(_GROUPS):
            if row[4] is None:
                self._not_told(row)
            else:
                self._told_otherwise(row, settled)
        if self.folded and not any(law.fault for law in self.laws):
            self._folded()

    def _told_otherwise(self, row: Row, settled: "Settled") -> None:
        request, account, session, arrived, ended, told_nanos, told_cost, nanos, amount, *_ = row
        if settled.is_partly_folded(session, arrived):
            # Its first lines are in an hour that has no names any more; `_folded` counts them.
            return
        if not settled.by(session, ended):
            self.waiting += 1
            self._differs(account, told_nanos - nanos, told_cost - amount)
            return
        self._laws.hold(
            TOLD,
            broken=f"request {request} has lines of {nanos} ns and {amount} nano-USD, but its "
            f"client was told {told_nanos} ns and {told_cost} nano-USD",
        )

    def _not_told(self, row: Row) -> None:
        """Lines of a request on an account that is not where it ended, or before it ended."""
        request, account, nanos, amount = row[0], row[1], row[7], row[8]
        of_request, session = row[9], row[10]
        if not of_request:
            return
        if self._db.rows("SELECT 1 FROM requests WHERE id = ?", request):
            self._laws.hold(
                ELSEWHERE,
                broken=f"request {request} ended, but {nanos} ns and {amount} nano-USD of it are "
                f"left on account {account}",
            )
            return
        if session in self._resolved:
            # It never ended, and a crash moved all it had to `lost`: the rest of it is folded.
            return
        self._differs(account, -nanos, -amount)

    def _differs(self, account: int, nanos: int, amount: int) -> None:
        sums = self._differ.setdefault(account, [0, 0])
        sums[0] += nanos
        sums[1] += amount

    def _folded(self) -> None:
        """Told less lines, over all of an account: nothing but what waits or has not ended."""
        told = self._sums(
            ("requests", "device_nanos", "cost"), ("hour_requests", "device_nanos", "cost")
        )
        held = self._sums(
            ("lines", "device_nanos", "amount"), ("hour_lines", "device_nanos", "amount")
        )
        parts = "SELECT id FROM accounts WHERE kind = ? ORDER BY id"
        for (account,) in self._db.rows(parts, Kind.REQUEST):
            if account not in told:
                continue
            differs = [a - b for a, b in zip(told[account], held.get(account, [0, 0]), strict=True)]
            expected = self._differ.get(account, [0, 0])
            broken = None
            if differs != expected:
                broken = (
                    f"account {account} has requests that were told {differs[0] - expected[0]} ns "
                    f"and {differs[1] - expected[1]} nano-USD more than its lines hold"
                )
            self._laws.hold(FOLDED, broken=broken)

    def _sums(self, *tables: tuple[str, str, str]) -> dict[int, list[int]]:
        sums: dict[int, list[int]] = {}
        for table, nanos, cost in tables:
            for account, time, money in self._db.rows(
                f"SELECT account, {self._db.exact_sum(nanos)}, {self._db.exact_sum(cost)}"
                f" FROM {table} GROUP BY account"
            ):
                found = sums.setdefault(account, [0, 0])
                found[0] += whole(time)
                found[1] += whole(money)
        return sums


def _counts(db: Statements) -> tuple[int, int, int]:
    requests = db.rows("SELECT count(*) FROM requests")[0][0]
    folded = db.rows("SELECT coalesce(sum(requests), 0) FROM hour_requests")[0][0]
    return requests, int(folded), 0


class Settled:
    """Up to which moments all time is posted: before the last closed interval of each session.

    Clocks are read one after the other, so that the last nanoseconds of a request may be posted
    one interval late.
    """

    def __init__(self, db: Statements) -> None:
        spans: dict[int, tuple[int, int]] = {}
        self._folded_until: dict[int, int] = {}
        for table in ("hours", "intervals"):
            for session, began, last, ended in db.rows(
                f"SELECT session, min(started), max(started), max(ended) FROM {table}"
                " GROUP BY session"
            ):
                known = spans.get(session, (began, last))
                spans[session] = (min(began, known[0]), max(last, known[1]))
                if table == "hours":
                    self._folded_until[session] = ended
        self._last = {session: last for session, (_, last) in spans.items()}
        open_ended = [*sorted(spans.values()), (float("inf"), float("inf"))]
        self._spans = [
            (began, closed, after) for (began, closed), (after, _) in pairwise(open_ended)
        ]

    def by(self, session: int | None, moment: int) -> bool:
        """Whether what ended at a moment, in a session or (of old) in any, is posted in full."""
        if session is not None:
            return moment <= self._last.get(session, -1)
        return any(
            began <= moment <= closed and moment < after for began, closed, after in self._spans
        )

    def is_partly_folded(self, session: int | None, arrived: int) -> bool:
        """Whether some lines of a request that arrived then may be in folded hours."""
        if session is None:
            return any(arrived < until for until in self._folded_until.values())
        return arrived < self._folded_until.get(session, 0)


def check_charges(db: Statements) -> Law:
    """Charges against the lines of jobs, in sessions whose every line is there."""
    laws = LawBook(CHARGED)
    charges = db.rows("SELECT count(*) FROM charges")[0][0]
    laws.count(CHARGED, charges)
    twice = db.rows("SELECT charges.id FROM charges JOIN requests ON requests.id = charges.id")
    for (charge,) in twice:
        laws.hold(CHARGED, broken=f"{charge} is both a request and a charge of a job")
    still_open = {
        job
        for (job,) in db.rows(
            "SELECT DISTINCT job FROM charges JOIN sessions ON sessions.id = charges.session"
            " JOIN accounts ON accounts.id = charges.account WHERE resolved = 0"
        )
    }
    charged = _by_job(db, "charges", "hour_charges")
    held = _by_job(db, "lines", "hour_lines")
    for job, nanos in charged.items():
        if job in still_open or nanos <= held.get(job, 0):
            continue
        laws.hold(
            CHARGED,
            broken=f"job {job} is charged for {nanos} ns, but its lines hold {held.get(job, 0)}",
        )
    return laws.laws[0]


def _by_job(db: Statements, *tables: str) -> dict[str, int]:
    """Time by job on what it is charged for: training, and loading what it begins from."""
    sums: dict[str, int] = {}
    for table in tables:
        for job, nanos in db.rows(
            f"SELECT job, {db.exact_sum(f'{table}.device_nanos')} FROM {table}"
            f" JOIN accounts ON accounts.id = {table}.account"
            f" WHERE kind IN ('{Kind.TRAINING}', '{Kind.LOADING}') AND job <> '' GROUP BY job"
        ):
            sums[job] = sums.get(job, 0) + whole(nanos)
    return sums

"""A statement of a month: everything that `meted report` shows, as plain values. Reads only."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from meted.domain.budget import Budget
from meted.domain.line import Kind
from meted.domain.units import DeviceNanos, Micros, NanoUSD, TenantName
from meted.ledger.shares import Method, share
from meted.ledger.statement import Finding, PayerSums, Tokens, UnitCost, findings, unit_cost
from meted.live.books.billing import account_parts
from meted.live.books.cells import Cell, Cells, Scope
from meted.live.books.opening import Target, opened
from meted.live.books.trained import Trained, trained
from meted.live.books.usage import Usage, token_weights, usage
from meted.live.stores.database import Statements, whole

HOURS_PER_DAY = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Payer:
    """A tenant's project: what it used, cost and was charged."""

    tenant: str
    project: str
    requests: int
    device_nanos: DeviceNanos
    cost: NanoUSD
    price: NanoUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A deployment, with money per million tokens of each kind.

    idle: its share of what idled in the hours in which it served.
    """

    name: str
    requests: int
    failed: int
    tokens: Tokens
    cost: NanoUSD
    price: NanoUSD
    idle: NanoUSD
    unit_cost: UnitCost
    unit_price: UnitCost


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetLine:
    """How a window of a budget that began in the period, or holds in it, stands."""

    budget: Budget
    starts: Micros
    spent: NanoUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A period of the books. A tenant's has only what is its own, and no cost: days are of prices
    then, every cost is 0, and what is the house's is empty.

    days: days since 1970 with money by kind (a tenant's: by deployment or job). idle_share: of each
    hour of the day (UTC), the share of capacity's cost that was idle; None without capacity.
    """

    tenant: TenantName | None
    from_us: Micros
    to_us: Micros
    device_nanos: DeviceNanos
    cost: NanoUSD
    price: NanoUSD
    idle: NanoUSD
    requests: int
    tokens: Tokens
    kinds: tuple[tuple[str, DeviceNanos, NanoUSD], ...]
    payers: tuple[Payer, ...]
    served: tuple[Served, ...]
    trained: tuple[Trained, ...]
    budgets: tuple[BudgetLine, ...]
    days: tuple[tuple[int, Mapping[str, NanoUSD]], ...]
    idle_share: tuple[float | None, ...]
    findings: tuple[Finding, ...]


def statement(
    target: Target, *, from_us: Micros, to_us: Micros, tenant: TenantName | None = None
) -> Statement:
    """What happened in [from_us, to_us). Raises StoreError if the books cannot be read."""
    scope = Scope(from_us=from_us, to_us=to_us, tenant=tenant)
    with opened(target) as database:
        return database.read(lambda db: _Maker(db, scope).statement())


class _Maker:
    """Sums by account and hour, looked at from all sides."""

    def __init__(self, db: Statements, scope: Scope) -> None:
        self._db = db
        self._scope = scope
        self._parts = account_parts(db)
        places = Cells(db, scope, by_request=False, by_hour=True).read()
        self._cells = [(account, hour or 0, cell) for (account, _, hour), cell in places.items()]
        if scope.tenant is not None:
            # What it cost us is the house's own business.
            for _, _, cell in self._cells:
                cell.cost = 0
        self._usage = {account: used for (account, _), used in usage(db, scope).items()}

    def statement(self) -> Statement:
        own = self._scope.tenant is not None
        kinds = self._by(0)
        served = self._served()
        cells = [(account, cell) for account, _, cell in self._cells]
        jobs = trained(self._db, self._parts, cells, house=not own)
        everything = Usage()
        for used in self._usage.values():
            everything.add(used)
        assert self._scope.from_us is not None and self._scope.to_us is not None
        return Statement(
            tenant=self._scope.tenant,
            from_us=self._scope.from_us,
            to_us=self._scope.to_us,
            device_nanos=DeviceNanos(sum(cell.nanos for _, _, cell in self._cells)),
            cost=NanoUSD(sum(cell.cost for _, _, cell in self._cells)),
            price=NanoUSD(sum(cell.price for _, _, cell in self._cells)),
            idle=NanoUSD(kinds[Kind.IDLE].cost if Kind.IDLE in kinds else 0),
            requests=everything.requests,
            tokens=everything.tokens,
            kinds=() if own else self._kinds(kinds),
            payers=self._payers(),
            served=served,
            trained=jobs,
            budgets=self._budgets(),
            days=self._days(),
            idle_share=() if own else self._idle_share(),
            findings=() if own else self._findings(kinds, served, jobs),
        )

    def _by(self, part: int) -> dict[str, Cell]:
        sums: dict[str, Cell] = defaultdict(Cell)
        for account, _, cell in self._cells:
            sums[self._parts[account][part]].add(cell)
        return sums

    def _kinds(self, kinds: Mapping[str, Cell]) -> tuple[tuple[str, DeviceNanos, NanoUSD], ...]:
        rows = [(kind, DeviceNanos(cell.nanos), NanoUSD(cell.cost)) for kind, cell in kinds.items()]
        return tuple(sorted(rows, key=lambda row: (-row[2], row[0])))

    def _payers(self) -> tuple[Payer, ...]:
        sums: dict[tuple[str, str], Cell] = defaultdict(Cell)
        requests: dict[tuple[str, str], int] = defaultdict(int)
        for account, _, cell in self._cells:
            _, tenant, project, *_ = self._parts[account]
            if tenant:
                sums[tenant, project].add(cell)
        for account, used in self._usage.items():
            _, tenant, project, *_ = self._parts[account]
            requests[tenant, project] += used.requests
        rows = [
            Payer(
                tenant=tenant,
                project=project,
                requests=requests[tenant, project],
                device_nanos=DeviceNanos(cell.nanos),
                cost=NanoUSD(cell.cost),
                price=NanoUSD(cell.price),
            )
            for (tenant, project), cell in sums.items()
        ]
        return tuple(sorted(rows, key=lambda row: (-row.price, -row.cost, row.tenant, row.project)))

    # Deployments.

    def _served(self) -> tuple[Served, ...]:
        # Only accounts of the scope: a tenant's tokens say nothing of what others are charged.
        accounts: dict[str, list[int]] = defaultdict(list)
        for number in self._usage:
            kind, *_, deployment, _, _, _ = self._parts[number]
            if kind == Kind.REQUEST and deployment:
                accounts[deployment].append(number)
        cells: dict[str, Cell] = defaultdict(Cell)
        for account, _, cell in self._cells:
            kind, deployment = self._parts[account][0], self._parts[account][4]
            if kind == Kind.REQUEST and deployment:
                cells[deployment].add(cell)
        idle = self._idle_of_deployments()
        rows = [
            self._one_served(name, accounts[name], cell, idle.get(name, 0))
            for name, cell in cells.items()
        ]
        return tuple(sorted(rows, key=lambda row: (-row.price, -row.cost, row.name)))

    def _one_served(self, name: str, accounts: list[int], cell: Cell, idle: int) -> Served:
        used = Usage()
        for account in accounts:
            if account in self._usage:
                used.add(self._usage[account])
        done = sum(count for outcome, count in used.outcomes.items() if outcome == "done")
        cost, price = NanoUSD(cell.cost), NanoUSD(cell.price)
        weights = {
            money: token_weights(self._db, self._scope, accounts, money) if accounts else (0.0,) * 3
            for money in ("cost", "price")
        }
        return Served(
            name=name,
            requests=used.requests,
            failed=used.requests - done,
            tokens=used.tokens,
            cost=cost,
            price=price,
            idle=NanoUSD(idle),
            unit_cost=unit_cost(cost, used.tokens, weights["cost"]),
            unit_price=unit_cost(price, used.tokens, weights["price"]),
        )

    def _idle_of_deployments(self) -> dict[str, int]:
        """What idled, hour by hour, laid on the deployments that served then, as their cost."""
        if self._scope.tenant is not None:
            return {}
        idle: dict[int, int] = defaultdict(int)
        served: dict[int, dict[TenantName, NanoUSD]] = defaultdict(dict)
        for account, hour, cell in self._cells:
            kind, deployment = self._parts[account][0], TenantName(self._parts[account][4])
            if kind == Kind.IDLE:
                idle[hour] += cell.cost
            elif kind == Kind.REQUEST and deployment:
                costs = served[hour]
                costs[deployment] = NanoUSD(costs.get(deployment, 0) + cell.cost)
        shares: dict[str, int] = defaultdict(int)
        for hour, amount in idle.items():
            parts = share(
                shared=NanoUSD(amount), direct=served[hour], method=Method.PROPORTIONAL
            ).parts
            for name, part in parts.items():
                shares[name] += part
        return shares

    # Budgets, days, hours.

    def _budgets(self) -> tuple[BudgetLine, ...]:
        spent = {
            (budget, starts): whole(total)
            for budget, starts, total in self._db.rows(
                f"SELECT budget, starts, {self._db.exact_sum('spent')} FROM budget_leases"
                " GROUP BY budget, starts"
            )
        }
        lines: list[BudgetLine] = []
        for body, starts, ends in self._db.rows(
            "SELECT body, starts, ends FROM budget_windows JOIN budgets ON budgets.name = budget"
            " WHERE retired = 0 ORDER BY budget, starts"
        ):
            budget = msgspec.json.decode(body, type=Budget)
            assert self._scope.from_us is not None and self._scope.to_us is not None
            past = ends is not None and ends <= self._scope.from_us
            if past or starts >= self._scope.to_us:
                continue
            if self._scope.tenant in (None, budget.tenant):
                lines.append(
                    BudgetLine(
                        budget=budget,
                        starts=Micros(starts),
                        spent=NanoUSD(spent.get((budget.name, starts), 0)),
                    )
                )
        return tuple(lines)

    def _days(self) -> tuple[tuple[int, Mapping[str, NanoUSD]], ...]:
        days: dict[int, dict[str, NanoUSD]] = defaultdict(dict)
        for account, hour, cell in self._cells:
            parts = self._parts[account]
            name, money = parts[0], cell.cost
            if self._scope.tenant is not None:
                name, money = parts[4] or parts[6] or parts[0], cell.price
            day = days[hour // HOURS_PER_DAY]
            day[name] = NanoUSD(day.get(name, 0) + money)
        return tuple(sorted(days.items()))

    def _idle_share(self) -> tuple[float | None, ...]:
        idle, all_cost = [0] * HOURS_PER_DAY, [0] * HOURS_PER_DAY
        for account, hour, cell in self._cells:
            all_cost[hour % HOURS_PER_DAY] += cell.cost
            if self._parts[account][0] == Kind.IDLE:
                idle[hour % HOURS_PER_DAY] += cell.cost
        return tuple(
            part / cost if cost > 0 else None for part, cost in zip(idle, all_cost, strict=True)
        )

    def _findings(
        self,
        kinds: Mapping[str, Cell],
        served: tuple[Served, ...],
        jobs: tuple[Trained, ...],
    ) -> tuple[Finding, ...]:
        def cost(kind: Kind) -> NanoUSD:
            return NanoUSD(kinds[kind].cost if kind in kinds else 0)

        tenants = [
            PayerSums(name=name, cost=NanoUSD(cell.cost), price=NanoUSD(cell.price))
            for name, cell in self._by(1).items()
            if name
        ]
        return tuple(
            findings(
                capacity=NanoUSD(sum(cell.cost for cell in kinds.values())),
                idle=cost(Kind.IDLE),
                lost=cost(Kind.LOST),
                loading=cost(Kind.LOADING),
                overhead=cost(Kind.OVERHEAD),
                tenants=tenants,
                deployments=[(one.name, one.cost, one.idle) for one in served],
                jobs_lost=[(one.name, one.lost) for one in jobs],
            )
        )

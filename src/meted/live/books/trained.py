"""What jobs used, cost and were charged in a period, each for the tenant whose job it is."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from meted.domain.line import Kind
from meted.domain.units import DeviceNanos, NanoUSD
from meted.live.books.cells import Cell
from meted.live.stores.database import Statements, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A job. lost: the cost of its work that came to nothing. steps, cost_per_step: over its whole
    life, not only this period; None before its first step.

    Houses that share the books do not know of each other's jobs: two tenants may each have one of
    the same name. tenant: '' for what was lost of such a job where nothing says whose it was.
    """

    name: str
    tenant: str
    device_nanos: DeviceNanos
    cost: NanoUSD
    price: NanoUSD
    lost: NanoUSD
    steps: int | None
    cost_per_step: NanoUSD | None


_Owned = tuple[str, str]
"""A job's name and its tenant."""


def trained(
    db: Statements,
    accounts: Mapping[int, tuple[str, ...]],
    cells: Iterable[tuple[int, Cell]],
    *,
    house: bool,
) -> tuple[Trained, ...]:
    """All jobs of these cells by account, dearest first. house: what a step cost is told, too."""
    owners = _owners(accounts.values())
    spent: dict[_Owned, Cell] = defaultdict(Cell)
    lost: dict[_Owned, int] = defaultdict(int)
    for account, cell in cells:
        kind, tenant, *_, job, _ = parts = accounts[account]
        if not job:
            continue
        if kind == Kind.LOST:
            lost[job, tenant or owners.get(_work(parts), "")] += cell.cost
        else:
            spent[job, tenant].add(cell)
    steps = _steps(db)
    rows: list[Trained] = []
    for job, tenant in spent.keys() | lost.keys():
        taken, whole_cost = steps.get((job, tenant)) or steps.get((job, "")) or (0, 0)
        rows.append(
            Trained(
                name=job,
                tenant=tenant,
                device_nanos=DeviceNanos(spent[job, tenant].nanos),
                cost=NanoUSD(spent[job, tenant].cost),
                price=NanoUSD(spent[job, tenant].price),
                lost=NanoUSD(lost[job, tenant]),
                steps=taken or None,
                cost_per_step=NanoUSD(whole_cost // taken) if taken and house else None,
            )
        )
    return tuple(sorted(rows, key=lambda row: (-row.price, -row.cost, row.name, row.tenant)))


def _work(parts: tuple[str, ...]) -> tuple[str, ...]:
    """Project, key, deployment, model and job: what work that is lost keeps, unlike its tenant."""
    return parts[2:7]


def _owners(accounts: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Whose the work is, where only one tenant has any like it."""
    tenants: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for parts in accounts:
        if parts[6] and parts[1]:
            tenants[_work(parts)].add(parts[1])
    return {work: min(known) for work, known in tenants.items() if len(known) == 1}


class _Spec(msgspec.Struct):
    tenant: str = ""


class _Job(msgspec.Struct):
    """Of a job as a house remembers it, whose it is."""

    spec: _Spec


def _steps(db: Statements) -> dict[_Owned, tuple[int, int]]:
    """Steps that each job took in its life, and what it cost until its last point."""
    tenants = {
        (house, name): msgspec.json.decode(body, type=_Job).spec.tenant
        for house, name, body in db.rows("SELECT house, name, body FROM jobs")
    }
    steps: dict[_Owned, tuple[int, int]] = {}
    for house, job, step, cost in db.rows(
        "SELECT house, job, max(step), max(cost) FROM losses GROUP BY house, job"
    ):
        owned = (job, tenants.get((house, job), ""))
        taken, paid = steps.get(owned, (0, 0))
        steps[owned] = (taken + int(step or 0), paid + whole(cost))
    return steps

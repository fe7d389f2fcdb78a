"""The cheapest whole number of replicas that carries the traffic and the training."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from meted.domain.market import Offer, Purchase
from meted.policy.fleet.columns import Column
from meted.policy.fleet.program import Program, Solved, Status
from meted.policy.fleet.traffic import Period
from meted.policy.fleet.wish import SpotRule, TrainingWish

ROW_SCALE = 0.1
"""Of rows that hold a load under a whole number: a rounding of the solver's then stays inside its
tolerance, and it need not repair its solution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetProblem:
    """What is solved. dollars: what an hour of one of each offer's devices adds to the bill.
    headroom: by column and period, the part of a replica's capacity that may be used. whole: False
    lets replicas come in fractions that follow demand, the floor of a perfect autoscaler.
    budget: US dollars a month. fixed: replicas by column and period that are given, not searched.
    """

    columns: tuple[Column, ...]
    periods: tuple[Period, ...]
    offers: tuple[Offer, ...]
    dollars: tuple[float, ...]
    headroom: tuple[tuple[float, ...], ...]
    spot: SpotRule = field(default_factory=SpotRule)
    training: tuple[TrainingWish, ...] = ()
    budget: float | None = None
    whole: bool = True
    fixed: tuple[tuple[int, ...], ...] | None = None

    @property
    def hours(self) -> float:
        return sum(one.hours_per_month for one in self.periods)

    def loads(self, column: int, bucket: int, period: int) -> tuple[float, ...]:
        """Replicas that a class of requests fills, were it served by this column alone; by facet.
        Empty where the column does not serve it."""
        one = self.columns[column]
        room = self.headroom[column][period]
        wanted = self.periods[period].buckets[bucket].arrivals_per_second
        rates = [facet[bucket] for facet in one.facets or (one.rates,)]
        if not one.rates[bucket]:
            return ()
        return tuple(wanted / (rate * room) if rate else 0.0 for rate in rates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """replicas: by column and period. shares: by column, period and class. devices: by offer and
    period, whole nodes. lent, rented: device-hours by (training, offer). Dollars are a month's."""

    status: Status
    dollars: float
    bound: float
    gap: float
    replicas: tuple[tuple[float, ...], ...]
    shares: tuple[tuple[tuple[float, ...], ...], ...]
    devices: tuple[tuple[float, ...], ...]
    lent: Mapping[tuple[int, int], float]
    rented: Mapping[tuple[int, int], float]

    @property
    def feasible(self) -> bool:
        return self.status is not Status.INFEASIBLE


@dataclass(slots=True)
class _Names:
    """Numbers of the variables."""

    replicas: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])
    shares: dict[tuple[int, int, int], int] = field(default_factory=dict[tuple[int, int, int], int])
    nodes: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])
    lasting: dict[int, int] = field(default_factory=dict[int, int])
    lent: dict[tuple[int, int, int], int] = field(default_factory=dict[tuple[int, int, int], int])
    rented: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])


def solve_fleet(problem: FleetProblem, *, relative_gap: float = 1e-5) -> Solution:
    """The cheapest fleet by the capacity model.

    Minimises dollars a month over replicas n (whole), nodes m (whole), shares x (continuous) and
    training hours: every class is served whole; a column's load is at most its replicas less the
    spot spare; replicas stand on nodes that are paid for; owned devices cost electricity while
    used; reserved nodes are paid for in all periods; a training job takes the hours that serving
    leaves over, or rents its own before its deadline. relative_gap: within which the solver may
    stop.
    """
    program, names = Program(), _Names()
    _serve(problem, program, names)
    _house(problem, program, names)
    _train(problem, program, names)
    if problem.budget is not None:
        program.limit_cost(problem.budget)
    return _read(problem, program.solve(relative_gap=relative_gap), names)


def _serve(problem: FleetProblem, program: Program, names: _Names) -> None:
    for period, traffic in enumerate(problem.periods):
        carried: dict[int, dict[int, float]] = {}
        for number, column in enumerate(problem.columns):
            count = names.replicas[number, period] = program.variable(whole=problem.whole)
            if problem.fixed is not None:
                given = float(problem.fixed[number][period])
                program.row({count: 1.0}, low=given, high=given)
            facets: list[dict[int, float]] = [{} for _ in column.facets or (column.rates,)]
            for bucket in range(len(traffic.buckets)):
                loads = problem.loads(number, bucket, period)
                if not loads:
                    continue
                share = names.shares[number, period, bucket] = program.variable(most=1.0)
                carried.setdefault(bucket, {})[share] = 1.0
                for facet, load in zip(facets, loads, strict=True):
                    facet[share] = load
            less = {count: -1.0}
            is_spot = problem.offers[column.offer].purchase is Purchase.SPOT
            if is_spot and problem.spot.spare and problem.whole:
                used = program.variable(most=1.0, whole=True)
                less[used] = float(problem.spot.spare)
                for share in facets[0]:
                    program.row({share: 1.0, used: -1.0}, high=0.0)
            for facet in facets:
                terms = facet | less
                program.row({one: part * ROW_SCALE for one, part in terms.items()}, high=0.0)
        for bucket in range(len(traffic.buckets)):
            program.row(carried.get(bucket, {}), low=1.0, high=1.0)
        _hold_spot(problem, program, names, period)


def _hold_spot(problem: FleetProblem, program: Program, names: _Names, period: int) -> None:
    """Spot devices are at most their allowed part of a period's devices."""
    if problem.spot.most_share < 1.0:
        terms: dict[int, float] = {}
        for number, column in enumerate(problem.columns):
            spot = problem.offers[column.offer].purchase is Purchase.SPOT
            part = float(spot) - problem.spot.most_share
            terms[names.replicas[number, period]] = part * column.devices
        program.row(terms, high=0.0)


def _used(problem: FleetProblem, names: _Names, offer: int, period: int) -> dict[int, float]:
    """Devices of an offer under replicas, as terms of a row."""
    return {
        names.replicas[number, period]: float(column.devices)
        for number, column in enumerate(problem.columns)
        if column.offer == offer
    }


def _house(problem: FleetProblem, program: Program, names: _Names) -> None:
    """Replicas stand on nodes, and nodes are paid for."""
    for place, offer in enumerate(problem.offers):
        pack = float(offer.devices) if problem.whole else 1.0
        owned = offer.purchase is Purchase.OWNED
        lasting = owned or (offer.purchase is Purchase.RESERVED and problem.whole)
        most = float("inf") if offer.available is None else offer.available // pack
        if lasting:
            cost = 0.0 if owned else problem.dollars[place] * pack * problem.hours
            names.lasting[place] = program.variable(cost, most=most, whole=pack > 1)
        for period, traffic in enumerate(problem.periods):
            hourly = problem.dollars[place] * traffic.hours_per_month
            used = _used(problem, names, place, period)
            if owned:
                for variable, devices in used.items():
                    program.charge(variable, hourly * devices)
            cost = 0.0 if lasting else hourly * pack
            node = names.nodes[place, period] = program.variable(cost, most=most, whole=pack > 1)
            program.row(used | {node: -pack}, high=0.0)
            if lasting:
                program.row({node: 1.0, names.lasting[place]: -1.0}, high=0.0)


def _train(problem: FleetProblem, program: Program, names: _Names) -> None:
    """Each job gets its device-hours: those that serving leaves over, or rented ones."""
    offers = problem.offers
    for number, job in enumerate(problem.training):
        done: dict[int, float] = {}
        for place, offer in enumerate(offers):
            needed = job.device_hours.get(offer.kind)
            if needed is None:
                continue
            owned = offer.purchase is Purchase.OWNED
            for period in range(len(problem.periods)):
                lent = program.variable(problem.dollars[place] if owned else 0.0)
                names.lent[number, place, period] = lent
                done[lent] = 1.0 / needed
            if offer.purchase in (Purchase.ON_DEMAND, Purchase.SPOT):
                rented = program.variable(problem.dollars[place])
                names.rented[number, place] = rented
                done[rented] = 1.0 / needed
        program.row(done, low=1.0, high=1.0)
    for deadline in sorted({job.deadline_hours for job in problem.training}):
        part = min(1.0, deadline / problem.hours)
        due = [n for n, job in enumerate(problem.training) if job.deadline_hours <= deadline]
        for place, offer in enumerate(offers):
            rented = {names.rented[n, place]: 1.0 / deadline for n in due
                      if (n, place) in names.rented}  # fmt: skip
            for period, traffic in enumerate(problem.periods):
                node, pack = names.nodes[place, period], float(offer.devices)
                if rented and offer.available is not None:
                    program.row(rented | {node: pack}, high=float(offer.available))
                hours = traffic.hours_per_month * part
                lent = {names.lent[n, place, period]: 1.0 / hours for n in due
                        if (n, place, period) in names.lent}  # fmt: skip
                if lent:
                    free = names.lasting.get(place, node)
                    used = _used(problem, names, place, period)
                    program.row(lent | used | {free: -pack}, high=0.0)


def _read(problem: FleetProblem, solved: Solved, names: _Names) -> Solution:
    """The solution by what its numbers mean; whole numbers freed of the solver's tolerance."""
    empty = solved.status is Status.INFEASIBLE

    def value(number: int, whole: bool) -> float:
        if empty:
            return 0.0
        return float(round(solved.values[number])) if whole else max(0.0, solved.values[number])

    periods = range(len(problem.periods))
    packs = [float(offer.devices) if problem.whole else 1.0 for offer in problem.offers]
    buckets = len(problem.periods[0].buckets)

    def share(column: int, period: int, bucket: int) -> float:
        number = names.shares.get((column, period, bucket))
        return 0.0 if number is None else value(number, whole=False)

    def devices(offer: int, period: int) -> float:
        if problem.offers[offer].purchase is Purchase.OWNED:
            used = _used(problem, names, offer, period)
            return sum(value(one, problem.whole) * each for one, each in used.items())
        number = names.lasting.get(offer, names.nodes[offer, period])
        return value(number, problem.whole) * packs[offer]

    lent: dict[tuple[int, int], float] = {}
    for (job, offer, _), number in names.lent.items():
        lent[job, offer] = lent.get((job, offer), 0.0) + value(number, whole=False)
    columns = range(len(problem.columns))
    return Solution(
        status=solved.status,
        dollars=solved.cost,
        bound=solved.bound,
        gap=0.0 if empty else solved.gap,
        replicas=tuple(
            tuple(value(names.replicas[number, period], problem.whole) for period in periods)
            for number in columns
        ),
        shares=tuple(
            tuple(
                tuple(share(number, period, bucket) for bucket in range(buckets))
                for period in periods
            )
            for number in columns
        ),
        devices=tuple(
            tuple(devices(place, period) for period in periods)
            for place in range(len(problem.offers))
        ),
        lent=lent,
        rented={key: value(number, whole=False) for key, number in names.rented.items()},
    )

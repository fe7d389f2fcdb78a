"""Max-min fairness over several kinds: the poorest job gets as much as can be."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array, hstack

from meted.domain.allocation import Plan, Snapshot
from meted.policy.training.groups import Groups, group_jobs
from meted.policy.training.program import Program, rows_of
from meted.policy.training.rounds import Rotation, rotate
from meted.policy.training.ways import Floats, Ways


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxMinPolicy:
    """Every job as far as the poorest allows, each measured by its own equal part of the pool.

    by_price: 1 measures the pool by what its devices cost, so that twenty old devices are not
    twenty new ones; 0 counts devices. keep_seconds: shares stand for at least so long.
    """

    by_price: float = 0.0
    keep_seconds: float = 0.0
    round_seconds: float = 360.0

    def decide(self, snapshot: Snapshot) -> Plan:
        def wanted(ways: Ways) -> Floats:
            return max_min_shares(
                ways, by_price=bool(self.by_price), seconds=snapshot.solver_seconds
            )

        return rotate(
            snapshot,
            Rotation(round_seconds=self.round_seconds, keep_seconds=self.keep_seconds),
            wanted,
            why=_poorest,
        )


def _poorest(ways: Ways, shares: Floats) -> str:
    got = ways.sum_by_job(shares * ways.pace / ways.best_by_job(ways.pace)[ways.job])
    known = got[np.isin(np.arange(len(got)), ways.job)]
    least = float(known.min()) if len(known) else 0.0
    return f"the poorest of {len(ways.jobs)} jobs gets {least:.0%} of its best pace"


def fair_paces(ways: Ways, *, by_price: bool = False) -> Floats:
    """Steps/s of each job on its equal part of the pool (Narayanan et al. 2020, section 4.1).

    The part is a mix of kinds by their numbers, or by what they cost: never more than one whole
    device set. Of several widths on a kind the fastest counts.
    """
    weight = ways.capacity.copy()
    if by_price:
        prices = np.zeros(len(ways.kinds))
        np.maximum.at(prices, ways.kind, ways.dollars / ways.width)
        weight = weight * prices if (weight * prices).sum() > 0 else weight
    mix = weight / max(1e-12, weight.sum())
    best = np.zeros((len(ways.jobs), len(ways.kinds)))
    np.maximum.at(best, (ways.job, ways.kind), ways.pace)
    return best @ mix


def max_min_shares(ways: Ways, *, by_price: bool = False, seconds: float = 1.0) -> Floats:
    """Share of the time by way: the largest least of (pace / fair pace) * devices / weight."""
    groups = group_jobs(ways, lambda job: job.weight)
    some = groups.ways
    fair = np.maximum(fair_paces(some, by_price=by_price), 1e-12)
    worth = some.pace * some.width / (fair * some.weights)[some.job]
    return groups.spread(largest_least(groups, worth, seconds))


def largest_least(groups: Groups, worth: Floats, seconds: float) -> Floats:
    """Shares of the ways of groups that make the least sum of worth * share as large as can be.

    At the time limit: equal parts of what the pool has, which fit as well.
    """
    ways = groups.ways
    count, jobs = len(ways.job), len(ways.jobs)
    program = base_program(groups, extra=1)
    program.cost[count] = -1.0
    poorest = csr_array(-np.ones((jobs, 1)))
    rows = hstack([rows_of(ways.job, worth, height=jobs, width=count), poorest])
    able = np.unique(ways.job)
    program.at_least(csr_array(rows)[able], np.zeros(len(able)))
    found = program.middle(seconds)
    return equal_parts(groups) if found is None else found[:count]


def base_program(groups: Groups, *, extra: int = 0) -> Program:
    """Shares between 0 and 1, no job more than all the time, no kind more than it has."""
    ways = groups.ways
    count, width = len(ways.job), len(ways.job) + extra
    program = Program(
        cost=np.zeros(width),
        most=np.concatenate([np.ones(count), np.full(extra, np.inf)]),
    )
    program.at_most(
        rows_of(ways.job, np.ones(count), height=len(ways.jobs), width=width),
        np.ones(len(ways.jobs)),
    )
    program.at_most(
        rows_of(ways.kind, groups.devices, height=len(ways.kinds), width=width), ways.capacity
    )
    return program


def equal_parts(groups: Groups) -> Floats:
    """Every job the same share of every way it has, as much as fits."""
    ways = groups.ways
    number = np.maximum(1.0, ways.sum_by_job(np.ones(len(ways.job))))
    shares = 1.0 / number[ways.job]
    used = ways.sum_by_kind(shares * groups.devices)
    fits = np.minimum(1.0, ways.capacity / np.maximum(used, 1e-12))
    return shares * fits[ways.kind]

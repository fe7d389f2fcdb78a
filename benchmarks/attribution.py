"""Are the books right: what a tenant is charged, against what vanishes when it is left out.

Four tenants share one real replica on pinned cores. The same requests are replayed with all four
and without each in turn, again and again, interleaved. What the replica's CPU clock no longer
advances without a tenant is what the tenant caused; the books and three simpler methods are held
against it, from the same steps.

    python benchmarks/attribution.py
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from attribution_methods import SIMPLE, Charge, books, no_charge
from attribution_replay import Replica, Run, read_runs, save
from attribution_trace import TENANTS, Arrival, make_trace
from meted.testing.house import machine, shared_checkpoints

MODEL = "smollm2-135m"
PIECES = 8
"""A trace is replayed piece by piece, all configurations of a piece one after the other, so that
a machine that becomes slower does so for all of them."""
CONFIGURATIONS = ("", *TENANTS, "")
"""Who is left out. Nobody, twice: their difference is the noise."""


def take_round(trace: Sequence[Arrival], seconds: float, number: int, core: int) -> list[Run]:
    """Every configuration of every piece once, on a fresh replica."""
    replica = Replica(folder=shared_checkpoints() / MODEL, cores=[core], max_batch=16)
    replica.replay(trace[:4], salt="00000", round=number, piece=0)
    runs: list[Run] = []
    for piece in range(PIECES):
        part = [one for one in trace if min(PIECES - 1, int(one.at_s / seconds * PIECES)) == piece]
        for turn in range(len(CONFIGURATIONS)):
            forwards = (number + piece) % 2 == 0
            index = (number + piece + (turn if forwards else -turn)) % len(CONFIGURATIONS)
            without = CONFIGURATIONS[index]
            if not part or (without and all(one.tenant != without for one in part)):
                continue
            runs.append(
                replica.replay(
                    part,
                    salt=f"{number * 10 + index + 10:05d}",
                    round=number,
                    piece=piece,
                    without=without,
                )
            )
    replica.stop()
    return runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One tenant, in device seconds: what vanished in each round, and what each method charged.

    noise: what vanished in each round when nobody was left out.
    """

    tenant: str
    vanished: float
    vanished_by_round: list[float]
    noise_by_round: list[float]
    charged: dict[str, float]


def compare(rounds: Sequence[Sequence[Run]]) -> tuple[float, list[Row]]:
    """Device seconds of all four tenants together, and each tenant's row; medians over rounds.

    A round's seconds are divided by what its full runs of the same piece took, and multiplied by
    the median of that over all rounds: a machine that is slower in one round says nothing about a
    tenant. The first and the second full run of a round count half each.
    """
    took = [_full_seconds(runs) for runs in rounds]
    usual = {
        piece: statistics.median(statistics.fmean(one[piece]) for one in took) for piece in took[0]
    }
    charged = [_charges(runs, full, usual) for runs, full in zip(rounds, took, strict=True)]
    rows: list[Row] = []
    for tenant in TENANTS:
        vanished: list[float] = []
        noise: list[float] = []
        for runs, full in zip(rounds, took, strict=True):
            left_out = [run for run in runs if run.without == tenant]
            scales = [usual[run.piece] / statistics.fmean(full[run.piece]) for run in left_out]
            pairs = list(zip(left_out, scales, strict=True))
            vanished.append(
                sum(usual[run.piece] - scale * run.device_ns / 1e9 for run, scale in pairs)
            )
            noise.append(
                sum(scale * (full[run.piece][0] - full[run.piece][1]) for run, scale in pairs)
            )
        rows.append(
            Row(
                tenant=tenant,
                vanished=statistics.median(vanished),
                vanished_by_round=vanished,
                noise_by_round=noise,
                charged={
                    name: statistics.median(one[name][tenant] for one in charged)
                    for name in charged[0]
                },
            )
        )
    return sum(usual.values()), rows


def _full_seconds(runs: Sequence[Run]) -> dict[int, list[float]]:
    """Device seconds of a round's full runs, by piece: nobody left out, twice."""
    seconds: dict[int, list[float]] = {}
    for run in runs:
        if run.steps and not run.without:
            seconds.setdefault(run.piece, []).append(run.device_ns / 1e9)
    return seconds


def _charges(
    runs: Sequence[Run], full: Mapping[int, Sequence[float]], usual: Mapping[int, float]
) -> dict[str, Charge]:
    """What each method charges for one pass over the trace, in a round's full runs."""
    kept = [index for index, run in enumerate(runs) if run.steps and not run.without]
    booked = books(runs)
    charges: dict[str, Charge] = {}
    for name in booked[0]:
        charges[name] = no_charge()
        for index in kept:
            piece = runs[index].piece
            scale = usual[piece] / sum(full[piece])
            for tenant, seconds in booked[index][name].items():
                charges[name][tenant] += scale * seconds
    total = sum(usual.values())
    for name, method in SIMPLE.items():
        whole = method([runs[index] for index in kept])
        scale = total / sum(whole.values())
        charges[name] = {tenant: scale * seconds for tenant, seconds in whole.items()}
    return charges


def summarise(seconds: float, rounds: Sequence[Sequence[Run]]) -> dict[str, Any]:
    """One load: its rows, each method's errors, what tenants cause together, the noise floor.

    error: charge over vanished time, less 1. spread error: the same, with vanished times raised in
    proportion until they sum to all of the device time, because a method that charges everything
    must put what several tenants caused together somewhere. noise floor: the error that a perfect
    method would show here, from how the vanished times of the rounds scatter and from the
    difference of two equal runs.
    """
    total, rows = compare(rounds)
    vanished = sum(row.vanished for row in rows)
    methods = {
        name: {
            "errors": [row.charged[name] / row.vanished - 1 for row in rows],
            "spread_errors": [
                row.charged[name] / (row.vanished * total / vanished) - 1 for row in rows
            ],
        }
        for name in rows[0].charged
        if name != "direct"
    }
    direct = [row.charged["direct"] / row.vanished - 1 for row in rows]
    return {
        "seconds": seconds,
        "rounds": len(rounds),
        "busy": total / seconds,
        "device_seconds": total,
        "joint_share": 1 - vanished / total,
        "rows": [asdict(row) for row in rows],
        "methods": methods,
        "direct_errors": direct,
        "median_error": {name: median_size(each["errors"]) for name, each in methods.items()},
        "median_spread_error": {
            name: median_size(each["spread_errors"]) for name, each in methods.items()
        },
        "median_direct_error": median_size(direct),
        "noise_one_round": median_size(
            [noise / row.vanished for row in rows for noise in row.noise_by_round]
        ),
        "noise_floor": median_size(
            [
                statistics.stdev(row.vanished_by_round) / len(rounds) ** 0.5 / row.vanished
                for row in rows
            ]
        ),
    }


def median_size(errors: Iterable[float]) -> float:
    """Median of the absolute values."""
    return statistics.median(abs(error) for error in errors)


def show(one: dict[str, Any]) -> None:
    """One load as tables."""
    print(
        f"\n{one['device_seconds']:.1f} device seconds in {one['seconds']:.0f} s of arrivals "
        f"({100 * one['busy']:.0f} % busy), {one['rounds']} rounds; "
        f"{100 * one['joint_share']:.1f} % vanish with no single tenant"
    )
    names = list(one["methods"])
    print(f"{'tenant':14}{'vanished s (min-max)':>24}" + "".join(f"{n:>22}" for n in names))
    for index, row in enumerate(one["rows"]):
        low, high = min(row["vanished_by_round"]), max(row["vanished_by_round"])
        cells = "".join(
            f"{row['charged'][name]:13.2f} ({100 * one['methods'][name]['errors'][index]:+5.1f} %)"
            for name in names
        )
        print(f"{row['tenant']:14}{row['vanished']:10.2f} ({low:5.2f}-{high:5.2f}){cells}")
    for title, key in (
        ("median |error|", "median_error"),
        ("  joint part spread", "median_spread_error"),
    ):
        print(f"{title:38}" + "".join(f"{100 * one[key][name]:20.1f} %" for name in names))
    print(
        f"books without the joint part: {100 * one['median_direct_error']:.1f} %; noise of one "
        f"round {100 * one['noise_one_round']:.1f} %, of all {100 * one['noise_floor']:.1f} %"
    )


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All loads, round by round; rounds that were kept are not run again."""
    loads: list[dict[str, Any]] = []
    source, facts = "", machine()
    os.sched_setaffinity(0, arguments.driver_core)
    for seconds in arguments.seconds:
        trace, source = make_trace(seconds=seconds, scale=arguments.scale)
        rounds: list[list[Run]] = []
        for number in range(arguments.rounds):
            kept = arguments.keep and arguments.keep / f"{seconds:g}s-{number}.json"
            if kept and kept.exists():
                rounds.append(read_runs(kept))
                continue
            rounds.append(take_round(trace, seconds, number, arguments.core))
            if kept:
                arguments.keep.mkdir(parents=True, exist_ok=True)
                save(rounds[-1], kept)
        loads.append(summarise(seconds, rounds))
    return {"machine": facts, "arrivals": source, "scale": arguments.scale, "loads": loads}


def main() -> None:
    """Parse, measure, show."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--seconds",
        type=float,
        nargs="+",
        default=[75.0],
        help="spans that the same requests are spread over: shorter is busier",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="how many requests")
    parser.add_argument("--core", type=int, default=1, help="the replica's core")
    parser.add_argument("--driver-core", type=int, nargs="+", default=[0])
    parser.add_argument("--keep", type=Path, help="a folder for every metered step, read if there")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.rounds < 2:
        parser.error(f"--rounds is {arguments.rounds}, expected at least 2 to tell noise by")
    result = measure(arguments)
    if arguments.json:
        json.dump(result, sys.stdout, indent=1)
        print()
        return
    print(f"machine: {result['machine']}; arrivals: {result['arrivals']}")
    for one in result["loads"]:
        show(one)


if __name__ == "__main__":
    main()

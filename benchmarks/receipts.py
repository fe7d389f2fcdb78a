"""Receipts of live rollouts held against the truth: which intervals hold it, and as a table.

A row is what `live_switchbacks.py` keeps of one rollout.
"""

import math
from dataclasses import dataclass
from typing import Any

from meted.domain.units import NanoUSD, Tokens
from meted.optimise.switchback import LEAST_PAIRS, Arm, Block, Pair, paired, saving
from meted.testing.house import machine


def pairs_of(row: dict[str, Any]) -> tuple[Pair, ...]:
    blocks = [
        Block(
            **{
                **block,
                "arm": Arm(block["arm"]),
                "cost": NanoUSD(block["cost"]),
                "tokens": Tokens(block["tokens"]),
            }
        )
        for block in row["blocks"]
    ]
    return paired(blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """truth: None where nothing tells it. half: how uncertain it is, at 95 %."""

    truth: float | None
    half: float = 0.0
    covered: bool | None = None


def judge(row: dict[str, Any], rows: list[dict[str, Any]], truths: dict[str, float]) -> Judged:
    """Whether the receipt's interval holds the truth."""
    if row["noop"]:
        truth, half = 0.0, 0.0
    elif row["name"] in truths:
        truth, half = truths[row["name"]], 0.0
    else:
        others = [one for one in rows if one["name"] == row["name"] and one is not row]
        pairs = [pair for one in others for pair in pairs_of(one)]
        if len(pairs) < LEAST_PAIRS:
            return Judged(truth=None)
        found = saving(pairs)
        truth, half = found.expected, (found.high - found.low) / 2
    measured = row["receipt"]["measured"]
    if measured is None:
        return Judged(truth=truth, half=half)
    low, middle, high = (measured[one] for one in ("low", "expected", "high"))
    covered = (
        middle - math.hypot(middle - low, half) <= truth <= middle + math.hypot(high - middle, half)
    )
    return Judged(truth=truth, half=half, covered=covered)


def falsely_saves(row: dict[str, Any]) -> bool:
    """A no-op whose receipt shows a saving, whether or not it was promoted."""
    measured = row["receipt"]["measured"]
    return row["noop"] and measured is not None and measured["low"] > 0


def show(rows: list[dict[str, Any]], truths: dict[str, float]) -> None:
    """A table of receipts, then what they come to."""
    print(f"\n{machine()}")
    head = ("rollout", "kind", "predicted", "truth", "measured", "95 % interval", "status", "pairs")
    print("| " + " | ".join((*head, "seconds", "requests", "others", "covered")) + " |")
    judged = [judge(row, rows, truths) for row in rows]
    for row, one in zip(rows, judged, strict=True):
        receipt, words = row["receipt"], {True: "yes", False: "NO", None: "-"}
        measured = receipt["measured"]
        cells = (
            row["key"],
            "no-op" if row["noop"] else "lever",
            f"{receipt['predicted']['expected']:.1%}",
            "-" if one.truth is None else f"{one.truth:.1%}" + ("~" if one.half else ""),
            "-" if measured is None else f"{measured['expected']:.1%}",
            "-" if measured is None else f"{measured['low']:.1%} to {measured['high']:.1%}",
            receipt["status"],
            str(len(row["blocks"]) // 2),
            f"{row['seconds']:.0f}",
            str(row["requests"]),
            f"{row['others']:.1%}",
            words[one.covered],
        )
        print("| " + " | ".join(cells) + " |")
    summary(rows, judged)


def summary(rows: list[dict[str, Any]], judged: list[Judged]) -> None:
    counted = [one.covered for one in judged if one.covered is not None]
    noops = [row for row in rows if row["noop"]]
    false = [row for row in noops if falsely_saves(row)]
    compared = sum(row["receipt"][arm]["cost"] for row in rows for arm in ("first", "second"))
    print(f"{len(rows)} rollouts, {rows[0]['plan']}")
    print(f"coverage: {sum(counted)} of {len(counted)} intervals hold the truth")
    print(f"false savings: {len(false)} of {len(noops)} no-ops")
    total = sum(row["nano_usd"] for row in rows)
    print(f"${compared / 1e9:.6f} in blocks that were compared, ${total / 1e9:.6f} in the books")
    others = [row["others"] for row in rows]
    print(
        f"others used {sum(others) / len(others):.1%} of the cores, {max(others):.1%} at most; "
        f"{sum(row['requests'] for row in rows)} requests answered, "
        f"{sum(sum(row['errors'].values()) for row in rows)} errors"
    )
    for row in rows:
        print(f"{row['key']}: {row['receipt']['reason']}", *row["errors"], sep="\n    ")

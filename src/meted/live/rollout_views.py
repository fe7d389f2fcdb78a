"""Rollouts and receipts as the doors show them: JSON-ready."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from meted.domain.arms import public_name
from meted.domain.deployment import Deployment
from meted.domain.units import Micros, Tokens
from meted.live.rollout_record import RolloutRecord, configuration
from meted.live.rollout_turn import Turn
from meted.optimise.receipt import Receipt, ReceiptId, Saved, saved, total
from meted.optimise.rollout import Rollout
from meted.optimise.switchback import LEAST_PAIRS, paired, saving
from meted.predict.estimate import Estimate


def rollout_view(
    record: RolloutRecord, receipt: Receipt, turn: Turn | None, now: Micros
) -> dict[str, Any]:
    """turn: None once the rollout has ended. now: as the turn's clock has it."""
    state = record.state
    return {
        "id": record.id,
        "name": record.name,
        "phase": str(state.phase),
        "status": str(receipt.status),
        "reason": receipt.reason,
        "lever": str(receipt.lever),
        "first": _arm_view(record.first),
        "second": _arm_view(record.second),
        "serving": (record.base if turn is None else turn.serves(record)).name,
        "predicted": estimate_view(receipt.predicted),
        "measured": estimate_view(state.measured),
        "so_far": estimate_view(so_far(state)),
        "quality": None if state.quality is None else asdict(state.quality),
        "blocks_done": len(state.blocks),
        "blocks_most": 2 * state.plan.looks.at[-1],
        "looks": list(state.plan.looks.at),
        "void": state.void,
        "quiet": state.quiet,
        "waiting": state.waiting,
        "turn": None if turn is None else _turn_view(turn, now),
        "blocks": [asdict(block) for block in state.blocks],
        "began": record.began / 1e6,
        "ended": None if receipt.ended is None else receipt.ended / 1e6,
    }


def so_far(state: Rollout) -> Estimate | None:
    """The saving by the pairs there are, with an interval that is right for one look only: to be
    seen, never to decide by."""
    pairs = paired(state.blocks)
    return saving(pairs) if len(pairs) >= LEAST_PAIRS else None


def receipt_view(receipt: Receipt) -> dict[str, Any]:
    return {
        "id": receipt.id,
        "lever": str(receipt.lever),
        "deployment": receipt.deployment,
        "name": public_name(receipt.deployment),
        "from": receipt.before,
        "to": receipt.after,
        "predicted": estimate_view(receipt.predicted),
        "measured": estimate_view(receipt.measured),
        "status": str(receipt.status),
        "reason": receipt.reason,
        "began": receipt.began / 1e6,
        "ended": None if receipt.ended is None else receipt.ended / 1e6,
        "first": asdict(receipt.first),
        "second": asdict(receipt.second),
    }


def savings_view(
    receipts: Mapping[ReceiptId, Receipt], tokens: Mapping[ReceiptId, Tokens]
) -> dict[str, Any]:
    """tokens: served since promotion, by verified receipt. Only verified ones are summed."""
    savings = {one.id: saved(one, tokens.get(one.id, Tokens(0))) for one in receipts.values()}
    return {
        "receipts": [
            {
                **receipt_view(one),
                "tokens_since": tokens.get(one.id, 0),
                "saved_nano_usd": saved_view(savings[one.id]),
            }
            for one in receipts.values()
        ],
        "total_nano_usd": saved_view(total(savings.values())),
    }


def saved_view(amount: Saved) -> dict[str, int]:
    return {"low": amount.low, "expected": amount.expected, "high": amount.high}


def estimate_view(estimate: Estimate | None) -> dict[str, float] | None:
    return None if estimate is None else asdict(estimate)


def _arm_view(arm: Deployment) -> dict[str, Any]:
    return {
        "deployment": arm.name,
        "checkpoint": arm.checkpoint,
        "configuration": str(configuration(arm)),
    }


def _turn_view(turn: Turn, now: Micros) -> dict[str, Any]:
    return {
        "number": turn.route.turn,
        "arm": str(turn.route.arm),
        "seconds": turn.route.seconds,
        "seconds_left": turn.seconds_left(now),
        "waits_for_replicas": turn.started is None,
    }

"""Levers of a fake house: rollouts that never move, receipts and fronts as they were put in."""

from dataclasses import asdict
from typing import Any

import msgspec

from meted.live.doors import HouseError
from meted.live.lever_doors import Front, FrontPoint, RolloutWish

MOMENT = 1_760_000_000.0


class FakeLevers:
    """`LeverDoors` in memory. There is a rollout of `words` already."""

    def __init__(self) -> None:
        super().__init__()
        self.wishes: list[RolloutWish] = []
        self.rollout_bodies: dict[str, dict[str, Any]] = {"words": _body("words", "comparing")}
        self.receipt_bodies: list[dict[str, Any]] = []
        self.savings_body: dict[str, Any] = {
            "receipts": [],
            "total_nano_usd": {"low": 0, "expected": 0, "high": 0},
        }
        self.front_bodies: dict[str, dict[str, Any]] = {}

    async def start_rollout(self, wish: RolloutWish) -> dict[str, Any]:
        self.wishes.append(wish)
        self.rollout_bodies[wish.name] = _body(wish.name, "canary")
        return self.rollout_bodies[wish.name]

    def rollouts(self) -> list[dict[str, Any]]:
        return list(self.rollout_bodies.values())

    def rollout(self, name: str) -> dict[str, Any]:
        if name not in self.rollout_bodies:
            raise HouseError(
                f"there is no rollout of {name!r}",
                status=404,
                type="invalid_request_error",
                param="name",
                code="rollout_not_found",
            )
        return self.rollout_bodies[name]

    def stop_rollout(self, name: str) -> dict[str, Any]:
        return self.rollout(name) | {"phase": "returned"}

    def receipts(self) -> list[dict[str, Any]]:
        return self.receipt_bodies

    async def savings(self) -> dict[str, Any]:
        return self.savings_body

    async def fronts(self) -> list[dict[str, Any]]:
        return list(self.front_bodies.values())

    async def save_front(self, deployment: str, points: tuple[FrontPoint, ...]) -> dict[str, Any]:
        front = Front(deployment=deployment, at=MOMENT, points=points)
        self.front_bodies[deployment] = msgspec.to_builtins(asdict(front))
        return self.front_bodies[deployment]


def _body(name: str, phase: str) -> dict[str, Any]:
    """A rollout as `rollout_view` shows it, after six pairs of blocks."""
    saving = {"low": 0.031, "expected": 0.118, "high": 0.197, "level": 0.95}
    return {
        "id": f"{name}~2",
        "name": name,
        "phase": phase,
        "status": "measuring",
        "reason": "compared in 24 blocks at most",
        "lever": "variant",
        "first": {"deployment": name, "checkpoint": "words-1m", "configuration": "words-1m"},
        "second": {
            "deployment": f"{name}~2",
            "checkpoint": "words-int8",
            "configuration": "words-int8, batch 8",
        },
        "serving": f"{name}~2",
        "predicted": {"low": 0.05, "expected": 0.1, "high": 0.2, "level": 0.9},
        "measured": None,
        "so_far": saving,
        "quality": {"passed": True, "reason": "loss increase 0.004 nats per token"},
        "blocks_done": 12,
        "blocks_most": 24,
        "looks": [6, 9, 12],
        "void": 1,
        "quiet": 0,
        "waiting": None,
        "turn": {
            "number": 15,
            "arm": "second",
            "seconds": 120.0,
            "seconds_left": 75.5,
            "waits_for_replicas": False,
        },
        "blocks": [],
        "began": MOMENT,
        "ended": None,
    }

"""A house with a busy quarter of an hour behind it, for the page to show."""

import math
from typing import Any

import pytest

from meted.testing.fake_doors import FakeDoors

STARTED = 1_760_000_000
KINDS = ("request", "training", "loading", "lost", "overhead", "idle")


def point(second: int) -> dict[str, Any]:
    """One second: a wave of requests, training on what it leaves over, a crash at 200."""
    wave = max(0.0, 0.5 + 0.45 * math.sin(second / 25) + 0.12 * math.sin(second * 1.7))
    serving = min(1.9, 1.5 * wave)
    loading = 1.0 if second < 6 else 0.0
    lost = 0.4 if 200 <= second < 206 else 0.0
    overhead = 0.05
    left = 2.0 - serving - overhead - loading - lost
    training = 0.0 if second < 20 else max(0.0, left * 0.9)
    quiet = wave < 0.1
    return {
        "at": STARTED + second,
        "requests_per_second": round(4 * wave, 1),
        "ttft_ms_p50": None if quiet else 80 + 60 * wave,
        "ttft_ms_p95": None if quiet else 130 + 160 * wave,
        "tpot_ms_p50": None if quiet else 22 + 14 * wave,
        "tpot_ms_p95": None if quiet else 30 + 28 * wave,
        "cores": {
            "request": serving,
            "training": training,
            "loading": loading,
            "lost": lost,
            "overhead": overhead,
            "idle": max(0.0, left - training),
        },
    }


def losses(steps: int) -> list[dict[str, Any]]:
    """A loss curve with a held-out measurement each twenty steps."""
    rows: list[dict[str, Any]] = []
    for step in range(steps + 1):
        loss = 2.35 + 0.9 * math.exp(-step / 40) + 0.05 * math.sin(step * 2.1)
        held_out = 2.45 + 0.75 * math.exp(-step / 45) if step % 20 == 0 else None
        rows.append(
            {
                "step": step,
                "tokens": step * 2048,
                "loss": loss if step else None,
                "held_out": held_out,
                "when": "during" if step else "before",
                "device_nanos": step * 9_000_000_000,
                "cost": step * 50_000,
            }
        )
    return rows


def job(**changes: Any) -> dict[str, Any]:
    return {
        "name": "debian-guide",
        "kind": "training",
        "status": "running",
        "base": "smollm2-135m",
        "what": "smollm2-135m by lora with adamw",
        "method": "lora",
        "optimizer": "adamw",
        "tenant": "acme",
        "step": 134,
        "total_steps": 200,
        "phase": "train",
        "loss": 2.381,
        "held_out_before": 3.2,
        "held_out": 2.502,
        "held_out_converted": None,
        "tokens": 274_432,
        "tokens_per_second": 287.4,
        "device_seconds": 1_206.2,
        "cost_nano_usd": 6_701_111,
        "cost_to_finish_nano_usd": 3_300_547,
        "checkpoint_step": 120,
        "error": None,
        "losses": losses(134),
        **changes,
    }


def replica(name: str, number: int, status: str) -> dict[str, Any]:
    return {"id": f"{name}-{number}", "status": status, "pid": 4_000 + number, "threads": 2}


def status_body(jobs: list[dict[str, Any]]) -> dict[str, Any]:
    chat = {
        "name": "smollm2-135m",
        "checkpoint": "smollm2-135m",
        "task": "generate",
        "replicas": [replica("smollm2-135m", 0, "ready"), replica("smollm2-135m", 1, "starting")],
        "running": 3,
        "waiting": 1,
    }
    vectors = {
        "name": "all-minilm-l6-v2",
        "checkpoint": "all-minilm-l6-v2",
        "task": "embed",
        "replicas": [replica("all-minilm-l6-v2", 0, "ready")],
        "running": 0,
        "waiting": 0,
    }
    decisions = [
        {
            "at": STARTED + 290 - 7 * index,
            "reason": "job 'debian-guide' harvests idle on cores 0 and 1: "
            f"utilisation 0.{42 + index}, predicted TTFT p95 {180 + 3 * index} ms "
            "is within the SLO of 500 ms",
        }
        for index in range(12)
    ]
    return {
        "version": "0.1.0",
        "url": "http://127.0.0.1:8080",
        "uptime_s": 5_025.4,
        "pool": {"devices": [0, 1], "price_usd_per_device_hour": "0.02"},
        "policy": {"name": "demand"},
        "deployments": [chat, vectors],
        "jobs": jobs,
        "plan": {"replicas": [], "jobs": []},
        "decisions": decisions,
        "books": {"intervals": 300, "session": "s-1"},
    }


def timeline_body(jobs: list[dict[str, Any]]) -> dict[str, Any]:
    points = [point(second) for second in range(300)]
    seconds = {kind: sum(one["cores"][kind] for one in points) for kind in KINDS}
    totals = {
        kind: {"device_seconds": used, "nano_usd": int(used * 20_000_000 / 3600)}
        for kind, used in seconds.items()
    }
    return {"interval_s": 1.0, "points": points, "totals": totals, "jobs": jobs}


def receipt(name: str, status: str) -> dict[str, Any]:
    return {
        "id": name,
        "lever": "engine",
        "from": "words-1m",
        "to": "words-1m, chunk 512",
        "predicted": {"low": 0.08, "expected": 0.08, "high": 0.08, "level": 0.9},
        "measured": {"low": 0.021, "expected": 0.054, "high": 0.086, "level": 0.95},
        "status": status,
        "reason": "saves 5.4%",
    }


def point_of(key: str, usd: float | None, ttft: float | None, **more: Any) -> dict[str, Any]:
    point = {"key": key, "usd_per_million": usd, "ttft_p95_ms": ttft, "loss": None}
    return {**point, "chosen": False, "rejected": None, **more}


@pytest.fixture
def busy_doors() -> FakeDoors:
    """Two trainings, a search, two deployments, five minutes of traffic."""
    done = job(
        name="haiku<b>",
        status="done",
        phase=None,
        step=40,
        total_steps=40,
        held_out_converted=2.61,
        losses=losses(40),
        cost_to_finish_nano_usd=0,
    )
    search = job(
        name="cheaper",
        kind="serving",
        what="how to serve smollm2-135m under the traffic house",
        method=None,
        optimizer=None,
        phase="evaluate",
        step=96,
        total_steps=288,
        loss=None,
        held_out=None,
        losses=[],
    )
    jobs = [done, job(), search]
    doors = FakeDoors()
    doors.status_body = status_body(jobs)
    doors.timeline_body = timeline_body(jobs)
    doors.receipt_bodies = [receipt("words~1", "not_there"), receipt("words~9", "verified")]
    doors.front_bodies = {"words": {"deployment": "words", "at": STARTED, "points": POINTS}}
    return doors


POINTS: list[dict[str, Any]] = [
    point_of("int8, batch 8", 0.41, 130.0, chosen=True),
    point_of("int8, batch 1<b>", 0.92, 60.0),
    point_of("fp16", 1.2, 140.0),
    point_of("int4", 0.3, 170.0, loss=0.3, rejected="its loss rises by 0.3 nats per token"),
    point_of("int8, batch 64", None, None, rejected="it does not fit in memory"),
]


@pytest.fixture
def new_doors() -> FakeDoors:
    """A house that has only just begun."""
    doors = FakeDoors()
    body = status_body([])
    doors.status_body = body | {"deployments": [], "decisions": [], "uptime_s": 1.0}
    doors.timeline_body = {"interval_s": 1.0, "points": [], "totals": {}, "jobs": []}
    doors.rollout_bodies = {}
    return doors

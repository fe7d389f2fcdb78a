"""A fleet plan as a document: JSON for programs, YAML that `meted up --config` reads."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from meted.domain.market import Offer
from meted.domain.units import NanoUSD
from meted.live.config import HERE
from meted.live.dollars import decimal
from meted.live.planning import Wished
from meted.policy.fleet.plan import Alternative, FleetPlan, FleetRow
from meted.policy.fleet.wish import Metric
from meted.policy.training_plan import TrainingPlan
from meted.predict.cores import CORE_PREFIX

MICROS_PER_MS = 1_000


def plan_document(wished: Wished, plan: FleetPlan) -> dict[str, Any]:
    """Everything a plan says, JSON-ready. Money is integer nano-USD and an exact decimal."""
    verdict = plan.replay
    return {
        "feasible": True,
        "model": wished.wish.architecture.name,
        "traffic": wished.traffic.told,
        "facts": list(wished.facts),
        "periods": [
            {
                "name": period.name,
                "hours_per_month": period.hours_per_month,
                "arrivals_per_second": period.arrivals_per_second,
                **_money("per_hour", hourly),
            }
            for period, hourly in zip(
                wished.wish.traffic.periods, plan.nano_usd_per_hour, strict=True
            )
        ],
        "fleet": [_row(row) for row in plan.rows],
        "offers": [
            {
                **_offer(row.offer),
                "devices_by_period": list(row.devices),
                **_money("per_month", row.nano_usd_per_month),
            }
            for row in plan.offers
        ],
        "training": [
            {
                "job": row.job,
                **_offer(row.offer),
                "lent_device_hours": row.lent_device_hours,
                "rented_device_hours": row.rented_device_hours,
                **_money("cost", row.nano_usd),
            }
            for row in plan.training
        ],
        **_money("per_month", plan.nano_usd_per_month),
        **_money("sunk_per_month", plan.sunk_nano_usd_per_month),
        **_money("per_million_tokens", plan.nano_usd_per_million_tokens),
        **_money("bound_per_month", plan.bound),
        **_money("perfect_autoscaler_per_month", plan.floor),
        "gap": plan.gap,
        "solver": plan.solver,
        "replay": None
        if verdict is None
        else {
            "holds": verdict.holds,
            "requests": verdict.requests,
            "fleets_tried": verdict.plans_tried,
            "limits": [
                {
                    "limit": one.limit.name,
                    "wished_micros": one.limit.micros,
                    "attained_micros_by_period": list(one.attained),
                    "attainment_by_period": list(one.attainment),
                    "holds": one.holds,
                }
                for one in verdict.limits
            ],
        },
        "alternatives": [_other(one) for one in plan.alternatives],
        "single_kind": [_other(one) for one in plan.single_kind],
        "sensitivity": [
            {
                "change": one.change,
                "same_fleet": one.same_fleet,
                **_money("per_hour", one.nano_usd_per_hour),
            }
            for one in plan.sensitivity
        ],
        "binding": list(plan.binding),
        "lent_device_hours": plan.lent_device_hours,
        "idle_device_hours": dict(plan.idle_device_hours),
    }


def write_plan(path: Path, wished: Wished, plan: FleetPlan, *, checkpoint: str) -> None:
    """Write the plan as a configuration: what it serves, and what it was planned for."""
    said = yaml.safe_dump(config_of(wished, plan, checkpoint=checkpoint), sort_keys=False)
    head = (
        f"# {wished.traffic.told}.\n"
        "# `meted up --config` serves it where the devices under `plan` are; without that section\n"
        "# on this machine's cores.\n"
    )
    path.write_text(head + said, encoding="utf-8")


def config_of(wished: Wished, plan: FleetPlan, *, checkpoint: str) -> dict[str, Any]:
    """The configuration of a house that serves the plan, as plain values."""
    slo = {
        f"{limit.metric}_p95_ms": limit.micros / MICROS_PER_MS
        for limit in wished.wish.limits
        if limit.metric in (Metric.TTFT, Metric.TPOT) and (limit.quantile or 0.0) >= 0.95
    }
    verdict = plan.replay
    deployment: dict[str, Any] = {
        "name": wished.wish.architecture.name,
        "replicas": sum(max(row.replicas) for row in plan.rows),
        "max_batch": min(row.setup.algorithm.max_batch for row in plan.rows),
    }
    if Path(checkpoint).expanduser().exists():
        deployment["path"] = checkpoint
    else:
        deployment["checkpoint"] = checkpoint
    if slo:
        deployment["slo"] = slo
    dates = sorted({row.offer.dated for row in plan.offers if row.offer.dated})
    here = [row.offer for row in plan.offers if row.offer.kind.startswith(CORE_PREFIX)]
    pool: dict[str, Any] = {}
    if here and wished.cores:
        per_core = NanoUSD(here[0].nano_usd_per_device_hour // wished.cores)
        pool = {
            "pool": {"cores": wished.cores, "price_usd_per_device_hour": decimal(per_core)},
        }
    return {
        **pool,
        "deployments": [deployment],
        "plan": {
            "devices": [
                {
                    "kind": HERE if row.offer.kind.startswith(CORE_PREFIX) else row.offer.kind,
                    "purchase": str(row.offer.purchase),
                    "count": max(row.devices),
                    "usd_per_device_hour": decimal(row.offer.nano_usd_per_device_hour),
                }
                for row in plan.offers
            ],
            "usd_per_month": decimal(plan.nano_usd_per_month),
            "usd_per_million_tokens": decimal(plan.nano_usd_per_million_tokens),
            "attained_ms": {
                one.limit.name: max(one.attained) / MICROS_PER_MS
                for one in (verdict.limits if verdict is not None else ())
            },
            **({"prices_dated": ", ".join(dates)} if dates else {}),
        },
    }


def _money(name: str, nano_usd: NanoUSD | None) -> dict[str, Any]:
    exact = None if nano_usd is None else decimal(nano_usd)
    return {f"nano_usd_{name}": nano_usd, f"usd_{name}": exact}


def _offer(offer: Offer) -> dict[str, Any]:
    return {
        "kind": offer.kind,
        "purchase": str(offer.purchase),
        "provider": offer.provider,
        "region": offer.region,
        "dated": offer.dated,
        "source": offer.source,
        **_money("per_device_hour", offer.nano_usd_per_device_hour),
    }


def _row(row: FleetRow) -> dict[str, Any]:
    algorithm = row.setup.algorithm
    layout = algorithm.parallelism
    return {
        **_offer(row.offer),
        "devices_per_replica": row.devices_per_replica,
        "replicas_by_period": list(row.replicas),
        "tensor": layout.tensor,
        "pipeline": layout.pipeline,
        "weights": str(algorithm.weights),
        "kv": str(algorithm.kv),
        "compute": str(algorithm.compute),
        "chunk_tokens": algorithm.chunk_tokens,
        "max_batch": algorithm.max_batch,
        "utilisation_by_period": list(row.utilisation),
        "shares_by_period": [list(one) for one in row.shares],
    }


def _other(one: Alternative) -> Mapping[str, Any]:
    return {
        "name": one.name,
        "fleet": one.fleet,
        "why": one.why,
        **_money("per_hour", one.nano_usd_per_hour),
    }


def training_document(plan: TrainingPlan, facts: Sequence[str]) -> dict[str, Any]:
    """Everything a training plan says, JSON-ready."""
    algorithm, layout = plan.algorithm, plan.algorithm.parallelism
    return {
        "feasible": True,
        "model": plan.wish.architecture.name,
        "tokens": plan.wish.tokens,
        "facts": list(facts),
        "device_kind": plan.choice.kind.name,
        "devices": plan.choice.devices,
        "hours": asdict(plan.hours),
        "device_hours": asdict(plan.device_hours),
        **_money("expected", plan.money.expected if plan.money else None),
        **_money("low", plan.money.low if plan.money else None),
        **_money("high", plan.money.high if plan.money else None),
        "mfu": asdict(plan.mfu),
        "step_seconds": asdict(plan.step_seconds),
        "steps": plan.steps,
        "model_flops": plan.model_flops,
        "kilowatt_hours": asdict(plan.kilowatt_hours),
        "layout": {
            "tensor": layout.tensor,
            "pipeline": layout.pipeline,
            "data": layout.data,
            "expert": layout.expert,
            "zero": algorithm.zero,
            "micro_batch": algorithm.micro_batch,
            "global_batch": algorithm.global_batch,
            "sequence_tokens": algorithm.sequence_tokens,
            "recomputation": str(algorithm.recomputation),
            "interleave": algorithm.interleave,
            "optimizer": str(algorithm.optimizer),
            "lora_rank": algorithm.lora_rank,
        },
        "memory_bytes": {**plan.memory.parts, "total": plan.memory.total},
        "memory_room_bytes": plan.memory_room,
        "step_parts_seconds": plan.step.parts,
        "goodput": asdict(plan.goodput),
        "alternatives": [
            {
                "devices": one.choice.devices,
                "device_kind": one.choice.kind.name,
                "layout": str(one.algorithm.parallelism),
                "hours": one.hours,
                "why": one.why,
                **_money("expected", one.nano_usd),
            }
            for one in plan.alternatives
        ],
        "binding": plan.binding,
        "doubt": plan.doubt,
        "layouts_tried": plan.layouts_tried,
    }

"""A search of serving as a job: it measures on what serving leaves over.

What was measured stays measured, whatever ends this process. The replicas that it starts run where
and as urgent as itself, and the house meters them with it.
"""

import asyncio
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec

from meted.domain.job import TrainingPhase
from meted.domain.search_job import ServingSearch
from meted.domain.units import NanoUSD
from meted.live.checkpoints import CheckpointRegistry
from meted.live.cpu_clock import family_cpu_nanos
from meted.live.job_folder import RESULT, claim, write_json
from meted.live.job_specs import check_job_spec
from meted.live.local_host import LocalHost
from meted.live.training.errors import TrainingError
from meted.live.training.house import House, Link, reported
from meted.live.tuning.documents import document, front_points
from meted.live.tuning.measuring import Measurer
from meted.live.tuning.searching import search_serving
from meted.live.tuning.session import Machine, prepare
from meted.live.wire import Checkpointed, Finished, FrontFound, Planned
from meted.optimise.search import Search
from meted.optimise.search_values import Ask, Measured
from meted.predict.batching import Arrival

TRAFFIC = "traffic.json"
EVIDENCE = "evidence.json"


def run_serving(
    spec: ServingSearch,
    *,
    registry_folder: Path,
    calibrations: Path,
    workdir: Path,
    devices: tuple[int, ...],
    price: NanoUSD,
    link: Link,
) -> int:
    """Search to the end, or to the order to stop; the exit status of the process."""
    house = House(link, clock=partial(family_cpu_nanos, os.getpid()))
    machine = Machine(
        registry=CheckpointRegistry(registry_folder),
        calibrations=calibrations,
        devices=devices,
        price=price,
    )

    def work() -> None:
        check_job_spec(spec)
        claim(workdir, spec)
        _search(spec, machine, workdir, house)

    return reported(house, work)


def keep_traffic(workdir: Path, arrivals: Sequence[Arrival]) -> None:
    """Note the requests that every measurement of this job answers, unless they are noted."""
    if not (workdir / TRAFFIC).exists():
        write_json(workdir / TRAFFIC, arrivals)


def _kept_traffic(path: Path) -> list[Arrival]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Arrival])
    except FileNotFoundError:
        raise TrainingError(
            f"{path}, where the house noted the requests to answer, is gone; hand the search in "
            "again under another name"
        ) from None


def _search(spec: ServingSearch, machine: Machine, workdir: Path, house: House) -> None:
    arrivals = _kept_traffic(workdir / TRAFFIC)
    prepared = prepare(spec, arrivals, machine)
    evidence = workdir / EVIDENCE
    search = _remembered(prepared.search, evidence)
    total = max(1, round(spec.effort * len(arrivals)))

    def requests_measured() -> int:
        return min(total, round(sum(one.effort for one in search.told) * len(arrivals)))

    def measured(ask: Ask, measured: Measured, now: Search) -> None:
        nonlocal search
        search = now
        write_json(evidence, now.told)
        house.tell(Checkpointed(requests_measured(), house.clock()))

    house.tell(Planned(total, requests_measured(), train_tokens=0, held_out_tokens=0))
    house.turn_to(TrainingPhase.EVALUATE)
    measurer = Measurer(
        host=LocalHost(workdir / "logs", places=False),
        checkpoints=machine.registry.folder,
        traffic=prepared.traffic,
        devices=machine.devices,
        price=machine.price,
        mind=lambda: house.heed(requests_measured),
    )
    found = asyncio.run(search_serving(search, prepared.configurations, measurer, watch=measured))
    told = document(prepared, found, spec.slo)
    write_json(workdir / RESULT, {"kind": str(spec.kind), **told})
    house.tell(FrontFound(front_points(told)), Finished("", house.clock()))


def _remembered(search: Search, evidence: Path) -> Search:
    """The search with what was measured of its candidates before; some may have gone since."""
    if not evidence.exists():
        return search
    keys = {one.key for one in search.candidates}
    for one in msgspec.json.decode(evidence.read_bytes(), type=list[Measured]):
        if one.key in keys:
            search = search.tell(one)
    return search

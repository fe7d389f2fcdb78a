"""A search of variants as a job: levers that are done stay done, whatever ends this process."""
# pyright: reportUnknownMemberType=false

from collections.abc import Callable
from pathlib import Path

import msgspec
import torch

from meted.domain.job import TrainingPhase
from meted.domain.search_job import VariantSearch
from meted.live.checkpoints import CheckpointRegistry
from meted.live.job_folder import RESULT, claim, write_json
from meted.live.job_specs import check_job_spec
from meted.live.training.house import House, Link, reported
from meted.live.variants.searching import Told, search_variants
from meted.live.wire import Checkpointed, Finished, Planned

TRIED = "tried.json"


def run_variants(
    spec: VariantSearch, *, registry_folder: Path, workdir: Path, threads: int, link: Link
) -> int:
    """Search to the end, or to the order to stop; the exit status of the process."""
    torch.set_num_threads(threads)
    house = House(link)

    def work() -> None:
        check_job_spec(spec)
        claim(workdir, spec)
        job = _Job(spec, workdir / TRIED, house)
        found = search_variants(
            spec,
            registry=CheckpointRegistry(registry_folder),
            threads=threads,
            watch=job,
            known=job.tried,
            keep=job.keep,
        )
        write_json(workdir / RESULT, {"kind": str(spec.kind), "trials": found})
        house.tell(Finished("", house.clock()))

    return reported(house, work)


class _Job:
    """What was tried, durable lever by lever; heeds the house between the parts of each."""

    def __init__(self, spec: VariantSearch, path: Path, house: House) -> None:
        self._path = path
        self._house = house
        self._begun = False
        self.tried: dict[str, Told] = {}
        if path.exists():
            self.tried = msgspec.json.decode(path.read_bytes(), type=dict[str, Told])
        steps = len(spec.levers)
        house.tell(Planned(steps, len(self.tried), train_tokens=0, held_out_tokens=0))

    def lever(self, name: str) -> None:
        """The checkpoint and the text are loaded once the first lever begins."""
        if not self._begun:
            self._begun = True
            self._house.turn_to(TrainingPhase.EVALUATE)

    def begin(self, what: str, parts: int) -> Callable[[], None]:
        self._heed()
        return self._heed

    def keep(self, name: str, trials: Told) -> None:
        self.tried[name] = trials
        write_json(self._path, self.tried)
        self._house.tell(Checkpointed(self._durable(), self._house.clock()))

    def _heed(self) -> None:
        self._house.heed(self._durable)

    def _durable(self) -> int:
        return len(self.tried)

"""One job from its spec to a registered checkpoint, inside the trainer's process."""
# pyright: reportUnknownMemberType=false

import gc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from meted.domain.job import TrainingPhase, TrainingSpec
from meted.live.checkpoints import CheckpointRegistry, load_tokenizer
from meted.live.checkpoints.builtin import BUILTINS
from meted.live.job_folder import claim
from meted.live.training.checkpoint import CheckpointFolder, write_whole
from meted.live.training.data import (
    Dataset,
    Encoder,
    encode_documents,
    load_dataset,
    pack,
    read_documents,
    save_dataset,
)
from meted.live.training.encoder import make_encoder
from meted.live.training.errors import TrainingError
from meted.live.training.house import House, Link, cpu_nanos, reported
from meted.live.training.loop import Loop
from meted.live.training.model import load_trainee
from meted.live.training.publish import publish
from meted.live.training.spec import check_spec
from meted.live.training.trial_run import Shifted
from meted.live.training.tuning import Search
from meted.live.wire import Evaluated, Finished


def run_job(
    *, spec: TrainingSpec, registry_folder: Path, workdir: Path, threads: int, link: Link
) -> int:
    """Run a job to its end, or to the order to stop; the exit status of the process."""
    torch.set_num_threads(threads)
    house = House(link)

    def work() -> None:
        check_spec(spec)
        _run(spec, CheckpointRegistry(registry_folder), workdir, house)

    return reported(house, work)


def _run(spec: TrainingSpec, registry: CheckpointRegistry, workdir: Path, house: House) -> None:
    if spec.base in BUILTINS:
        registry.ensure_builtin(spec.base)
    base = registry.get(spec.base)
    if spec.sequence_tokens > base.context_tokens:
        raise TrainingError(
            f"sequence_tokens is {spec.sequence_tokens}, but {spec.base!r} has a context of "
            f"{base.context_tokens}; lower sequence_tokens"
        )
    claim(workdir, spec)
    dataset = prepare_data(spec, workdir, lambda: make_encoder(load_tokenizer(base)))
    folder = registry.trainable_folder(spec.base)
    to_end = True
    if spec.auto is not None:
        to_end = spec.auto.finish
        chosen = Search(
            spec=spec,
            auto=spec.auto,
            dataset=dataset,
            workdir=workdir,
            house=house,
            load=partial(load_trainee, folder),
        ).run()
        spec = chosen.spec
        house = House(Shifted(house.link, steps=chosen.steps, tokens=chosen.tokens, total=None))
    trainee = load_trainee(folder, spec)
    loop = Loop(
        spec=spec,
        dataset=dataset,
        trainee=trainee,
        checkpoints=CheckpointFolder(workdir / "checkpoints"),
        house=house,
    )
    state = loop.run(to_end=to_end)
    house.turn_to(TrainingPhase.CONVERT)
    weights = trainee.weights()
    # The network in training makes room for the one to be converted.
    del trainee, loop
    gc.collect()
    converted = publish(
        spec=spec,
        registry=registry,
        workdir=workdir,
        weights=weights,
        held_out=state.held_out,
        held_out_rows=dataset.held_out,
    )
    house.tell(
        Evaluated(state.step, "converted", converted, cpu_nanos()),
        Finished(spec.name, cpu_nanos()),
    )


def prepare_data(spec: TrainingSpec, workdir: Path, encoder: Callable[[], Encoder]) -> Dataset:
    """The job's sequences: read once, then kept in its folder."""
    path = workdir / "data.npz"
    if not path.exists():
        documents = encode_documents(read_documents(Path(spec.data)), encoder())
        dataset = pack(
            documents,
            sequence_tokens=spec.sequence_tokens,
            held_out=spec.held_out,
            seed=spec.seed,
        )
        with write_whole(path) as file:
            save_dataset(dataset, file)
    return load_dataset(path)

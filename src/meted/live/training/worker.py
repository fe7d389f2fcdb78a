"""One job from its spec to a registered checkpoint, inside the trainer's process."""

import gc
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import torch
from openvino_genai import Tokenizer
from torch import Tensor

from meted.domain.job import TrainingPhase, TrainingSpec
from meted.live.checkpoints import (
    CheckpointError,
    CheckpointRegistry,
    held_out_loss,
    load_tokenizer,
)
from meted.live.training.checkpoint import CheckpointFolder, write_whole
from meted.live.training.data import (
    ChatTurn,
    Dataset,
    Encoder,
    encode_documents,
    load_dataset,
    pack,
    read_documents,
    save_dataset,
)
from meted.live.training.errors import TrainingError
from meted.live.training.house import House, Link, StopOrdered, cpu_nanos
from meted.live.training.loop import Loop
from meted.live.training.model import load_trainee, save_merged
from meted.live.training.spec import check_spec
from meted.live.wire import Evaluated, Failed, Finished


def run_job(
    *, spec: TrainingSpec, registry_folder: Path, workdir: Path, threads: int, link: Link
) -> int:
    """Run a job to its end, or to the order to stop; the exit status of the process."""
    torch.set_num_threads(threads)
    house = House(link)
    try:
        check_spec(spec)
        _run(spec, CheckpointRegistry(registry_folder), workdir, house)
    except StopOrdered:
        return 0
    except (CheckpointError, TrainingError, ValueError, OSError, MemoryError) as error:
        traceback.print_exc(file=sys.stderr)
        house.tell(Failed(str(error) or "memory ran out; take a smaller micro_batch"))
        return 1
    return 0


def _run(spec: TrainingSpec, registry: CheckpointRegistry, workdir: Path, house: House) -> None:
    base = registry.get(spec.base)
    _claim(workdir, spec)
    dataset = prepare_data(spec, workdir, lambda: make_encoder(load_tokenizer(base)))
    trainee = load_trainee(registry.trainable_folder(spec.base), spec)
    loop = Loop(
        spec=spec,
        dataset=dataset,
        trainee=trainee,
        checkpoints=CheckpointFolder(workdir / "checkpoints"),
        house=house,
    )
    state = loop.run()
    house.turn_to(TrainingPhase.CONVERT)
    weights = trainee.weights()
    # The network in training makes room for the one to be converted.
    del trainee, loop
    gc.collect()
    _publish(spec, registry, workdir, dataset, weights, state.held_out, house)


def _publish(
    spec: TrainingSpec,
    registry: CheckpointRegistry,
    workdir: Path,
    dataset: Dataset,
    weights: dict[str, Tensor],
    held_out: dict[str, float],
    house: House,
) -> None:
    """Convert and register what was trained, and measure what conversion left of it."""
    if registry.has(spec.name):  # An earlier process got this far and was killed.
        checkpoint = registry.get(spec.name)
    else:
        folder = workdir / "merged"
        shutil.rmtree(folder, ignore_errors=True)
        save_merged(registry.trainable_folder(spec.base), spec, weights, folder)
        checkpoint = registry.register_trained(
            name=spec.name, base=registry.get(spec.base), hf_folder=folder, held_out=held_out
        )
        shutil.rmtree(folder)
    converted = held_out_loss(checkpoint, dataset.held_out.tolist())
    steps = 0
    house.tell(
        Evaluated(steps, "converted", converted, cpu_nanos()), Finished(spec.name, cpu_nanos())
    )


def _claim(workdir: Path, spec: TrainingSpec) -> None:
    """Note the spec in the job's folder. Raises TrainingError if another spec began there."""
    path, encoded = workdir / "spec.json", msgspec.json.encode(spec)
    if not path.exists():
        workdir.mkdir(parents=True, exist_ok=True)
        with write_whole(path) as file:
            file.write(encoded)
    elif path.read_bytes() != encoded:
        raise TrainingError(
            f"{workdir} holds a job that was begun with another spec; choose another name for "
            "this job, or remove that folder"
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


def make_encoder(tokenizer: Tokenizer) -> Encoder:
    """An encoder around the tokenizer that serving uses too."""

    def encode(text: str) -> Sequence[int]:
        return tokenizer.encode(text, add_special_tokens=False).input_ids.data[0].tolist()

    def render(turns: Sequence[ChatTurn]) -> str:
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        return tokenizer.apply_chat_template(messages, add_generation_prompt=False)

    return Encoder(encode=encode, render=render, eos=tokenizer.get_eos_token_id())

"""Published training runs: what efficiency factors are learned from, and predictions judged by."""

from dataclasses import dataclass

from meted.domain.algorithm import Parallelism
from meted.domain.architecture import Architecture
from meted.domain.catalogue import lookup_architecture, lookup_device_kind
from meted.domain.device_kind import DeviceKind
from meted.domain.training_algorithm import Recomputation, TrainingAlgorithm
from meted.predict.training.flops import narayanan_flops, sequence_training_flops


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRun:
    """A run that somebody measured: either seconds of a step, or device-hours of the whole run.

    family: runs of one team with one software. tokens: of the whole run, else None. assumed: the
    layout is our guess, for it was not published.
    """

    name: str
    family: str
    architecture: Architecture
    kind: DeviceKind
    algorithm: TrainingAlgorithm
    step_seconds: float | None = None
    tokens: float | None = None
    device_hours: float | None = None
    assumed: bool = False
    source: str

    @property
    def measured(self) -> float:
        value = self.step_seconds if self.device_hours is None else self.device_hours
        assert value is not None
        return value


def published_runs() -> tuple[PublishedRun, ...]:
    """All runs, in the order of their publication."""
    return (
        *_megatron_2021(),
        *_opt_and_bloom(),
        *_megatron_turing(),
        *_korthikanti(),
        *_llama(),
        *_llama_2(),
        *_llama_3(),
    )


def _algorithm(
    tensor: int,
    pipeline: int,
    devices: int,
    batch: int,
    micro: int,
    *,
    chunks: int = 1,
    sequence: int = 2048,
    again: Recomputation = Recomputation.FULL,
    flash: bool = False,
    zero: int = 0,
) -> TrainingAlgorithm:
    lay = Parallelism(tensor=tensor, pipeline=pipeline, data=devices // (tensor * pipeline))
    return TrainingAlgorithm(
        micro_batch=micro,
        global_batch=batch,
        sequence_tokens=sequence,
        recomputation=again,
        flash_attention=flash,
        zero=zero,
        parallelism=lay,
        interleave=chunks,
    )


def _free(
    tensor: int,
    pipeline: int,
    devices: int,
    batch: int,
    micro: int,
    *,
    sequence: int = 2048,
    zero: int,
    chunks: int = 1,
) -> TrainingAlgorithm:
    """With flash attention and nothing recomputed. Where a layout was not published, it is the
    fastest that fits by the planner's search with the prior's factors, which no run has touched."""
    return _algorithm(
        tensor,
        pipeline,
        devices,
        batch,
        micro,
        sequence=sequence,
        zero=zero,
        chunks=chunks,
        again=Recomputation.NONE,
        flash=True,
    )


def _step_from_rate(one: Architecture, algorithm: TrainingAlgorithm, tera: float) -> float:
    """Seconds of a step at so many TFLOP/s and device, by the FLOPs of Narayanan et al. (2021)."""
    flops = narayanan_flops(
        layers=one.layers,
        hidden=one.hidden,
        vocab=one.vocab,
        sequence_tokens=algorithm.sequence_tokens,
        sequences=algorithm.global_batch,
    )
    return flops / (tera * 1e12 * algorithm.parallelism.devices)


def _megatron_2021() -> tuple[PublishedRun, ...]:
    """Narayanan et al. 2021, table 1; micro-batches and chunks from examples/sc21/run_table_1.sh
    of NVIDIA/Megatron-LM. The A100 of Selene, activations recomputed, no flash attention."""
    table = (
        ("megatron-1.7b", 137, _algorithm(1, 1, 32, 512, 16)),
        ("megatron-3.6b", 138, _algorithm(2, 1, 64, 512, 16)),
        ("megatron-7.5b", 142, _algorithm(4, 1, 128, 512, 16)),
        ("megatron-18.4b", 135, _algorithm(8, 1, 256, 1024, 8)),
        ("megatron-39.1b", 138, _algorithm(8, 2, 512, 1536, 4)),
        ("megatron-76.1b", 140, _algorithm(8, 4, 1024, 1792, 2, chunks=3)),
        ("megatron-145.6b", 148, _algorithm(8, 8, 1536, 2304, 2, chunks=2)),
        ("megatron-310.1b", 155, _algorithm(8, 16, 1920, 2160, 1, chunks=2)),
        ("megatron-529.6b", 163, _algorithm(8, 35, 2520, 2520, 1, chunks=3)),
        ("megatron-1t", 163, _algorithm(8, 64, 3072, 3072, 1)),
    )
    return tuple(
        PublishedRun(
            name=name,
            family="megatron-2021",
            architecture=lookup_architecture(name),
            kind=lookup_device_kind("a100-80gb"),
            algorithm=algorithm,
            step_seconds=_step_from_rate(lookup_architecture(name), algorithm, tera),
            source="Narayanan et al. 2021, table 1",
        )
        for name, tera, algorithm in table
    )


def _opt_and_bloom() -> tuple[PublishedRun, ...]:
    opt, bloom = lookup_architecture("opt-175b"), lookup_architecture("bloom-176b")
    kind = lookup_device_kind("a100-80gb")
    opt_way = _algorithm(8, 1, 992, 992, 8, zero=3)
    return (
        PublishedRun(
            name="opt-175b", family="opt", architecture=opt, kind=kind, algorithm=opt_way,
            step_seconds=_step_from_rate(opt, opt_way, 147),
            source="Zhang et al. 2022, section 2.2: 992 A100, 147 TFLOP/s each, FSDP, tensor 8",
        ),
        PublishedRun(
            name="bloom-176b", family="bloom", architecture=bloom, kind=kind,
            algorithm=_algorithm(4, 12, 384, 2048, 2, zero=1),
            tokens=366e9, device_hours=1_082_990,
            source="Luccioni et al. 2022 and BigScience 2022: 384 A100, tensor 4, pipeline 12",
        ),
    )  # fmt: skip


def _megatron_turing() -> tuple[PublishedRun, ...]:
    """Smith et al. 2022, section 3.4: seconds of a step of 1920 sequences on 280 to 420 nodes."""
    return tuple(
        PublishedRun(
            name=f"mt-nlg-530b-{devices}",
            family="megatron-turing",
            architecture=lookup_architecture("megatron-529.6b"),
            kind=lookup_device_kind("a100-80gb"),
            algorithm=_algorithm(8, 35, devices, 1920, 1),
            step_seconds=seconds,
            source="Smith et al. 2022, section 3.4",
        )
        for devices, seconds in ((2240, 60.1), (2800, 50.2), (3360, 44.4))
    )


def _korthikanti() -> tuple[PublishedRun, ...]:
    """Korthikanti et al. 2022, table 5: with full recomputation, and with selective and sequence
    parallelism; layouts from their table 3."""
    table = (
        ("gpt3-175b", 64, 8, 64, 3, 18.13, 13.75),
        ("megatron-529.6b", 280, 35, 280, 3, 49.05, 37.83),
        ("megatron-1t", 512, 64, 512, 1, 94.42, 71.49),
    )
    return tuple(
        PublishedRun(
            name=f"{name}-{again}-{devices}",
            family="korthikanti",
            architecture=lookup_architecture(name),
            kind=lookup_device_kind("a100-80gb"),
            algorithm=_algorithm(8, stages, devices, batch, 1, chunks=chunks, again=again),
            step_seconds=seconds,
            source="Korthikanti et al. 2022, table 5",
        )
        for name, devices, stages, batch, chunks, full, selective in table
        for again, seconds in ((Recomputation.FULL, full), (Recomputation.SELECTIVE, selective))
    )


def _whole(
    name: str, family: str, kind: str, hours: float, tokens: float, way: TrainingAlgorithm,
    source: str,
) -> PublishedRun:  # fmt: skip
    return PublishedRun(
        name=name,
        family=family,
        architecture=lookup_architecture(name),
        kind=lookup_device_kind(kind),
        algorithm=way,
        tokens=tokens,
        device_hours=hours,
        assumed=True,
        source=source,
    )


def _llama() -> tuple[PublishedRun, ...]:
    """Touvron et al. 2023a, table 15. Batches of 4M tokens; 2048 devices for 65B, our guess for the
    smaller ones."""
    table = (
        ("llama-7b", 82_432, 1.0e12, _free(1, 1, 512, 2048, 4, zero=1)),
        ("llama-13b", 135_168, 1.0e12, _free(1, 1, 1024, 2048, 2, zero=2)),
        ("llama-33b", 530_432, 1.4e12, _free(4, 1, 2048, 2048, 4, zero=1)),
        ("llama-65b", 1_022_362, 1.4e12, _free(8, 1, 2048, 2048, 8, zero=2)),
    )
    return tuple(
        _whole(name, "llama", "a100-80gb", hours, tokens, way, "Touvron et al. 2023a, table 15")
        for name, hours, tokens, way in table
    )


def _llama_2() -> tuple[PublishedRun, ...]:
    """Touvron et al. 2023b, table 2. Batches of 4M tokens; devices as for Llama 1."""
    table = (
        ("llama-2-7b", 184_320, _free(1, 1, 512, 1024, 2, sequence=4096, zero=1)),
        ("llama-2-13b", 368_640, _free(1, 1, 1024, 1024, 1, sequence=4096, zero=2)),
        ("llama-2-70b", 1_720_320, _free(8, 1, 2048, 1024, 4, sequence=4096, zero=2)),
    )
    return tuple(
        _whole(name, "llama-2", "a100-80gb", hours, 2e12, way, "Touvron et al. 2023b, table 2")
        for name, hours, way in table
    )


def _llama_3() -> tuple[PublishedRun, ...]:
    """The model cards of Llama 3 and 3.1; for 405B the layout and rates of the Llama team's report
    (2024, table 4), whose first chunk of the pipeline has the embedding only, so that a chunk is a
    layer; for the smaller ones our guess of a layout."""
    small = _free(1, 1, 1024, 1024, 1, sequence=8192, zero=2)
    middle = _free(4, 4, 2048, 1024, 1, sequence=8192, zero=1, chunks=5)
    large = {
        devices: _free(8, 16, devices, 2048, 1, sequence=8192, zero=1, chunks=8)
        for devices in (8192, 16384)
    }  # fmt: skip
    one = lookup_architecture("llama-3.1-405b")
    card = "model card: H100-80GB hours, 15T tokens"
    runs = [
        _whole("llama-3-8b", "llama-3", "h100-80gb", 1.3e6, 15e12, small, card),
        _whole("llama-3-70b", "llama-3", "h100-80gb", 6.4e6, 15e12, middle, card),
        _whole("llama-3.1-8b", "llama-3.1", "h100-80gb", 1.46e6, 15e12, small, card),
        _whole("llama-3.1-70b", "llama-3.1", "h100-80gb", 7.0e6, 15e12, middle, card),
        PublishedRun(
            name="llama-3.1-405b", family="llama-3.1", architecture=one,
            kind=lookup_device_kind("h100-80gb"), algorithm=large[16384], tokens=15e12,
            device_hours=30.84e6, source=card,
        ),
    ]  # fmt: skip
    for devices, tera in ((8192, 430), (16384, 400)):
        flops = sequence_training_flops(one, large[devices]).model * 2048
        runs.append(
            PublishedRun(
                name=f"llama-3.1-405b-{devices}", family="llama-3.1", architecture=one,
                kind=lookup_device_kind("h100-80gb"), algorithm=large[devices],
                step_seconds=flops / (tera * 1e12 * devices),
                source="Llama team 2024, table 4",
            )
        )  # fmt: skip
    return tuple(runs)

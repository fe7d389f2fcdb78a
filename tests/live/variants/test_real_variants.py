"""The whole way with real weights: made, measured, let in or turned away."""

from collections.abc import Callable
from pathlib import Path

import pytest

from meted.domain.levers import parse_lever
from meted.domain.variant import LineageStep
from meted.live.checkpoints import (
    CheckpointError,
    CheckpointRegistry,
    held_out_loss,
    load_tokenizer,
)
from meted.live.checkpoints.checkpoint import GGUF_MODEL
from meted.live.training.encoder import make_encoder
from meted.live.variants.records import read_records
from meted.live.variants.text import Amounts, JudgingText, read_judging_text
from meted.live.variants.trials import Trials
from meted.optimise.gate import Floor

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]

SENTENCE = (
    "Chapter {n} of the manual. The house meters every step: a replica serves, a job trains, and a "
    "core that does neither is idle. In year {n} it paid {m} dollars for {n} cores, and each of "
    "the {m} tenants saw on its bill what its own requests had used, to the last of {m} cents. "
)


@pytest.fixture(scope="module")
def text(smollm2: CheckpointRegistry, tmp_path_factory: pytest.TempPathFactory) -> JudgingText:
    folder = tmp_path_factory.mktemp("manual")
    for n in range(64):
        body = " ".join(SENTENCE.format(n=n * 7 + k, m=n * n + k) for k in range(2))
        (folder / f"{n:02}.txt").write_text(body)
    amounts = Amounts(blocks=22, block_tokens=64, questions=6, training_tokens=2048)
    encoder = make_encoder(load_tokenizer(smollm2.get("smollm2-135m")))
    return read_judging_text(folder, encoder, amounts)


MakeTrials = Callable[..., Trials]


@pytest.fixture
def make_trials(smollm2: CheckpointRegistry, text: JudgingText, tmp_path: Path) -> MakeTrials:
    def make(*, most: float, keep: bool = False) -> Trials:
        return Trials(
            registry=smollm2,
            checkpoint=smollm2.get("smollm2-135m"),
            text=text,
            floor=Floor(most_loss_increase=most),
            keep=keep,
            threads=2,
            scratch=tmp_path,
            begin=lambda what, parts: lambda: None,
        )

    return make


def test_a_variant_that_passes_is_registered_with_its_lineage_and_numbers(
    smollm2: CheckpointRegistry, make_trials: MakeTrials, text: JudgingText
) -> None:
    lever = parse_lever("int8-sym")
    trials = make_trials(most=0.1)
    (trial,) = trials.run(lever)
    assert trial.problem is None and trial.registered
    made = smollm2.get("smollm2-135m--int8-sym")
    assert made.lineage == (LineageStep(parent="smollm2-135m", transformation=lever.steps[0][1]),)
    assert made.quality == trial.quality and made.quality is not None and made.quality.passed
    assert made.quality.text.kl.expected < 0.05 and made.quality.text.same_top.expected > 0.9
    loss = held_out_loss(made, [one.ids.tolist() for one in text.blocks])
    assert made.quality.text.loss.expected == pytest.approx(loss, rel=1e-3)
    (again,) = trials.run(lever)
    assert (again.new, again.quality) == (False, trial.quality)
    with pytest.raises(CheckpointError, match="variant of 'smollm2-135m'"):
        smollm2.trainable_folder(made.name)
    smollm2.remove(made.name)


def test_a_variant_that_fails_is_on_record_only_unless_it_is_kept(
    smollm2: CheckpointRegistry, make_trials: MakeTrials
) -> None:
    lever = parse_lever("gguf-q4_0")
    (trial,) = make_trials(most=0.0).run(lever)
    assert trial.quality is not None and not trial.quality.passed and not trial.registered
    assert not smollm2.has(trial.name)
    record = next(one for one in read_records(smollm2.folder) if one.name == trial.name)
    assert record.quality == trial.quality and not record.registered
    (kept,) = make_trials(most=0.0, keep=True).run(lever)
    assert kept.registered and (smollm2.get(kept.name).folder / GGUF_MODEL).exists()
    smollm2.remove(kept.name)


def test_a_network_of_less_layers_is_served_and_quantised_on(
    smollm2: CheckpointRegistry, make_trials: MakeTrials
) -> None:
    lever = parse_lever("layers-10%+int4-g64", training_steps=1)
    cut, small = make_trials(most=100.0).run(lever)
    assert cut.problem is None and small.problem is None
    assert cut.weight_bytes and small.weight_bytes and small.weight_bytes < cut.weight_bytes
    made = smollm2.get("smollm2-135m--layers-10--int4-g64")
    assert made.base == "smollm2-135m--layers-10"
    assert [step.parent for step in made.lineage] == ["smollm2-135m", "smollm2-135m--layers-10"]
    assert made.quality is not None and made.quality.parent == "smollm2-135m"
    for name in (made.name, made.base):
        smollm2.remove(name)

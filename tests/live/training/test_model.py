from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from meted.domain.job import LoraTargets, Method, TrainingSpec
from meted.live.training.errors import TrainingError
from meted.live.training.fused_loss import fused_cross_entropy
from meted.live.training.model import has_fast_bf16, load_trainee, save_merged

ROWS = np.arange(64, dtype=np.int32).reshape(4, 16)


@pytest.mark.parametrize("count", [1, 127, 128, 300])
def test_fused_loss_equals_plain_cross_entropy(count: int) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(count, 8, requires_grad=True)
    head = torch.randn(40, 8, requires_grad=True)
    targets = torch.randint(0, 40, (count,))
    plain = functional.cross_entropy(hidden @ head.T, targets)
    expected = torch.autograd.grad(plain * 3, (hidden, head))
    fused = fused_cross_entropy(hidden, head, targets)
    found = torch.autograd.grad(fused * 3, (hidden, head))
    torch.testing.assert_close(fused, plain)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("method", list(Method))
def test_the_loss_is_that_of_the_network(
    tiny_folder: Path, spec: TrainingSpec, method: Method
) -> None:
    trainee = load_trainee(tiny_folder, replace(spec, method=method))
    ids = torch.from_numpy(ROWS.astype(np.int64))
    expected = trainee.network(input_ids=ids, labels=ids).loss
    assert trainee.head is not None
    torch.testing.assert_close(trainee.loss(ROWS), expected)


def test_bf16_stays_close_to_fp32(tiny_folder: Path, spec: TrainingSpec) -> None:
    exact = load_trainee(tiny_folder, spec).loss(ROWS)
    for method in Method:
        trainee = load_trainee(tiny_folder, replace(spec, precision="bf16", method=method))
        loss = trainee.loss(ROWS)
        loss.backward()
        torch.testing.assert_close(loss, exact, rtol=0.01, atol=0.01)
        assert all(one.dtype == torch.float32 for one in trainee.parameters.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", list(Method))
def test_merging_keeps_what_was_learnt(
    tiny_folder: Path, spec: TrainingSpec, tmp_path: Path, method: Method, precision: str
) -> None:
    spec = replace(spec, method=method, precision=precision)
    trainee = load_trainee(tiny_folder, spec)
    before = trainee.loss(ROWS).item()
    optimizer = torch.optim.Adam(trainee.parameters.values(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        trainee.loss(ROWS).backward()
        optimizer.step()
    trained = trainee.loss(ROWS).item()
    save_merged(tiny_folder, spec, trainee.weights(), tmp_path)
    ids = torch.from_numpy(ROWS.astype(np.int64))
    network = AutoModelForCausalLM.from_pretrained(tmp_path)
    merged = network(input_ids=ids, labels=ids).loss.item()
    assert trained < before - 0.3
    assert merged == pytest.approx(trained, rel=1e-5 if precision == "fp32" else 0.02)


@pytest.mark.parametrize(
    ("targets", "layers"),
    [
        ("all", {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
        ("attention", {"q_proj", "k_proj", "v_proj", "o_proj"}),
        ("mlp", {"gate_proj", "up_proj", "down_proj"}),
    ],
)
def test_adapters_stand_on_the_layers_asked_for(
    tiny_folder: Path, spec: TrainingSpec, targets: str, layers: set[str]
) -> None:
    trainee = load_trainee(tiny_folder, replace(spec, lora_targets=LoraTargets(targets)))
    assert {name.split(".lora_")[0].split(".")[-1] for name in trainee.parameters} == layers


def test_alpha_scales_what_adapters_add(
    tiny_folder: Path, spec: TrainingSpec, tmp_path: Path
) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_folder).state_dict()
    name = "model.layers.0.self_attn.q_proj.weight"
    added = []
    for alpha in (None, 8.0, 4.0):
        changed = replace(spec, lora_alpha=alpha, lora_targets=LoraTargets.ATTENTION)
        trainee = load_trainee(tiny_folder, changed)
        weights = {key: torch.ones_like(one) for key, one in trainee.weights().items()}
        save_merged(tiny_folder, changed, weights, tmp_path / str(alpha))
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / str(alpha)).state_dict()
        added.append((merged[name] - base[name]).mean().item())
    assert added[0] == pytest.approx(added[1], rel=1e-4), "twice the rank of 4 by default"
    assert added[2] == pytest.approx(added[1] / 2, rel=1e-4)


def test_weights_of_another_kind_are_refused(tiny_folder: Path, spec: TrainingSpec) -> None:
    lora = load_trainee(tiny_folder, spec)
    full = load_trainee(tiny_folder, replace(spec, method=Method.FULL))
    with pytest.raises(TrainingError, match="another kind"):
        full.restore(lora.weights())


@pytest.mark.parametrize(
    ("flags", "fast"),
    [("flags : avx2 avx512_bf16", True), ("Features : asimd bf16", True), ("flags : avx2", False)],
)
def test_bf16_is_chosen_only_where_the_processor_has_it(
    tmp_path: Path, flags: str, fast: bool
) -> None:
    (tmp_path / "cpuinfo").write_text(flags)
    assert has_fast_bf16(tmp_path / "cpuinfo") is fast
    assert has_fast_bf16(tmp_path / "missing") is False

"""The real encoder, against transformers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meted.domain.request import (
    EmbeddingPrompt,
    EngineRequest,
    FinishReason,
    RequestRejectedError,
    Sampling,
    TextPrompt,
)
from meted.domain.units import RequestId
from meted.live.checkpoints import CheckpointRegistry
from meted.live.checkpoints.builtin import locate
from meted.testing.check_engine import check_engine

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]

TEXTS = (
    "The price of a device-hour",
    "What does one hour of a machine cost?",
    "A cat sat on the mat, and it was warm there.",
    "naïve 日本語 💙",
    "word " * 300,
)
REFERENCE = """
import json, sys, torch
from transformers import AutoModel, AutoTokenizer
folder, texts = json.load(sys.stdin)
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
for text in texts:
    batch = tokenizer(text, return_tensors="pt", padding=False, truncation=False)
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state[0]
    print(json.dumps(torch.nn.functional.normalize(hidden.mean(0), dim=0).tolist()))
"""


@pytest.fixture(scope="module")
def engine(minilm: CheckpointRegistry) -> Any:
    from meted.live.engines.embedding import EmbeddingEngine

    folder = minilm.get("all-minilm-l6-v2").folder
    return EmbeddingEngine(folder=folder, threads=2, max_batch=2)


def embed(name: str, *texts: str) -> EngineRequest:
    return EngineRequest(request_id=RequestId(name), prompt=EmbeddingPrompt(texts=texts))


def reference(folder: Path) -> list[list[float]]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", REFERENCE],
        input=json.dumps([str(folder), TEXTS]),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_it_conforms(engine: Any):
    def make(request_id: RequestId, *, tokens: int, sampling: Sampling) -> EngineRequest:
        return embed(request_id, "word " * tokens)

    check_engine(engine, make_request=make)


def test_vectors_are_those_of_transformers(engine: Any):
    engine.add(embed("all", *TEXTS))
    outputs: list[Any] = []
    steps = 0
    while engine.busy:
        outputs += engine.step().outputs
        steps += 1
    assert steps == 3, "a step takes at most max_batch texts"
    (output,) = outputs
    assert output.finish_reason is FinishReason.STOP
    ours = np.array(output.embeddings)
    theirs = np.array(reference(locate("all-minilm-l6-v2")))
    assert ours.shape == theirs.shape == (5, 384)
    assert np.linalg.norm(ours, axis=1) == pytest.approx(np.ones(5), abs=1e-4)
    assert ((ours * theirs).sum(axis=1) > 0.999).all()
    assert ours[0] @ ours[1] > ours[0] @ ours[2], "what means the same is not closer"


def test_a_text_alone_and_in_company_gives_one_vector(engine: Any):
    vectors: list[Any] = []
    for name, texts in (("alone", TEXTS[:1]), ("company", (TEXTS[0], TEXTS[4]))):
        engine.add(embed(name, *texts))
        vectors.append(np.array(engine.step().outputs[0].embeddings[0]))
    assert vectors[0] @ vectors[1] > 0.9999


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (embed("none"), "input"),
        (embed("long", "short", "word " * 600), "input"),
        (EngineRequest(request_id=RequestId("t"), prompt=TextPrompt(text="hello")), "model"),
    ],
)
def test_what_cannot_be_embedded_is_refused_by_field(
    engine: Any, request_: EngineRequest, param: str
):
    with pytest.raises(RequestRejectedError) as caught:
        engine.add(request_)
    assert caught.value.param == param

"""The chosen configuration is a file that a house takes; refusals come before work."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from meted.cli.main import main
from meted.cli.optimise_serving_tables import yaml_of
from meted.domain.configuration import Configuration
from meted.domain.deployment import SLO
from meted.domain.engine_settings import CachePrecision, EngineSettings, prompt_lookup
from meted.domain.units import Micros
from meted.live.config import load_config
from meted.live.tuning.documents import plain
from meted.testing.house import shared_checkpoints

LIMITS = SLO(ttft_p95=Micros(900_000), tpot_p95=Micros(70_000))
SET = Configuration(
    checkpoint="smollm2-135m",
    settings=EngineSettings(
        engine="openvino",
        threads=1,
        chunk_tokens=512,
        cache=CachePrecision.FP16,
        prefix_cache=False,
        speculation=prompt_lookup(tokens=4, ngram=2),
    ),
    max_batch=4,
)


def test_what_is_chosen_is_a_configuration_file(tmp_path: Path) -> None:
    path = tmp_path / "chosen.yaml"
    slo = {"ttft_p95_ms": 900.0, "tpot_p95_ms": 70.0}
    path.write_text(yaml_of({"chosen": plain(SET), "slo": slo}))
    [found] = load_config(path).deployments
    assert (found.checkpoint, found.settings, found.max_batch) == (
        SET.checkpoint,
        SET.settings,
        SET.max_batch,
    )
    assert found.slo == LIMITS


def test_defaults_are_not_repeated() -> None:
    assert plain(Configuration(checkpoint="one")) == {"checkpoint": "one", "max_batch": 16}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--traffic", "none.csv"], "is no file and no numbers"),
        (["--traffic", "rate=1,input=50,output=5", "--levers", "luck"], "no lever 'luck'"),
        (["--traffic", "rate=1,input=50,output=5", "--effort", "0"], "--effort"),
    ],
)
def test_what_cannot_be_searched_is_refused(tmp_path: Path, more: list[str], told: str) -> None:
    """A checkpoint on disk is not asked for: the built-in one is made when it is first needed."""
    text = tmp_path / "text.txt"
    text.write_text("Some words. " * 400)
    arguments = ["optimise", "serving", "smollm2-135m", "--data", str(text)]
    found = CliRunner().invoke(main, [*arguments, "--home", str(tmp_path / "home"), *more])
    assert found.exit_code != 0
    assert told in found.output
    assert not (tmp_path / "home" / "checkpoints").exists()


@pytest.mark.e2e
def test_a_search_on_the_real_model_ends_with_a_configuration(tmp_path: Path) -> None:
    """Two candidates, eight short requests: the answer is one of them, with its evidence."""
    home = tmp_path / "home"
    shutil.copytree(shared_checkpoints(), home / "checkpoints")
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"Chapter {n}. Of the number {n * 7919}." for n in range(400)))
    out = tmp_path / "chosen.yaml"
    arguments = ["optimise", "serving", "smollm2-135m", "--data", str(text), "--home", str(home)]
    more = ["--traffic", "rate=4,input=60,output=8", "--requests", "8", "--effort", "1.5"]
    ended = CliRunner().invoke(
        main, [*arguments, *more, "--levers", "prefix", "--out", str(out), "--json"]
    )
    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.stdout)
    keys = {"smollm2-135m", "smollm2-135m, no prefix cache"}
    assert {one["key"] for one in found["evidence"]} == keys
    assert all(one["cost"] > 0 for one in found["evidence"])
    assert found["effort"] <= 1.5 + 3 / 8, "a last measurement has three requests at least"
    assert len(found["rejected"]) == 1 and found["rejected"][0]["reason"]
    [chosen] = load_config(out).deployments
    assert chosen.checkpoint == "smollm2-135m"


@pytest.mark.parametrize("kind", ["model", "serving"])
def test_a_job_is_handed_to_a_house_that_runs(tmp_path: Path, kind: str) -> None:
    """Without one there is nobody to hand it to."""
    text = tmp_path / "text.txt"
    text.write_text("Some words. " * 400)
    arguments = ["optimise", kind, "smollm2-135m", "--data", str(text), "--detach"]
    more = ["--traffic", "house"] if kind == "serving" else []
    found = CliRunner().invoke(main, [*arguments, *more, "--home", str(tmp_path / "home")])
    assert found.exit_code == 2
    assert "--detach hands a job to a house, and none runs" in found.output

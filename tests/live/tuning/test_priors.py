"""What the predictor does not know is believed neither cheap nor dear, only doubtful."""

import pytest

from meted.domain.configuration import Configuration
from meted.domain.engine_settings import EngineSettings, prompt_lookup
from meted.live.tuning.priors import CHECKPOINT, UNKNOWN, as_candidates
from meted.optimise.belief import Candidate

PLAIN = Configuration(checkpoint="plain")
GUESSED = Configuration(checkpoint="guessed", settings=EngineSettings(speculation=prompt_lookup()))
STRANGE = Configuration(checkpoint="strange", settings=EngineSettings(engine="llamacpp"))


def doubts(one: Candidate) -> dict[str, float]:
    return {trait.name: trait.doubt for trait in one.traits}


def test_an_unknown_configuration_is_as_dear_as_the_others_with_more_doubt() -> None:
    plain, guessed, strange = as_candidates([PLAIN, GUESSED, STRANGE], [-4.0, -5.0, None], {})
    assert (plain.log_cost, guessed.log_cost) == (-4.0, -5.0)
    assert strange.log_cost == pytest.approx(-4.5)
    assert doubts(plain)["openvino plain"] == CHECKPOINT
    assert doubts(strange)["llamacpp strange"] == UNKNOWN


def test_where_nothing_is_known_all_are_alike() -> None:
    found = as_candidates([PLAIN, STRANGE], [None, None], {})
    assert {one.log_cost for one in found} == {0.0}


def test_what_a_setting_does_is_shared_by_the_variants_of_an_engine() -> None:
    settings = EngineSettings(threads=1, speculation=prompt_lookup())
    both = Configuration(checkpoint="plain", settings=settings, max_batch=4)
    other = Configuration(checkpoint="guessed", settings=EngineSettings(threads=1), max_batch=4)
    foreign = Configuration(
        checkpoint="plain", settings=EngineSettings(engine="llamacpp", threads=1)
    )
    mine, its, far = (doubts(one) for one in as_candidates([both, other, foreign], [-4.0] * 3, {}))
    assert mine.keys() & its.keys() == {"openvino", "openvino threads 1", "openvino batch 4"}
    assert len(mine) == 5 and not mine.keys() & far.keys()


def test_settings_together_are_more_doubtful_than_each_alone() -> None:
    alone = Configuration(checkpoint="plain", settings=EngineSettings(threads=1))
    both = Configuration(checkpoint="plain", settings=EngineSettings(threads=1), max_batch=4)
    one, two = as_candidates([alone, both], [-4.0, -4.0], {})
    assert two.doubt > one.doubt


def test_a_rejected_variant_brings_its_reason() -> None:
    plain, strange = as_candidates([PLAIN, STRANGE], [-4.0, -4.0], {"strange": "quality: +0.2"})
    assert plain.infeasible is None and strange.infeasible == "quality: +0.2"

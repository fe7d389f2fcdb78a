"""What the predictor does not know is believed neither cheap nor dear, only doubtful."""

import pytest

from meted.domain.configuration import Configuration
from meted.domain.engine_settings import EngineSettings, prompt_lookup
from meted.live.tuning.priors import FOREIGN, KNOWN, UNKNOWN, as_candidates

PLAIN = Configuration(checkpoint="plain")
GUESSED = Configuration(checkpoint="guessed", settings=EngineSettings(speculation=prompt_lookup()))
STRANGE = Configuration(checkpoint="strange", settings=EngineSettings(engine="llamacpp"))


def test_an_unknown_configuration_is_as_dear_as_the_others_with_more_doubt() -> None:
    plain, guessed, strange = as_candidates([PLAIN, GUESSED, STRANGE], [-4.0, -5.0, None], {})
    assert (plain.log_cost, plain.doubt) == (-4.0, KNOWN)
    assert (guessed.log_cost, guessed.doubt) == (-5.0, FOREIGN)
    assert strange.log_cost == pytest.approx(-4.5)
    assert strange.doubt == UNKNOWN


def test_where_nothing_is_known_all_are_alike() -> None:
    found = as_candidates([PLAIN, STRANGE], [None, None], {})
    assert {one.log_cost for one in found} == {0.0}


def test_candidates_err_alike_by_engine_and_variant() -> None:
    plain, guessed, strange = as_candidates([PLAIN, GUESSED, STRANGE], [-4.0] * 3, {})
    assert len({plain.family, guessed.family, strange.family}) == 3


def test_a_rejected_variant_brings_its_reason() -> None:
    plain, strange = as_candidates([PLAIN, STRANGE], [-4.0, -4.0], {"strange": "quality: +0.2"})
    assert plain.infeasible is None and strange.infeasible == "quality: +0.2"

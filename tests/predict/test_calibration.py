"""Calibration: from no points upward, narrower with each, in any order, kept and carried on."""

import json
import random
from dataclasses import replace

import pytest

from meted.domain.algorithm import Parallelism, ServingAlgorithm
from meted.domain.catalogue.architectures import ARCHITECTURES
from meted.domain.catalogue.device_kinds import DEVICE_KINDS
from meted.predict.calibration import FACTOR_NAMES, PRIOR, Calibration, MeasuredStep, calibrate
from meted.predict.probing import choose_probes
from meted.predict.roofline import Factors, Setup, predict_replica
from meted.predict.step_time import StepWork

TRUE = Factors(
    compute=0.62,
    memory=0.81,
    cache=0.5,
    link=0.4,
    spill=0.5,
    fixed_micros=3_000.0,
    prompt_micros=6_000.0,
    layer_micros=220.0,
    sequence_micros=150.0,
    message_micros=7.0,
)


def setup(tensor: int = 4) -> Setup:
    return Setup(
        architecture=ARCHITECTURES["llama-2-70b"],
        kind=DEVICE_KINDS["a100-80gb"],
        algorithm=ServingAlgorithm(parallelism=Parallelism(tensor=tensor)),
    )


def work(prefill: int, decode: int, context: int) -> StepWork:
    return StepWork(
        prefill_tokens=prefill,
        decode_tokens=decode,
        context_tokens=decode * context,
        attended=prefill * prefill // 2,
    )


def measured(work: StepWork, tensor: int = 4, factor: float = 1.0) -> MeasuredStep:
    one = setup(tensor)
    return MeasuredStep(
        setup=one, work=work, micros=factor * predict_replica(one, TRUE).step.micros(work)
    )


WORKS = [
    *(work(tokens, 0, 0) for tokens in (64, 300, 1_000, 2_000, 6_000, 12_000)),
    *(work(0, batch, 700) for batch in (1, 5, 17, 40, 100, 200)),
]


def some_points(count: int, seed: int = 5) -> list[MeasuredStep]:
    rng = random.Random(seed)
    return [
        measured(rng.choice(WORKS), rng.choice([2, 4, 8]), rng.uniform(0.97, 1.03))
        for _ in range(count)
    ]


def test_nothing_measured_is_the_prior() -> None:
    assert calibrate([]).factors == PRIOR.factors
    assert calibrate([]).points == 0


def test_an_interval_before_measuring_is_as_wide_as_engines_differ() -> None:
    for one in WORKS:
        estimate = calibrate([]).predict(setup(), one)
        assert 2.5 < estimate.spread < 30
        assert estimate.low < measured(one).micros < estimate.high


def test_intervals_narrow_with_points() -> None:
    spreads = [
        sum(calibrate(some_points(count)).predict(setup(), one).spread for one in WORKS)
        for count in (0, 3, 12, 60)
    ]
    assert spreads == sorted(spreads, reverse=True)
    assert spreads[-1] < 1.25 * len(WORKS)


def test_a_higher_level_is_a_wider_interval() -> None:
    calibration = calibrate(some_points(6))
    half, most = (calibration.predict(setup(), WORKS[0], level) for level in (0.5, 0.95))
    assert most.low < half.low < half.expected == most.expected < half.high < most.high


def test_true_factors_predict_what_was_never_measured() -> None:
    calibration = calibrate(some_points(40))
    for one in (work(500, 0, 0), work(9_000, 0, 0), work(0, 60, 3_000), work(512, 30, 900)):
        for tensor in (2, 4, 8):
            estimate = calibration.predict(setup(tensor), one)
            truth = measured(one, tensor).micros
            assert estimate.expected == pytest.approx(truth, rel=0.08)
            assert estimate.low < truth < estimate.high


def test_a_replica_has_the_fitted_step_time() -> None:
    calibration = calibrate(some_points(6))
    assert calibration.replica(setup()).step.micros(WORKS[3]) == pytest.approx(
        calibration.predict(setup(), WORKS[3]).expected
    )


def test_points_in_any_order_give_one_calibration() -> None:
    points = some_points(9)
    assert calibrate(points) == calibrate(points[::-1]) == calibrate(points[4:] + points[:4])


def test_alike_steps_do_not_pass_for_many_proofs() -> None:
    points = some_points(4)
    once, often = calibrate(points), calibrate(points * 50)
    assert often.prompt_noise.points == once.prompt_noise.points
    for one in WORKS:
        spreads = [each.predict(setup(), one).spread for each in (often, once)]
        assert spreads[0] == pytest.approx(spreads[1], rel=1e-3)


def test_a_step_unlike_all_that_was_measured_is_doubted_more() -> None:
    calibration = calibrate(some_points(40))
    prompts = calibrate([measured(one) for one in WORKS[:6]])
    elsewhere = replace(calibration, regimes=prompts.regimes)
    for one, factor in ((WORKS[2], 1.0), (WORKS[11], 1.2)):
        before, after = (each.predict(setup(), one) for each in (calibration, elsewhere))
        assert after.expected == before.expected
        assert after.spread >= factor * before.spread


def test_a_calibration_survives_json() -> None:
    calibration = calibrate(some_points(6))
    kept = json.loads(json.dumps(calibration.to_dict()))
    assert Calibration.from_dict(kept) == calibration


def test_a_calibration_with_other_factors_is_refused() -> None:
    kept = calibrate([]).to_dict()
    kept["factors"]["vibes"] = kept["factors"].pop("memory")
    with pytest.raises(ValueError, match=r"vibes.*calibrate again"):
        Calibration.from_dict(kept)


def test_observing_more_continues_the_calibration() -> None:
    first = calibrate(some_points(6, seed=1))
    later = first.observe(some_points(12, seed=2))
    assert later.points == 18
    error = [
        abs(one.predict(setup(2), WORKS[6]).expected / measured(WORKS[6], 2).micros - 1)
        for one in (calibrate([]), later)
    ]
    assert error[1] < 0.08 < error[0]


def test_a_long_life_still_follows_a_change() -> None:
    calibration = calibrate(some_points(30))
    slower = [replace(point, micros=1.5 * point.micros) for point in some_points(20, seed=9)]
    for _ in range(10):
        calibration = calibration.observe(slower)
    truth = 1.5 * measured(WORKS[8]).micros
    assert calibration.predict(setup(), WORKS[8]).expected == pytest.approx(truth, rel=0.1)
    assert calibration.decode_noise.points < 60


def test_moving_to_another_kind_widens_and_keeps_the_centre() -> None:
    calibration = calibrate(some_points(12))
    moved = calibrate([], calibration.as_prior(device=0.2, host=0.4))
    assert moved.factors == calibration.factors
    for one in WORKS:
        before, after = (each.predict(setup(), one) for each in (calibration, moved))
        assert after.spread > before.spread


@pytest.mark.parametrize(("device", "host"), [(0.4, 0.0), (0.0, 0.4)])
def test_each_doubt_widens_what_it_is_about(device: float, host: float) -> None:
    calibration = calibrate(some_points(40))
    moved = calibrate([], calibration.as_prior(device=device, host=host))
    computing, launching = (
        moved.predict(where, one).spread / calibration.predict(where, one).spread
        for where, one in ((setup(2), WORKS[5]), (setup(8), WORKS[6]))
    )
    assert (computing > 1.5) == (device > 0)
    assert (launching > 1.5) == (host > 0)


def test_a_faster_host_is_doubted_as_a_whole() -> None:
    calibration = calibrate(some_points(40))
    wider = calibration.as_prior(host=0.4)
    layer, fixed = FACTOR_NAMES.index("layer_micros"), FACTOR_NAMES.index("fixed_micros")
    shared = wider.covariance[layer][fixed] - calibration.covariance[layer][fixed]
    assert shared == pytest.approx(0.16)


def test_draws_spread_as_the_interval_does() -> None:
    calibration = calibrate(some_points(3))
    estimate = calibration.predict(setup(), WORKS[7])
    times = [
        predict_replica(setup(), factors).step.micros(WORKS[7]) for factors in calibration.draws(64)
    ]
    inside = sum(estimate.low <= time <= estimate.high for time in times)
    assert inside >= 50
    assert max(times) / min(times) > estimate.spread**0.5 > 1.05


def test_a_measured_step_takes_time() -> None:
    with pytest.raises(ValueError, match="took 0 us"):
        MeasuredStep(setup=setup(), work=WORKS[0], micros=0)


def test_probes_cover_prompts_and_decodes_and_beat_repeating_one() -> None:
    candidates = [[(setup(tensor), one)] for tensor in (2, 8) for one in WORKS]
    chosen = choose_probes(candidates, 4)
    assert len(set(chosen)) == 4
    probes = [candidates[index][0] for index in chosen]
    assert {one.prefill_tokens > 0 for _, one in probes} == {True, False}
    informed = calibrate(
        [measured(one, where.algorithm.parallelism.tensor) for where, one in probes]
    )
    repeated = calibrate([measured(WORKS[0])] * 4)
    widths = [
        sum(each.predict(*candidate[0]).spread for candidate in candidates)
        for each in (informed, repeated)
    ]
    assert widths[0] < 0.6 * widths[1]


def test_a_second_probe_is_not_like_the_first() -> None:
    alike = [[(setup(), one)] for one in (WORKS[4], WORKS[4], WORKS[5], WORKS[6])]
    assert set(choose_probes(alike, 2)) - {3} < {0, 1, 2}
    assert 3 in choose_probes(alike, 2)


def test_no_probe_is_chosen_twice() -> None:
    assert sorted(choose_probes([[(setup(), WORKS[0])]] * 3, 3)) == [0, 1, 2]


def test_more_probes_than_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match="2 probes are asked for, but only 1"):
        choose_probes([[(setup(), WORKS[0])]], 2)

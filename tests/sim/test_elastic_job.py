"""Laws of elastic jobs: pace follows measurements and noise, epoch by epoch."""

import pytest

from meted.predict.training.elastic import ElasticProfile, EpochSample, StepSample, placement
from meted.predict.training.statistical import GradientNoise
from meted.sim.elastic_job import ElasticJob


def make_profile() -> ElasticProfile:
    shapes = [(1,), (2,), (4,), (4, 4)]
    steps = [
        StepSample(
            placement=shape,
            nodes=len(shape),
            devices=sum(shape),
            local_batch=local,
            step_seconds=0.01 * local + 0.1 * len(shape),
            sync_seconds=0.1 * len(shape),
        )
        for shape in shapes
        for local in (8, 16, 32)
    ]
    epochs = {
        batch: [
            EpochSample(progress=at, noise=GradientNoise(squared=1.0, variance=ratio))
            for at, ratio in ((100.0, 1.0), (200.0, 50.0))
        ]
        for batch in (16, 256)
    }
    return ElasticProfile(
        name="made", steps=steps, epochs=epochs, least_local=8, most_local=32, node_devices=4
    )


def test_a_fixed_batch_goes_at_the_measured_pace() -> None:
    job = ElasticJob(profile=make_profile(), kind="t4", counts=(2,), batch=32)
    pace = job.steps_per_second(0.0, kind="t4", devices=2, nodes=1)
    assert pace == pytest.approx((2.0 / 1.5) / (0.16 + 0.1))
    assert job.options(0.0)[0].steps_per_second == pytest.approx(pace)


def test_an_adaptive_job_speeds_up_when_its_noise_grows() -> None:
    job = ElasticJob(profile=make_profile(), kind="t4", counts=(8,))
    early = job.steps_per_second(0.0, kind="t4", devices=8, nodes=2)
    assert job.steps_per_second(150.0, kind="t4", devices=8, nodes=2) > 2 * early


def test_the_pace_is_steady_until_the_epoch_ends() -> None:
    job = ElasticJob(profile=make_profile(), kind="t4", counts=(1,))
    assert job.steady_until(0.0) == 100.0
    assert job.steady_until(100.0) == 200.0
    assert job.steps == 200.0


def test_what_does_not_fit_is_accumulated() -> None:
    split = make_profile().split(256, 4)
    assert (split.local, split.accumulated) == (32, 1)


def test_a_place_has_full_nodes_first_and_one_name_for_its_rotations() -> None:
    assert placement(6, 2, 4) == (2, 4)
    assert placement(4, 2, 4) == (2, 2)

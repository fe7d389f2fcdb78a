"""Goodput: the checkpoint interval is the best there is, and time lost adds up."""

import pytest

from meted.predict.training.goodput import (
    MTBF_DEVICE_HOURS,
    goodput,
    wall_per_work,
    young_daly_seconds,
)


@pytest.mark.parametrize("checkpoint", [5.0, 60.0, 600.0])
@pytest.mark.parametrize("mtbf", [3_600.0, 10_000.0, 200_000.0])
def test_interval_loses_least_of_all(checkpoint: float, mtbf: float) -> None:
    def lost(interval: float) -> float:
        return wall_per_work(
            interval_seconds=interval,
            checkpoint_seconds=checkpoint,
            mtbf_seconds=mtbf,
            restart_seconds=900,
        )

    daly = young_daly_seconds(checkpoint_seconds=checkpoint, mtbf_seconds=mtbf)
    tried = [daly * (0.2 + 0.02 * step) for step in range(200)]
    best = min(tried, key=lost)
    assert lost(daly) <= lost(best) * (1 + 1e-4)
    assert daly == pytest.approx(best, rel=0.05)


def test_short_checkpoints_come_by_youngs_rule() -> None:
    daly = young_daly_seconds(checkpoint_seconds=1, mtbf_seconds=1e6)
    assert daly == pytest.approx((2 * 1e6) ** 0.5, rel=0.01)


def test_llama_3_is_interrupted_419_times_in_54_days() -> None:
    told = goodput(
        productive_hours=54 * 24,
        devices=16_384,
        checkpoint_bytes=12 * 405e9,
        storage_bytes_per_second=2e12,
    )
    assert told.expected_failures * told.productive == pytest.approx(419, rel=1e-6)
    # The report says above 90 %.
    assert 0.90 < told.productive < 0.97


def test_lost_hours_and_productive_hours_are_all_hours() -> None:
    told = goodput(
        productive_hours=1000,
        devices=1024,
        checkpoint_bytes=2e12,
        storage_bytes_per_second=10e9,
    )
    lost = told.checkpoint_hours + told.rework_hours + told.restart_hours
    assert 1000 + lost == pytest.approx(1000 / told.productive, rel=1e-6)
    assert min(told.checkpoint_hours, told.rework_hours, told.restart_hours) > 0


def test_more_devices_fail_more_often_and_checkpoint_more_often() -> None:
    few, many = (
        goodput(
            productive_hours=1000,
            devices=devices,
            checkpoint_bytes=2e12,
            storage_bytes_per_second=10e9,
        )
        for devices in (64, 4096)
    )
    assert many.mtbf_hours == pytest.approx(MTBF_DEVICE_HOURS / 4096)
    assert many.checkpoint_interval_seconds < few.checkpoint_interval_seconds
    assert many.productive < few.productive


def test_failures_faster_than_restarts_are_refused() -> None:
    with pytest.raises(ValueError, match="one fails every"):
        goodput(
            productive_hours=1000,
            devices=10_000_000,
            checkpoint_bytes=1e13,
            storage_bytes_per_second=1e9,
        )

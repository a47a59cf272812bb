"""Schedules against their closed forms, at the recipe's own durations."""

import math

import pytest

from slim_fast.training.config import OptimConfig
from slim_fast.training.schedules import ScheduleValues, compute_schedules, cosine

STEPS, BATCH, EPOCH = 150 * 1250, 768, 1250
PEAK = 2e-4 * math.sqrt(768 / 1024)


def at(step: int, steps: int = STEPS, **changes: object) -> ScheduleValues:
    return compute_schedules(step, steps, BATCH, OptimConfig(**changes))


def test_learning_rate_warms_up_linearly_from_zero_over_20_epochs() -> None:
    assert at(0).learning_rate == 0
    for step in (1, EPOCH, 10 * EPOCH, 20 * EPOCH - 1):
        assert at(step).learning_rate == pytest.approx(PEAK * step / (20 * EPOCH), rel=1e-12)
    assert at(20 * EPOCH).learning_rate == pytest.approx(PEAK, rel=1e-12)


@pytest.mark.parametrize("batch", [64, 768, 1024, 4096])
def test_peak_grows_with_the_square_root_of_the_batch(batch: int) -> None:
    peak = max(
        compute_schedules(step, 300, batch, OptimConfig()).learning_rate for step in range(300)
    )
    assert peak == pytest.approx(2e-4 * math.sqrt(batch / 1024), rel=1e-3)


def test_learning_rate_falls_as_half_a_cosine_to_its_end() -> None:
    first, last = 20 * EPOCH, STEPS - 1
    for step in (first, first + 1, (first + last) // 2, last - 1, last):
        expected = (
            1e-6 + (PEAK - 1e-6) * (1 + math.cos(math.pi * (step - first) / (last - first))) / 2
        )
        assert at(step).learning_rate == pytest.approx(expected, rel=1e-12)
    assert at(last).learning_rate == pytest.approx(1e-6, rel=1e-9)


def test_weight_decay_and_momentum_are_half_cosines_over_the_whole_run() -> None:
    assert (at(0).weight_decay, at(0).teacher_momentum) == pytest.approx((0.04, 0.994), rel=1e-12)
    assert (at(STEPS - 1).weight_decay, at(STEPS - 1).teacher_momentum) == pytest.approx(
        (0.2, 1.0), rel=1e-12
    )
    for step in (1, 1000, STEPS // 3, STEPS - 2):
        shape = (1 - math.cos(math.pi * step / (STEPS - 1))) / 2
        assert at(step).weight_decay == pytest.approx(0.04 + 0.16 * shape, rel=1e-12)
        assert at(step).teacher_momentum == pytest.approx(0.994 + 0.006 * shape, rel=1e-12)


def test_teacher_temperature_rises_linearly_over_30_epochs_and_stays() -> None:
    for step in (0, 1, 10 * EPOCH, 30 * EPOCH):
        assert at(step).teacher_temperature == pytest.approx(
            0.04 + 0.03 * step / (30 * EPOCH), rel=1e-12
        )
    assert (
        at(30 * EPOCH + 1).teacher_temperature
        == at(STEPS - 1).teacher_temperature
        == pytest.approx(0.07)
    )


def test_prototypes_are_frozen_for_one_epoch() -> None:
    assert [at(step).prototypes_frozen for step in (0, EPOCH - 1, EPOCH, STEPS - 1)] == [
        True,
        True,
        False,
        False,
    ]
    assert not at(0, freeze_prototypes=0.0).prototypes_frozen


def test_durations_are_shares_of_the_run() -> None:
    for step in range(0, 1500, 7):
        long, short = at(10 * step, 15000), at(step, 1500)
        assert short.learning_rate == pytest.approx(long.learning_rate, rel=2e-2, abs=1e-8)
        assert short.teacher_temperature == pytest.approx(long.teacher_temperature, rel=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("warmup", [0.0, 0.5, 1.0])
def test_shortest_runs_have_finite_schedules(steps: int, warmup: float) -> None:
    for step in range(steps):
        now = at(step, steps, warmup=warmup, teacher_temperature_warmup=0.0, freeze_prototypes=1.0)
        assert all(math.isfinite(float(value)) for value in vars(now).values())
        assert 0 <= now.learning_rate <= PEAK
        assert 0.04 <= now.teacher_temperature <= 0.07


def test_cosine_stays_at_its_ends_outside_of_them() -> None:
    assert cosine(3.0, 1.0, -0.5) == 3.0
    assert cosine(3.0, 1.0, 1.5) == 1.0
    assert cosine(3.0, 1.0, 0.5) == pytest.approx(2.0)

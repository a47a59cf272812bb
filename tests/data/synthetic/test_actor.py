"""The vocabulary of actions: courses through keys, repetitions, steps, smooth noise."""

import numpy as np
import pytest

from slim_fast.data.synthetic.actor import (
    Actor,
    Timing,
    interpolate_keyframes,
    minimum_jerk,
    smooth_noise,
)
from slim_fast.data.synthetic.bodies import NTU_25, sample_body
from slim_fast.data.synthetic.kinematics import compute_joints


def actor(seed=0, timing=None):
    random = np.random.default_rng(seed)
    return Actor(sample_body(random), timing or Timing(120, 10.0, 90.0), random)


def test_courses_meet_their_points_never_overshoot_and_rest_at_the_ends():
    random = np.random.default_rng(0)
    at = np.cumsum(random.uniform(0.1, 1, 8))
    points = random.normal(0, 1, (8, 3))
    np.testing.assert_allclose(interpolate_keyframes(at, points, at), points, atol=1e-12)
    fine = np.linspace(at[0], at[-1], 5001)
    course = interpolate_keyframes(at, points, fine)
    k = np.clip(np.searchsorted(at, fine, side="right") - 1, 0, 6)
    low, high = np.minimum(points[k], points[k + 1]), np.maximum(points[k], points[k + 1])
    assert (course >= low - 1e-9).all()
    assert (course <= high + 1e-9).all()
    speed = np.diff(course, axis=0) / np.diff(fine)[:, None]
    assert np.abs(speed[[0, -1]]).max() < 0.05
    assert np.abs(np.diff(speed, axis=0)).max() < 0.05 * np.abs(speed).max(), "no kinks"


@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_repetitions_repeat(repeats):
    acting = actor(timing=Timing(40 * repeats + 40, 20.0, 40.0, repeats))
    pulse = acting.pulse()
    assert (pulse[:20] == 0).all()
    assert (pulse[-20:] == 0).all()
    assert ((pulse[1:] > 0.5) & (pulse[:-1] <= 0.5)).sum() == repeats
    once = pulse[20:60]
    for i in range(1, repeats):
        np.testing.assert_allclose(pulse[20 + 40 * i : 60 + 40 * i], once, atol=1e-9)


@pytest.mark.parametrize("distance", [0.6, -0.4])
def test_walking_goes_the_distance_and_does_not_slide(distance):
    acting = actor(seed=3, timing=Timing(200, 5.0, 190.0))
    acting.controls.feet[:] = 0
    still = compute_joints(acting.body, acting.controls)
    acting.step(distance, 0.2, 0.8)
    joints = compute_joints(acting.body, acting.controls) - still
    ankles = joints[:, [NTU_25.joints.index("left_ankle"), NTU_25.joints.index("right_ankle")]]
    np.testing.assert_allclose(ankles[-1, :, 2], -distance, atol=0.02)
    np.testing.assert_allclose(joints[-1, 0, 2], -distance, atol=1e-6)
    speed = np.abs(np.diff(ankles[:, :, 2], axis=0)).min(1)
    assert speed.max() < 0.1 * np.abs(np.diff(ankles[:, :, 2], axis=0)).max(), (
        "one foot always stands"
    )


def test_handedness_mirrors_the_acting_side():
    sides = [actor(seed).near for seed in range(200)]
    assert 0.3 < np.mean(sides) < 0.8
    assert all(actor(seed).toward == 2 * sides[seed] - 1 for seed in range(20))


def test_smoothing_and_noise():
    np.testing.assert_array_equal(minimum_jerk(np.array([-1.0, 0, 0.5, 1, 2])), [0, 0, 0.5, 1, 1])
    seconds = np.arange(900) / 30
    noise = smooth_noise(seconds, np.random.default_rng(0), 400)
    assert noise.shape == (900, 400)
    assert 0.9 < noise.std() < 1.1
    assert np.abs(np.diff(noise, axis=0)).max() < 1, "slow"

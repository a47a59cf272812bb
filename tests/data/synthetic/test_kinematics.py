"""Bodies and kinematics: bones keep their lengths, chains reach what they can, rotations turn the
way they say.
"""

import numpy as np
import pytest

from slim_fast.data.synthetic.bodies import NTU_25, sample_body
from slim_fast.data.synthetic.kinematics import (
    Controls,
    compute_joints,
    rotation_matrix,
    solve_two_bones,
)


def at(name):
    return NTU_25.joints.index(name)


def bone_lengths(joints):
    child, parent = np.array(NTU_25.bones).T
    return np.linalg.norm(joints[:, child] - joints[:, parent], axis=-1), child  # (T, 24)


def wild_controls(random, body, frames=50):
    """Controls far outside of what actions ask for."""
    controls = Controls.standing(frames, body)
    for name, values in vars(controls).items():
        setattr(controls, name, values + random.normal(0, 0.7, np.shape(values)))
    return controls


@pytest.mark.parametrize("seed", range(5))
def test_bones_measure_what_the_body_says_whatever_the_controls(seed):
    random = np.random.default_rng(seed)
    body = sample_body(random)
    joints = compute_joints(body, wild_controls(random, body))
    lengths, child = bone_lengths(joints)
    np.testing.assert_allclose(
        lengths, np.broadcast_to(body.bones[child], lengths.shape), rtol=1e-6
    )


@pytest.mark.parametrize("seed", range(20))
def test_bodies_are_plausible_and_alike_on_both_sides(seed):
    body = sample_body(np.random.default_rng(seed))
    assert 1.5 <= body.height <= 1.95
    np.testing.assert_array_equal(body.bones, body.bones[list(NTU_25.mirror)])
    joints = compute_joints(body, Controls.standing(1, body))[0]
    assert 0.88 * body.height < joints[at("head"), 1] < 0.95 * body.height
    assert 0.4 * body.height < joints[at("left_hip"), 1] < 0.6 * body.height
    assert abs(joints[at("left_ankle"), 1] - body.ankle_height) < 0.02
    assert joints[at("left_hand"), 1] < joints[at("left_hip"), 1] + 0.1
    shoulder = joints[at("right_shoulder")]
    assert abs(shoulder[1] - body.shoulder_height) < 0.08


def test_symmetric_controls_give_a_symmetric_body():
    body = sample_body(np.random.default_rng(1))
    controls = Controls.standing(1, body)
    controls.spine[:, 2] = 0
    joints = compute_joints(body, controls)[0]
    mirrored = joints[list(NTU_25.mirror)] * (-1, 1, 1)
    np.testing.assert_allclose(joints, mirrored, atol=1e-12)
    assert joints[at("left_hip"), 0] < 0 < joints[at("right_hip"), 0]
    assert joints[at("left_foot"), 2] < joints[at("left_ankle"), 2], "faces -z"


def test_rotations_turn_left_pitch_forward_and_roll_right():
    ahead, up = np.array([0.0, 0.0, -1.0]), np.array([0.0, 1.0, 0.0])
    assert (rotation_matrix(0.3) @ ahead)[0] < 0
    assert (rotation_matrix(0.0, 0.3) @ up)[2] < 0
    assert (rotation_matrix(0.0, 0.0, 0.3) @ up)[0] > 0
    matrices = rotation_matrix(*np.random.default_rng(0).normal(0, 2, (3, 100)))
    np.testing.assert_allclose(
        matrices @ matrices.swapaxes(1, 2), np.broadcast_to(np.eye(3), (100, 3, 3)), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(matrices), 1)


def test_chains_reach_targets_within_reach_and_bend_towards_the_pole():
    random = np.random.default_rng(0)
    start, pole = random.normal(0, 1, (200, 3)), np.array([0.0, -1.0, 0.2])
    way = random.normal(0, 1, (200, 3))
    target = start + way / np.linalg.norm(way, axis=1, keepdims=True) * random.uniform(
        0.2, 0.45, (200, 1)
    )
    middle, end = solve_two_bones(start, target, 0.28, 0.24, pole)
    np.testing.assert_allclose(end, target, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(middle - start, axis=1), 0.28, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(end - middle, axis=1), 0.24, rtol=1e-6)
    assert ((middle - (start + end) / 2) @ pole > 0).mean() > 0.9


def test_chains_stretch_smoothly_towards_targets_out_of_reach():
    distance = np.linspace(0.3, 2, 400)
    target = distance[:, None] * np.array([1.0, 0.0, 0.0])
    _, end = solve_two_bones(np.zeros((400, 3)), target, 0.28, 0.24, np.array([0.0, -1.0, 0.0]))
    reached = np.linalg.norm(end, axis=1)
    assert (np.diff(reached) >= 0).all()
    assert reached[-1] < 0.28 + 0.24
    slope = np.diff(reached) / np.diff(distance)
    assert np.abs(np.diff(slope)).max() < 0.1, "no kink where the chain becomes straight"

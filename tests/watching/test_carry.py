"""Poses of one skeleton as those of another: joints, axes, places, units, what is undetected."""

import numpy as np
import pytest

from examples.watch_poses import make_landmarks
from slim_fast.data.synthetic import generate_clip
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology
from slim_fast.watching.carry import carry_over, place_people
from slim_fast.watching.poses import PoseFrame, PoseSource
from tests.watching.conftest import LANDMARKS

NTU, COCO = get_topology("ntu-25"), get_topology("coco-17")


def source(topology=LANDMARKS, world="xyzc", image="xyzc") -> PoseSource:
    return PoseSource(topology, world, image, iter(()))


@pytest.fixture(scope="module")
def frames() -> list[PoseFrame]:
    clip = generate_clip("jump", 2, 0, noisy=False).positions
    found = []
    for world, image in zip(*make_landmarks(clip), strict=True):
        half = (image[..., :3] - [0.5, 0.5, 0]) * [2 * 16 / 9, 2, 2 * 16 / 9]
        found.append(PoseFrame(0.0, world, np.concatenate([half, image[..., 3:]], -1)))
    return found


def test_a_body_that_was_made_of_ntus_joints_comes_back(frames):
    """Landmarks were computed from these joints: shared ones return, turned and placed alike."""
    clip = generate_clip("jump", 2, 0, noisy=False).positions[..., 0]
    carry = carry_over(source(), NTU, "xyz")
    got = np.stack([carry(frame)[0] for frame in frames])
    shared = [NTU.joints.index(f"{side}_{part}") for side in ("left", "right") for part in
              ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")]  # fmt: skip
    # to a translation: the camera of the landmarks stands elsewhere, and depth of bodies is lost
    bones = got[:, shared] - got[:, shared].mean(1, keepdims=True)
    want = clip[:, shared] - clip[:, shared].mean(1, keepdims=True)
    np.testing.assert_allclose(bones, want, atol=1e-5)
    # jumping shows, though MediaPipe's hips are always at the origin
    rise, wanted = (x[:, shared].mean(1)[:, 1] for x in (got, clip))
    assert np.corrcoef(rise, wanted)[0, 1] > 0.98
    assert np.ptp(rise) == pytest.approx(np.ptp(wanted), rel=0.15)


def test_a_model_of_the_estimators_skeleton_gets_what_is_converted(frames):
    carry = carry_over(source(), LANDMARKS, "xyzc")
    np.testing.assert_array_equal(carry(frames[3]), frames[3].world)


def test_a_model_of_two_coordinates_gets_the_image(frames):
    carry = carry_over(source(), COCO, "xyc")
    got = carry(frames[3])
    image = frames[3].image
    assert image is not None
    nose = LANDMARKS.joints.index("nose")
    np.testing.assert_allclose(got[0, 0], image[0, nose][[0, 1, 3]])
    with pytest.raises(UserError, match="positions in the image"):
        carry_over(source(image=""), COCO, "xy")


def test_depth_that_is_missing_is_said():
    with pytest.warns(UserWarning, match="trained with depth"):
        carry = carry_over(source(COCO, "", "xyc"), NTU, "xyz")
    people = np.random.default_rng(0).normal(size=(2, 17, 3))
    people[..., 2] = 1
    got = carry(PoseFrame(0.0, image=people))
    assert got.shape == (2, 25, 3)
    assert not got[..., 2].any()
    shoulder = "left_shoulder"
    joint, own = NTU.joints.index(shoulder), COCO.joints.index(shoulder)
    # up is up, and the left side at smaller x, in both
    np.testing.assert_allclose(got[:, joint, :2], people[:, own, :2] * [-1, -1])


def test_a_joint_is_undetected_when_one_it_needs_is():
    carry = carry_over(source(COCO, "xyz", ""), NTU, "xyz")
    people = np.random.default_rng(0).normal(size=(1, 17, 3)) + 3
    people[0, COCO.joints.index("left_hip")] = np.nan
    people[0, COCO.joints.index("nose")] = 0
    got = carry(PoseFrame(0.0, people))[0]
    missing = {NTU.joints[joint] for joint in range(25) if not got[joint].any()}
    assert {"left_hip", "spine_base", "head"} <= missing
    assert not {"right_hip", "left_knee", "left_shoulder"} & missing


def test_a_confidence_the_estimator_lacks_is_certain(frames):
    carry = carry_over(source(world="xyz"), NTU, "xyzc")
    world = frames[0].world
    assert world is not None
    got = carry(PoseFrame(0.0, world[..., :3]))
    assert (got[..., 3] == 1).all()


def test_pixels_are_noticed():
    carry = carry_over(source(COCO, "xyz", ""), NTU, "xyz")
    people = np.random.default_rng(0).normal(size=(1, 17, 3)) * 100
    with pytest.raises(UserError, match=r"A body is \d+ units large"):
        carry(PoseFrame(0.0, people))


def test_people_whose_image_is_missing_stay():
    world = np.random.default_rng(0).normal(size=(2, 33, 4))
    image = np.zeros_like(world)
    image[1, :, :2] = 0.5 * world[1, :, :2] + [0.3, -0.2]
    placed = place_people(world, image)
    np.testing.assert_array_equal(placed[0], world[0])
    np.testing.assert_allclose(placed[1, :, :2], world[1, :, :2] + [0.6, -0.4])
    np.testing.assert_array_equal(placed[1, :, 2:], world[1, :, 2:])

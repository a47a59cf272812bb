"""Parts of skeletons as skeletons: which joints, and that they are whole trees."""

import pytest

from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology, topology_names
from slim_fast.skeletons.correspondence import match_joints
from slim_fast.skeletons.subsets import SUBSETS, take_subset

PELVES = ("hip", "mid_hip", "hip_centre")  # the point between both hips


@pytest.mark.parametrize("name", topology_names())
@pytest.mark.parametrize("subset", SUBSETS)
def test_every_subset_of_every_skeleton(name, subset):
    """Topology itself refuses anything but one connected tree of connected parts."""
    whole = get_topology(name)
    part, kept = take_subset(whole, subset)
    assert part.name == f"{name}/{subset}"
    assert part.joints == tuple(whole.joints[joint] for joint in kept)
    legs = ("hip", "knee", "ankle", "foot", "heel", "toe")
    sides = {"left", "right"} - {subset.split("-")[0]}
    for joint in part.joints:
        assert not any(leg in joint for leg in legs) or joint in PELVES
        assert subset == "upper-body" or not any(side in joint for side in sides)
    assert any("wrist" in joint or "hand" in joint for joint in part.joints)
    assert match_joints(whole, part).kinds == ("same",) * len(kept)


def test_what_becomes_of_the_tree():
    ntu = get_topology("ntu-25")
    arm, kept = take_subset(ntu, "right-arm")
    assert kept == (8, 9, 10, 11, 23, 24)
    assert arm.parents == (-1, 0, 1, 2, 3, 3)
    assert arm.centre == 0  # the shoulder, without the spine
    assert arm.mirror == (0, 1, 2, 3, 4, 5)
    assert arm.parts == {"right_arm": (0, 1, 2, 3, 4, 5)}
    body, _ = take_subset(ntu, "upper-body")
    assert body.joints[body.centre] == "spine_mid"
    assert body.num_joints == 17
    assert body.mirror[body.joints.index("left_hand")] == body.joints.index("right_hand")
    tips, _ = take_subset(ntu, "right_hand_tip,left_thumb,right_thumb,left_hand")
    named = dict(zip(tips.joints, tips.parents, strict=True))
    assert tips.joints == ("left_hand", "left_thumb", "right_hand_tip", "right_thumb")
    assert named == {"left_hand": -1, "left_thumb": 0, "right_hand_tip": 0, "right_thumb": 2}
    assert get_topology("ntu-25/right-arm") == arm


@pytest.mark.parametrize(
    ("subset", "says"),
    [
        ("right-am", r"no joint or part 'right-am' \(did you mean right-arm\?\): give upper-body"),
        ("left_hand,left_hnd", r"did you mean left_hand\?"),
        ("", "no joint or part ''"),
    ],
)
def test_unknown_parts(subset, says):
    with pytest.raises(UserError, match=says):
        take_subset(get_topology("ntu-25"), subset)


def test_a_skeleton_without_the_part():
    with pytest.raises(UserError, match="ntu-25/left-hand has no joints of the subset right-hand"):
        take_subset(get_topology("ntu-25/left-hand"), "right-hand")

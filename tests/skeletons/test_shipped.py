"""The shipped topologies: sizes, anatomy and symmetry."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from slim_fast.skeletons import Topology, get_topology, topology_names

SHIPPED = {
    "ntu-25": 25,
    "kinect-v1-20": 20,
    "utd-mhad-20": 20,
    "coco-17": 17,
    "h36m-17": 17,
    "openpose-18": 18,
    "openpose-25": 25,
    "smpl-24": 24,
    "mediapipe-33": 33,
    "sbu-15": 15,
}
SHARED = (
    Path(os.environ.get("SLIM_FAST_SHARED", Path(__file__).resolve().parents[3] / "shared"))
    / "data"
)


def test_all_are_registered():
    assert set(SHIPPED) <= set(topology_names())


@pytest.mark.parametrize("name", SHIPPED)
class TestEach:
    def test_size_and_name(self, name):
        topology = get_topology(name)
        assert (topology.name, topology.num_joints) == (name, SHIPPED[name])

    def test_order_is_a_permutation_with_parents_first(self, name):
        topology = get_topology(name)
        place = {joint: i for i, joint in enumerate(topology.order)}
        assert sorted(place) == list(range(topology.num_joints))
        assert all(place[parent] < place[child] for child, parent in topology.bones)
        assert len(topology.bones) == topology.num_joints - 1

    def test_round_trip_through_json(self, name):
        topology = get_topology(name)
        assert Topology.from_dict(json.loads(json.dumps(topology.to_dict()))) == topology

    def test_mirror_swaps_exactly_the_sided_names(self, name):
        topology = get_topology(name)
        swap = {"left": "right", "right": "left"}
        for joint, other in enumerate(topology.mirror):
            expected = "_".join(swap.get(word, word) for word in topology.joints[joint].split("_"))
            assert topology.joints[other] == expected

    def test_tree_and_parts_are_their_own_mirror_image(self, name):
        topology = get_topology(name)
        mirror = (*topology.mirror, -1)
        assert all(
            mirror[parent] == topology.parents[mirror[j]]
            for j, parent in enumerate(topology.parents)
        )
        assert set(topology.parts) == {"trunk", "left_arm", "right_arm", "left_leg", "right_leg"}
        for limb in ("arm", "leg"):
            assert (
                tuple(mirror[j] for j in topology.parts[f"left_{limb}"])
                == topology.parts[f"right_{limb}"]
            )
        assert {mirror[j] for j in topology.parts["trunk"]} == set(topology.parts["trunk"])

    def test_limbs_hang_in_anatomical_order(self, name):
        topology = get_topology(name)
        ends = ("hand", "foot") if name == "sbu-15" else ("wrist", "ankle")
        chains = (("shoulder", "elbow", ends[0]), ("hip", "knee", ends[1]))
        for side in ("left", "right"):
            for chain in chains:
                joints = [topology.joints.index(f"{side}_{joint}") for joint in chain]
                assert [topology.parents[joint] for joint in joints[1:]] == joints[:2]

    def test_centre_and_root_lie_on_the_midline(self, name):
        topology = get_topology(name)
        assert topology.mirror[topology.centre] == topology.centre
        assert topology.mirror[topology.root] == topology.root


def test_ntu_25_by_number():
    topology = get_topology("ntu-25")
    expected = (
        -1,
        0,
        20,
        2,
        20,
        4,
        5,
        6,
        20,
        8,
        9,
        10,
        0,
        12,
        13,
        14,
        0,
        16,
        17,
        18,
        1,
        7,
        7,
        11,
        11,
    )
    assert topology.parents == expected
    assert (topology.root, topology.centre, topology.up) == (0, 1, "y")
    assert topology.parts == {
        "trunk": (0, 1, 20, 2, 3),
        "left_arm": (4, 5, 6, 7, 21, 22),
        "right_arm": (8, 9, 10, 11, 23, 24),
        "left_leg": (12, 13, 14, 15),
        "right_leg": (16, 17, 18, 19),
    }


def test_sbu_15_by_number():
    topology = get_topology("sbu-15")
    # its README: head, neck, torso, left arm, right arm, left leg, right leg
    assert topology.parents == (1, 2, -1, 1, 3, 4, 1, 6, 7, 2, 9, 10, 2, 12, 13)
    assert topology.mirror == (0, 1, 2, 6, 7, 8, 3, 4, 5, 12, 13, 14, 9, 10, 11)
    assert topology.parts == {
        "trunk": (2, 1, 0),
        "left_arm": (3, 4, 5),
        "right_arm": (6, 7, 8),
        "left_leg": (9, 10, 11),
        "right_leg": (12, 13, 14),
    }
    assert (topology.root, topology.centre, topology.up) == (2, 2, "y")


def test_published_parents_by_number():
    assert get_topology("smpl-24").parents == (
        *(-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8),
        *(9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21),
    )
    assert get_topology("h36m-17").parents == (
        -1,
        0,
        1,
        2,
        0,
        4,
        5,
        0,
        7,
        8,
        9,
        8,
        11,
        12,
        8,
        14,
        15,
    )
    assert get_topology("utd-mhad-20").parents == (
        1,
        2,
        3,
        -1,
        1,
        4,
        5,
        6,
        1,
        8,
        9,
        10,
        3,
        12,
        13,
        14,
        3,
        16,
        17,
        18,
    )
    assert get_topology("kinect-v1-20").parents == (
        -1,
        0,
        1,
        2,
        2,
        4,
        5,
        6,
        2,
        8,
        9,
        10,
        0,
        12,
        13,
        14,
        0,
        16,
        17,
        18,
    )


@pytest.mark.parametrize(
    ("name", "file"), [("utd-mhad-20", "utd_mhad.npz"), ("kinect-v1-20", "msrc12.npz")]
)
def test_bones_fit_real_recordings(name, file):
    """Bones are rigid and join neighbours: no relabelling of the joints gives nearly as short a
    skeleton.
    """
    if not (SHARED / file).exists():
        pytest.skip(f"{SHARED / file} is not here (private recordings)")
    topology = get_topology(name)
    with np.load(SHARED / file) as data:
        clip = data["x"][: int(data["length"][0]), :, :, 0].astype(np.float32)  # (T, V, 3)
    child, parent = np.array(topology.bones).T

    def lengths(joints):
        return np.linalg.norm(joints[:, child] - joints[:, parent], axis=-1)  # (T, V - 1)

    bones = lengths(clip)
    assert np.median(bones.std(0) / bones.mean(0)) < 0.05
    random = np.random.default_rng(0)
    others = [
        lengths(clip[:, random.permutation(topology.num_joints)]).mean(0).sum() for _ in range(50)
    ]
    assert bones.mean(0).sum() < 0.6 * min(others)
    left, right = (
        clip[:, topology.joints.index(f"{side}_hip")].mean(0) for side in ("left", "right")
    )
    assert left[0] < right[0], "seen by a camera in front, the left side has the smaller x"

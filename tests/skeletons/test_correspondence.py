"""Joints of one skeleton for those of another: every shipped pair, spellings, strangers."""

import itertools
from dataclasses import replace

import pytest

from slim_fast.errors import UserError
from slim_fast.skeletons import Topology, get_topology
from slim_fast.skeletons.correspondence import STAND_INS, SYNONYMS, match_joints

SHIPPED = (
    "coco-17",
    "h36m-17",
    "kinect-v1-20",
    "mediapipe-33",
    "ntu-25",
    "openpose-18",
    "openpose-25",
    "smpl-24",
    "utd-mhad-20",
)
PAIRS = list(itertools.product(SHIPPED, SHIPPED))


def between(source, target):
    return match_joints(get_topology(source), get_topology(target))


def sources(found, joint):
    """{old joint: weight} of a new one."""
    row = found.weights[found.target.joints.index(joint)]
    return {old: share for old, share in zip(found.source.joints, row, strict=True) if share}


def renamed(topology, rename):
    return replace(topology, joints=tuple(map(rename, topology.joints)))


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_every_joint_has_sources_that_mirror_as_it_does(source, target):
    found = between(source, target)
    assert found.guessed == ()
    assert len(found.weights) == found.target.num_joints
    for joint, row in enumerate(found.weights):
        assert len(row) == found.source.num_joints
        assert sum(row) == pytest.approx(1)
        assert min(row) >= 0
        swapped = [row[other] for other in found.source.mirror]
        assert list(found.weights[found.target.mirror[joint]]) == pytest.approx(swapped)
        name = found.target.joints[joint]
        for side, other in (("left", "right"), ("right", "left")):
            assert side not in name.split("_") or not any(
                other in old for old in sources(found, name)
            )


@pytest.mark.parametrize("name", SHIPPED)
def test_to_itself_every_joint_is_itself(name):
    found = between(name, name)
    assert found.weights == tuple(
        tuple(float(i == j) for j in range(found.source.num_joints))
        for i in range(found.source.num_joints)
    )
    assert set(found.kinds) == {"same"}


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_joint_of_the_same_name_is_that_joint(source, target):
    found = between(source, target)
    shared = set(found.source.joints) & set(found.target.joints)
    assert shared
    assert all(sources(found, joint) == {joint: 1} for joint in shared)


@pytest.mark.parametrize(
    ("source", "target", "joint", "expected"),
    [
        ("ntu-25", "kinect-v1-20", "hip_centre", {"spine_base": 1}),
        ("kinect-v1-20", "h36m-17", "hip", {"hip_centre": 1}),
        ("smpl-24", "openpose-25", "mid_hip", {"pelvis": 1}),
        ("openpose-25", "smpl-24", "pelvis", {"mid_hip": 1}),
        ("ntu-25", "h36m-17", "thorax", {"spine_shoulder": 1}),
        ("openpose-18", "kinect-v1-20", "shoulder_centre", {"neck": 1}),
        ("kinect-v1-20", "openpose-18", "neck", {"shoulder_centre": 1}),
        ("kinect-v1-20", "coco-17", "left_ear", {"head": 1}),
        ("coco-17", "kinect-v1-20", "head", {"nose": 1}),
        ("coco-17", "kinect-v1-20", "hip_centre", {"left_hip": 1 / 2, "right_hip": 1 / 2}),
        ("coco-17", "smpl-24", "right_hand", {"right_wrist": 1}),
        ("ntu-25", "smpl-24", "left_collar", {"neck": 1 / 2, "left_shoulder": 1 / 2}),
        (
            "coco-17",
            "smpl-24",
            "spine1",
            dict.fromkeys(("left_hip", "right_hip"), 1 / 3)
            | dict.fromkeys(("left_shoulder", "right_shoulder"), 1 / 6),
        ),
        ("openpose-25", "ntu-25", "left_foot", {"left_big_toe": 1 / 2, "left_small_toe": 1 / 2}),
        ("mediapipe-33", "ntu-25", "right_foot", {"right_foot_index": 1}),
        ("mediapipe-33", "ntu-25", "right_hand", {"right_index": 1 / 2, "right_pinky": 1 / 2}),
        ("openpose-18", "mediapipe-33", "mouth_left", {"nose": 1}),
    ],
)
def test_anatomy(source, target, joint, expected):
    assert sources(between(source, target), joint) == pytest.approx(expected)


def camel(name):
    return "".join(word.title() for word in name.split("_"))


@pytest.mark.parametrize(
    "rename",
    [
        str.upper,
        camel,
        lambda name: camel(name).replace("Left", "L").replace("Right", "R"),
        lambda name: name.replace("left", "l").replace("right", "r"),
        lambda name: (
            "-".join(reversed(name.split("_")))
            if name.startswith(("left", "right")) and name.count("_") == 1
            else name.replace("centre", "Center")
        ),
    ],
    ids=["upper", "camel", "initial", "letter", "side last"],
)
@pytest.mark.parametrize("name", ["ntu-25", "mediapipe-33", "smpl-24", "kinect-v1-20"])
def test_spellings_do_not_matter(name, rename):
    topology = get_topology(name)
    other = renamed(topology, rename)
    assert other.joints != topology.joints
    for source, target in ((topology, other), (other, topology)):
        assert match_joints(source, target).weights == between(name, name).weights


STICK = Topology.from_dict(
    {
        "name": "stick",
        "joints": ["hip", "tail", "tip", "head", "left_wing", "right_wing", "left_hand"],
        "parents": {
            "tail": "hip",
            "tip": "tail",
            "head": "hip",
            "left_wing": "head",
            "right_wing": "head",
            "left_hand": "left_wing",
        },
        "mirror": [["left_wing", "right_wing"]],
        "parts": {"all": ["hip", "tail", "tip", "head", "left_wing", "right_wing", "left_hand"]},
    }
)


def test_unknown_names_are_guessed_along_the_tree_and_told():
    found = match_joints(get_topology("ntu-25"), STICK)
    assert found.guessed == ("tail", "tip", "left_wing", "right_wing")
    assert sources(found, "tail") == sources(found, "tip") == {"spine_base": 1}
    assert sources(found, "left_wing") == {"head": 1 / 2, "left_hand": 1 / 2}
    assert sources(found, "right_wing") == {"head": 1}


def test_a_stranger_s_joints_are_used_by_their_own_names():
    found = match_joints(
        STICK, replace(STICK, name="other", joints=(*STICK.joints[:4], "LWing", "RWing", "x"))
    )
    assert sources(found, "LWing") == {"left_wing": 1}
    assert found.kinds == ("same",) * 6 + ("guessed",)
    assert sources(found, "x") == {"left_wing": 1}


def test_a_name_without_side_is_the_mean_of_both_sides():
    target = Topology.from_dict(
        {
            "name": "two",
            "joints": ["pelvis", "ankle"],
            "parents": {"ankle": "pelvis"},
            "parts": {"a": [0, 1]},
        }
    )
    assert sources(match_joints(get_topology("ntu-25"), target), "ankle") == {
        "left_ankle": 0.5,
        "right_ankle": 0.5,
    }


IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def chain(*joints):
    """Each joint the child of the one before."""
    numbers = list(range(len(joints)))
    return Topology.from_dict(
        {
            "name": "chain",
            "joints": joints,
            "parents": [n - 1 for n in numbers],
            "parts": {"a": numbers},
        }
    )


def test_guesses_do_not_rest_on_guesses():
    found = match_joints(get_topology("ntu-25"), chain("pelvis", "a", "b", "head"))
    assert sources(found, "a") == {"spine_base": 1}
    assert sources(found, "b") == {"head": 1}


def test_of_joints_alike_the_exact_name_counts_and_then_the_first():
    alike = chain("toe_1", "toe1", "Toe1")
    assert match_joints(alike, alike).weights == IDENTITY
    found = match_joints(chain("spine_mid", "spine", "torso"), chain("spine2", "SPINE"))
    assert found.weights == IDENTITY[:2]


def test_names_in_another_script_are_different_names():
    names = ("頭", "手", "足")
    three = Topology.from_dict(
        {"name": "三", "joints": names, "parents": [-1, 0, 0], "parts": {"a": [0, 1, 2]}}
    )
    assert match_joints(three, three).weights == IDENTITY
    with pytest.raises(UserError, match="No joint of 三"):
        match_joints(three, replace(three, joints=("目", "耳", "口")))
    with pytest.raises(
        UserError, match=r"No joint of ntu-25 .* has a counterpart in 三 .*name the joints"
    ):
        match_joints(three, get_topology("ntu-25"))


def test_nothing_in_common_is_refused():
    numbers = renamed(
        get_topology("coco-17"),
        {n: f"p{i}" for i, n in enumerate(get_topology("coco-17").joints)}.get,
    )
    with pytest.raises(
        UserError,
        match=r"No joint of coco-17 \(p0, p1, p2, p3, \.\.\.\) has a counterpart in ntu-25",
    ):
        match_joints(get_topology("ntu-25"), numbers)


def test_the_report_has_a_line_a_joint():
    found = match_joints(get_topology("ntu-25"), STICK)
    lines = [" ".join(line.split()) for line in str(found).splitlines()]
    assert lines == [
        "stick <- ntu-25",
        "hip <- spine_base",
        "tail <- spine_base (guessed)",
        "tip <- spine_base (guessed)",
        "head <- head",
        "left_wing <- 0.5 head + 0.5 left_hand (guessed)",
        "right_wing <- head (guessed)",
        "left_hand <- left_hand",
        "Centred on spine_mid, that is hip.",
    ]
    assert "left_ear       <- head  (related)" in between("ntu-25", "coco-17").describe()


@pytest.mark.parametrize(
    ("source", "target", "joints"),
    [
        ("ntu-25", "coco-17", {"left_shoulder", "right_shoulder", "left_hip", "right_hip"}),
        ("coco-17", "ntu-25", {"head"}),
        ("kinect-v1-20", "utd-mhad-20", {"spine"}),
        ("openpose-25", "openpose-18", {"left_hip", "right_hip"}),
    ],
)
def test_the_origin_is_where_the_old_centre_was(source, target, joints):
    found = between(source, target)
    assert sum(found.origin) == pytest.approx(1)
    assert {
        joint for joint, share in zip(found.target.joints, found.origin, strict=True) if share
    } == joints


def test_without_a_way_back_the_origin_is_the_new_centre():
    neck, ear = (
        Topology.from_dict(
            {"name": name, "joints": [name, "x" + name], "parents": [-1, 0], "parts": {"a": [0, 1]}}
        )
        for name in ("neck", "left_ear")
    )
    assert match_joints(neck, ear).origin == (1.0, 0.0)


def test_stand_ins_and_synonyms_speak_of_landmarks():
    assert SYNONYMS.keys() <= STAND_INS.keys()
    for landmark, stand_ins in STAND_INS.items():
        words = {word for one in stand_ins for word in one.split()}
        assert words <= STAND_INS.keys()
        assert landmark not in words
    stems = [stem for stems in SYNONYMS.values() for stem in stems]
    assert len(stems) == len(set(stems))

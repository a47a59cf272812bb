"""Skeletons of one size are told apart by their joints' names."""

import re
from dataclasses import replace

import pytest

from slim_fast.skeletons import Topology, get_topology, topology_names
from slim_fast.skeletons.compatibility import find_mismatch

NTU, COCO = get_topology("ntu-25"), get_topology("coco-17")
SHIPPED = [get_topology(name) for name in topology_names()]


def permuted(topology: Topology, order: list[int]) -> Topology:
    """Its joint n is the other's joint order[n]."""
    place = {old: new for new, old in enumerate(order)}
    return Topology(
        topology.name + "-permuted",
        tuple(topology.joints[old] for old in order),
        tuple(place.get(topology.parents[old], -1) for old in order),
        tuple(place[topology.mirror[old]] for old in order),
        {part: tuple(place[old] for old in members) for part, members in topology.parts.items()},
        place[topology.centre],
        topology.up,
    )


@pytest.mark.parametrize("ours", SHIPPED, ids=lambda t: t.name)
@pytest.mark.parametrize("theirs", SHIPPED, ids=lambda t: t.name)
def test_shipped_skeletons_fit_themselves_alone(ours, theirs):
    assert (find_mismatch(ours, "xyz", theirs, "xyz") is None) == (ours == theirs)


@pytest.mark.parametrize(
    ("ours", "theirs", "says"),
    [
        ("openpose-25", "ntu-25", "joint 0 is nose in the one and spine_base in the other"),
        (
            "kinect-v1-20",
            "utd-mhad-20",
            "joint 0 is hip_centre .* and head .*the same in another order",
        ),
        ("h36m-17", "coco-17", "joint 0 is hip .* and nose"),
        ("coco-17", "ntu-25", "17 joints are not 25"),
    ],
)
def test_what_sets_them_apart(ours, theirs, says):
    found = find_mismatch(get_topology(ours), "xyz", get_topology(theirs), "xyz")
    assert re.search(says, str(found))


def test_another_order_is_another_skeleton():
    order = [1, 0, *range(2, 25)]
    assert "same in another order" in str(find_mismatch(permuted(NTU, order), "xyz", NTU, "xyz"))


def test_parents_parts_centre_and_spelling_do_not_matter():
    spelt = tuple("".join(word.capitalize() for word in joint.split("_")) for joint in NTU.joints)
    other = replace(
        NTU,
        name="mine",
        joints=spelt,
        centre=0,
        parts={"all": tuple(range(25))},
        parents=(-1, *range(24)),
    )
    assert find_mismatch(other, "xyz", NTU, "xyz") is None


def test_axes_and_channels():
    assert (
        find_mismatch(replace(NTU, up="z"), "xyz", NTU, "xyz")
        == "z points up in the one and y in the other"
    )
    assert find_mismatch(COCO, "xyz", COCO, "xyc") == "the channels xyz are not xyc"
    assert find_mismatch(COCO, "xy", COCO, "xyc") == "the channels xy are not xyc"


def test_numbers_alone_are_compared_where_nothing_else_is_known():
    assert find_mismatch(17, "xyz", COCO, "xyc") is None
    assert find_mismatch(COCO, "xyc", 17, "xyz") is None
    assert find_mismatch(17, "xyz", 17, "xyz") is None
    assert find_mismatch(17, "xy", COCO, "xyc") == "2 channels are not 3"
    assert find_mismatch(25, "xyc", COCO, "xyc") == "25 joints are not 17"

"""What makes a topology valid, and what is said when it is not."""

import json
import pickle

import pytest

from slim_fast.errors import UserError
from slim_fast.skeletons import (
    Topology,
    get_topology,
    register_topology,
    registry,
    topology_names,
)


def biped(**changes):
    fields = {
        "name": "biped",
        "joints": ["left_toe", "hip", "head", "right_toe"],
        "parents": {"left_toe": "hip", "right_toe": "hip", "head": "hip"},
        "mirror": [["left_toe", "right_toe"]],
        "parts": {"trunk": ["hip", "head"], "left_leg": ["left_toe"], "right_leg": ["right_toe"]},
        "centre": "hip",
        "up": "y",
    }
    fields.update(changes)
    return {key: value for key, value in fields.items() if value is not None}


def test_names_become_indices():
    topology = Topology.from_dict(biped())
    assert topology.parents == (1, -1, 1, 1)
    assert topology.mirror == (3, 1, 2, 0)
    assert topology.parts == {"trunk": (1, 2), "left_leg": (0,), "right_leg": (3,)}
    assert (topology.num_joints, topology.root, topology.centre) == (4, 1, 1)
    assert topology.order[0] == 1
    assert set(topology.order) == {0, 1, 2, 3}
    assert set(topology.bones) == {(0, 1), (2, 1), (3, 1)}


@pytest.mark.parametrize(
    "changes",
    [
        {"mirror": None},
        {"mirror": [3, 1, 2, 0]},
        {"mirror": ["right_toe", "hip", "head", "left_toe"]},
        {"parents": [1, -1, 1, 1]},
        {"parents": ["hip", None, "hip", "hip"]},
        {"centre": None},
        {"up": None},
    ],
)
def test_other_spellings_mean_the_same(changes):
    assert Topology.from_dict(biped(**changes)) == Topology.from_dict(biped())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"parents": {"left_toe": "hip", "hip": "head", "head": "hip"}},
            "cycle: hip -> head -> hip",
        ),
        (
            {"parents": {"left_toe": "hip", "right_toe": "right_toe", "head": "hip"}},
            "cycle: right_toe -> right_toe",
        ),
        ({"parents": [1, 2, 3, 0]}, "cycle: left_toe -> hip -> head -> right_toe -> left_toe"),
        (
            {"parents": {"left_toe": "hip", "right_toe": "hip"}},
            r"2 joints have no parent \(hip, head\)",
        ),
        ({"parents": [1, -1, 1]}, "parents has 3 entries for 4 joints"),
        ({"parents": [1, -1, 1, 7]}, "parent of 'right_toe' is joint 7"),
        ({"parents": {"tail": "hip"}}, "parents names the joint 'tail'"),
        ({"mirror": [3, 1, 2, 1]}, "mutual: left_toe -> right_toe, but right_toe -> hip"),
        ({"mirror": [3, 1, 2]}, "mirror has 3 entries"),
        (
            {"mirror": [["left_toe", "right_toe"], ["left_toe", "head"]]},
            "must be two unpaired joints",
        ),
        ({"mirror": [["left_toe", "tail"]]}, "mirror names the joint 'tail'"),
        ({"parts": {"all": ["hip", "head", "left_toe"]}}, "right_toe do not"),
        (
            {"parts": {"all": ["hip", "head", "left_toe", "right_toe"], "more": ["head"]}},
            "in part 'all' and",
        ),
        (
            {"parts": {"trunk": ["hip", "head"], "legs": ["left_toe", "right_toe"]}},
            "joins left_toe, right_toe",
        ),
        (
            {"parts": {"trunk": ["hip", "head", "left_toe", "right_toe"], "none": []}},
            "'none' has no joints",
        ),
        ({"parts": {"trunk": ["hip", "tail"]}}, "part 'trunk' names the joint 'tail'"),
        ({"parts": {"trunk": "hip"}}, "part 'trunk' must be a list"),
        ({"parts": ["hip"]}, "parts must be an object"),
        ({"parts": None}, "lacks the key 'parts'"),
        ({"joints": ["left_toe", "hip", "head", "right_toe", "hip"]}, "'hip' is used twice"),
        ({"joints": "hip"}, "joints must be a list"),
        (
            {"joints": [], "parents": [], "mirror": [], "parts": {}, "centre": 0},
            "at least one joint",
        ),
        ({"centre": "tail"}, "centre names the joint 'tail'"),
        ({"centre": 4}, "centre is joint 4, but joints are numbered 0 to 3"),
        ({"up": "up"}, "choose one of y, -y, z, -z"),
        ({"name": ""}, "non-empty string"),
        ({"root": "hip"}, "unknown key 'root'"),
    ],
)
def test_bad_topologies_name_the_culprit(changes, said):
    with pytest.raises(UserError, match=said):
        Topology.from_dict(biped(**changes))


def test_bad_fields_of_the_dataclass():
    good = get_topology("ntu-25")
    fields = {
        "joints": good.joints,
        "mirror": good.mirror,
        "parts": good.parts,
        "centre": good.centre,
    }
    with pytest.raises(UserError, match="parents must be joint indices"):
        Topology(name="mine", parents=("spine_base",) * 25, **fields)


def test_json_files(tmp_path):
    path = tmp_path / "biped.json"
    path.write_text(json.dumps(biped()))
    assert get_topology(path) == get_topology(str(path)) == Topology.from_dict(biped())
    with pytest.raises(UserError, match="Cannot read"):
        get_topology(tmp_path / "absent.json")
    path.write_text("{half")
    with pytest.raises(UserError, match="not JSON"):
        get_topology(path)
    path.write_text("[1]")
    with pytest.raises(UserError, match="not a list"):
        get_topology(path)


def test_registered_topologies_are_found_and_not_overwritten(monkeypatch):
    # tests that go through all names run in the same process
    known = dict(registry._registry())
    monkeypatch.setattr(registry, "_registry", lambda: known)
    mine = Topology.from_dict(biped(name="registered-biped"))
    register_topology(mine)
    register_topology(mine)
    assert get_topology("registered-biped") is mine
    assert "registered-biped" in topology_names()
    with pytest.raises(UserError, match="already called 'registered-biped'"):
        register_topology(Topology.from_dict(biped(name="registered-biped", up="z")))


def test_unknown_names_list_the_known_ones():
    with pytest.raises(UserError, match=r"no topology called 'ntu25'.*ntu-25"):
        get_topology("ntu25")


def test_usable_as_a_key_and_across_processes():
    topology = get_topology("ntu-25")
    assert hash(topology) == hash(pickle.loads(pickle.dumps(topology)))
    assert topology == pickle.loads(pickle.dumps(topology))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_editors_and_shells_that_write_other_bytes_are_understood(tmp_path, encoding):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(get_topology("coco-17").to_dict()), encoding=encoding)
    assert Topology.from_json(path) == get_topology("coco-17")

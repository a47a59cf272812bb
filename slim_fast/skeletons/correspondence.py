"""Joints of one skeleton expressed by those of another, by their names.

A joint's name is a side ("left", "right", or "l", "r" as a word of its own) and a stem, which names
a landmark of the body. A joint is matched by the first of these rules that applies: the joint of
the same name; that of the same landmark; the mean of the landmark's stand-ins; for an unknown name,
the mean of its nearest matched neighbours in its own tree.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from slim_fast.errors import UserError
from slim_fast.skeletons.topology import Topology

Kind = Literal["same", "related", "guessed"]
Row = dict[int, float]
"""Weights over the source's joints; those left out are 0."""

# Landmark -> its other names, without a side.
SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "pelvis": ("pelvis", "hip_centre", "mid_hip", "spine_base", "hips", "root"),
    "lower_spine": ("lower_spine", "spine1"),
    "spine": ("spine", "spine_mid", "spine2", "torso"),
    "upper_spine": ("upper_spine", "spine3", "chest"),
    "shoulder_centre": ("shoulder_centre", "spine_shoulder", "thorax", "mid_shoulder"),
    "collar": ("collar", "clavicle"),
    "hand_tip": ("hand_tip", "index", "fingertip"),
    "pinky": ("pinky", "little_finger"),
    "foot": ("foot", "foot_index", "toe", "toes", "toe_base"),
}

# Landmark -> groups of landmarks whose mean stands in for it, the best group first; a landmark that
# is named twice has twice the weight. Landmarks with sides are taken from the same side, or from
# both sides for a landmark on the midline.
STAND_INS: Mapping[str, tuple[str, ...]] = {
    "pelvis": ("hip", "lower_spine", "spine"),
    "lower_spine": ("pelvis spine", "spine", "pelvis pelvis neck", "hip hip shoulder"),
    "spine": ("lower_spine upper_spine", "pelvis shoulder_centre", "pelvis neck", "hip shoulder"),
    "upper_spine": (
        "spine shoulder_centre",
        "spine neck",
        "shoulder_centre",
        "neck",
        "hip shoulder shoulder",
    ),
    "shoulder_centre": ("neck", "collar", "shoulder", "upper_spine"),
    "neck": ("shoulder_centre", "collar", "shoulder", "head"),
    "head": ("nose", "ear", "eye", "neck"),
    "nose": ("head", "eye", "ear", "neck"),
    "eye": ("eye_inner eye_outer", "nose", "head", "neck"),
    "eye_inner": ("eye", "nose", "head", "neck"),
    "eye_outer": ("eye", "nose", "head", "neck"),
    "ear": ("head", "eye_outer", "eye", "nose", "neck"),
    "mouth": ("nose", "head", "neck"),
    "collar": ("neck shoulder", "shoulder_centre shoulder", "shoulder"),
    "shoulder": ("collar", "shoulder_centre", "neck"),
    "elbow": ("shoulder wrist", "shoulder hand"),
    "wrist": ("hand", "elbow"),
    "hand": ("hand_tip pinky", "wrist", "elbow"),
    "hand_tip": ("hand", "wrist", "elbow"),
    "pinky": ("hand", "wrist", "elbow"),
    "thumb": ("hand", "wrist", "elbow"),
    "hip": ("pelvis",),
    "knee": ("hip ankle", "hip foot"),
    "ankle": ("heel", "foot", "knee"),
    "heel": ("ankle", "foot", "knee"),
    "foot": ("big_toe small_toe", "big_toe", "ankle", "knee"),
    "big_toe": ("foot", "ankle", "knee"),
    "small_toe": ("foot", "ankle", "knee"),
}
_MID = ["pelvis", "lower_spine", "spine", "upper_spine", "shoulder_centre", "neck", "head", "nose"]
_WORDS = re.compile(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*|\d+")
_SPELLINGS = {"l": "left", "r": "right", "center": "centre", "middle": "mid"}


@dataclass(frozen=True)
class Correspondence:
    """Every joint of `target` as a weighted mean of joints of `source`.

    Attributes:
        weights: for each target joint a row over the source's joints, not negative, sum 1.
        kinds: for each target joint how it was matched. "same": by its name or landmark; "related":
            by stand-ins of its landmark; "guessed": by its neighbours in the tree, because its name
            is unknown.
    """

    source: Topology
    target: Topology
    weights: tuple[tuple[float, ...], ...]
    kinds: tuple[Kind, ...]

    @property
    def guessed(self) -> tuple[str, ...]:
        """Names of the target's joints that were matched by the tree alone."""
        return tuple(
            name
            for name, kind in zip(self.target.joints, self.kinds, strict=True)
            if kind == "guessed"
        )

    @property
    def origin(self) -> tuple[float, ...]:
        """Weights (sum 1) over the target's joints: their mean is the source's centre joint."""
        try:
            return match_joints(self.target, self.source).weights[self.source.centre]
        except UserError:
            return tuple(
                float(joint == self.target.centre) for joint in range(self.target.num_joints)
            )

    def describe(self) -> str:
        """One line a joint, `new joint <- weighted old joints (kind)`, and last the origin."""
        width = max(map(len, self.target.joints))
        lines = [f"{self.target.name} <- {self.source.name}"]
        for name, row, kind in zip(self.target.joints, self.weights, self.kinds, strict=True):
            lines.append(
                f"  {name:{width}} <- {_format_sum(self.source, row)}"
                + ("" if kind == "same" else f"  ({kind})")
            )
        centre = self.source.joints[self.source.centre]
        return "\n".join(
            [*lines, f"Centred on {centre}, that is {_format_sum(self.target, self.origin)}."]
        )

    __str__ = describe


def match_joints(source: Topology, target: Topology) -> Correspondence:
    """Match each joint of `target` to joints of `source`. Raises: UserError if no name is known."""
    rows: dict[int, Row] = {}
    kinds: dict[int, Kind] = {}
    index = _JointIndex(source)
    for joint, name in enumerate(target.joints):
        if (same := index.find_same(name)) is not None:
            rows[joint], kinds[joint] = {same: 1.0}, "same"
        elif (related := index.average_stand_ins(name)) is not None:
            rows[joint], kinds[joint] = related, "related"
    if not rows:
        raise UserError(
            f"No joint of {target.name} ({', '.join(target.joints[:4])}, ...) has a counterpart "
            f"in {source.name} ({', '.join(source.joints[:4])}, ...): name the joints as in one "
            "of the shipped topologies."
        )
    named = dict(rows)  # guesses rest on these, never on other guesses
    for joint in range(target.num_joints):
        if joint not in rows:
            rows[joint], kinds[joint] = (
                _average([named[near] for near in _find_nearest(target, joint, named)]),
                "guessed",
            )
    joints = range(target.num_joints)
    weights = (
        tuple(rows[joint].get(old, 0.0) for old in range(source.num_joints)) for joint in joints
    )
    return Correspondence(source, target, tuple(weights), tuple(kinds[joint] for joint in joints))


def find_same_joints(source: Topology, target: Topology) -> list[int | None]:
    """For each joint of `target` the joint of the same name or landmark in `source`, or None."""
    index = _JointIndex(source)
    return [index.find_same(name) for name in target.joints]


def locate_landmark(topology: Topology, name: str) -> Mapping[int, float] | None:
    """Weights (sum 1) over the joints whose mean is the landmark; None when it has no stand-ins."""
    return _JointIndex(topology).average_stand_ins(name)


class _JointIndex:
    """A skeleton's joints by name and by landmark; the first of several with the same one."""

    def __init__(self, topology: Topology) -> None:
        joints = list(enumerate(topology.joints))[::-1]  # so that the first joint wins
        self.names = {name: joint for joint, name in joints}
        self.parts = {_split_name(name): joint for joint, name in joints}
        self.landmarks = {mark: joint for joint, name in joints if (mark := find_landmark(name))}

    def find_same(self, name: str) -> int | None:
        """The joint of that name or landmark, or None."""
        exact = self.names.get(name, self.parts.get(_split_name(name)))
        mark = find_landmark(name)
        return self.landmarks.get(mark) if exact is None and mark else exact

    def average_stand_ins(self, name: str) -> Row | None:
        """The mean of the first group of the landmark's stand-ins that this skeleton has whole."""
        side, landmark = find_landmark(name) or ("", "")
        for stand_ins in (landmark, *STAND_INS.get(landmark, ())):
            sided = [(mark, "" if mark in _MID else side) for mark in stand_ins.split()]
            wanted = [
                (s, mark)
                for mark, own in sided
                for s in ((own,) if own or mark in _MID else ("left", "right"))
            ]
            if wanted and all(one in self.landmarks for one in wanted):
                return _average([{self.landmarks[one]: 1.0} for one in wanted])
        return None


def _split_name(name: str) -> tuple[str, str]:
    """(side, stem) of a joint's name: the same for left_hand_tip, HandTipLeft, LHandTip."""
    words = [_SPELLINGS.get(word.lower(), word.lower()) for word in _WORDS.findall(name)]
    side = next((word for word in words if word in ("left", "right")), "")
    return side, "".join(word for word in words if word != side) or name


_LANDMARKS = {mark: mark for mark in STAND_INS} | {
    stem: mark for mark, stems in SYNONYMS.items() for stem in stems
}
_LANDMARKS = {_split_name(stem)[1]: mark for stem, mark in _LANDMARKS.items()}


def find_landmark(name: str) -> tuple[str, str] | None:
    """(side, landmark) of a joint's name; None for an unknown one."""
    side, stem = _split_name(name)
    if (side, stem) == ("", "hip"):  # a hip without a side is the point between both
        return "", "pelvis"
    return (side, _LANDMARKS[stem]) if stem in _LANDMARKS else None


def _format_sum(topology: Topology, row: tuple[float, ...]) -> str:
    terms = [(weight, joint) for joint, weight in zip(topology.joints, row, strict=True) if weight]
    return " + ".join(joint if weight == 1 else f"{weight:.2g} {joint}" for weight, joint in terms)


def _average(rows: list[Row]) -> Row:
    return {
        joint: sum(row.get(joint, 0.0) for row in rows) / len(rows) for row in rows for joint in row
    }


def _find_nearest(topology: Topology, start: int, found: Mapping[int, Row]) -> list[int]:
    """The joints in `found` that are fewest bones away from `start`."""
    seen, ring = {start}, [start]
    while not (near := [joint for joint in ring if joint in found]):
        bones = [*topology.bones, *(bone[::-1] for bone in topology.bones)]
        ring = sorted({end for start, end in bones if start in ring} - seen)
        seen.update(ring)
    return near

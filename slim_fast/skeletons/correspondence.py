"""Which joints of one skeleton stand for those of another: landmarks of the body as data, and one rule.

A joint's name is a side ("left", "right", or "l", "r" as a word of their own) and a stem. A joint is, in this order,
the joint of the same name, of the same landmark, the mean of a landmark's stand-ins, or, when its name says nothing,
the mean of its nearest neighbours in its own tree that have been found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from slim_fast.errors import UserError
from slim_fast.skeletons.topology import Topology

Kind = Literal["same", "related", "guessed"]
Row = dict[int, float]
"""Weights over the source's joints; those left out are 0."""

# Landmark -> what it is called, without its side.
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

# Landmark -> landmarks whose mean stands in for it, nearest first; one named twice counts twice. Those with sides are
# taken of the landmark's own side, or of both for one on the midline.
STAND_INS: Mapping[str, tuple[str, ...]] = {
    "pelvis": ("hip", "lower_spine", "spine"),
    "lower_spine": ("pelvis spine", "spine", "pelvis pelvis neck", "hip hip shoulder"),
    "spine": ("lower_spine upper_spine", "pelvis shoulder_centre", "pelvis neck", "hip shoulder"),
    "upper_spine": ("spine shoulder_centre", "spine neck", "shoulder_centre", "neck", "hip shoulder shoulder"),
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
_MIDLINE = ("pelvis", "lower_spine", "spine", "upper_spine", "shoulder_centre", "neck", "head", "nose")
_WORDS = re.compile(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*|\d+")
_SPELLINGS = {"l": "left", "r": "right", "center": "centre", "middle": "mid"}


@dataclass(frozen=True)
class Correspondence:
    """Where every joint of `target` comes from.

    Attributes:
        weights: one row a target joint over the source's joints, not negative, sum 1.
        kinds: one a target joint. "same": a joint of the same name or landmark; "related": stand-ins of its landmark;
            "guessed": by its place in the tree alone, because its name is not known.
    """

    source: Topology
    target: Topology
    weights: tuple[tuple[float, ...], ...]
    kinds: tuple[Kind, ...]

    @property
    def guessed(self) -> tuple[str, ...]:
        """The target's joints whose names said nothing."""
        return tuple(name for name, kind in zip(self.target.joints, self.kinds, strict=True) if kind == "guessed")

    @property
    def origin(self) -> tuple[float, ...]:
        """Weights over the target's joints whose mean is where the source has its centre joint, sum 1."""
        try:
            return correspondence(self.target, self.source).weights[self.source.centre]
        except UserError:
            return tuple(float(joint == self.target.centre) for joint in range(self.target.num_joints))

    def describe(self) -> str:
        """One line a joint: new joint <- old joints with their weights, and how it was found; last, the origin."""
        width = max(map(len, self.target.joints))
        lines = [f"{self.target.name} <- {self.source.name}"]
        for name, row, kind in zip(self.target.joints, self.weights, self.kinds, strict=True):
            lines.append(f"  {name:{width}} <- {_sum(self.source, row)}" + ("" if kind == "same" else f"  ({kind})"))
        centre = self.source.joints[self.source.centre]
        return "\n".join([*lines, f"Centred on {centre}, that is {_sum(self.target, self.origin)}."])

    __str__ = describe


def correspondence(source: Topology, target: Topology) -> Correspondence:
    """Where every joint of `target` comes from in `source`; between equal joints each is exactly itself.

    Raises: UserError when no joint of `target` can be told from its name.
    """
    rows: dict[int, Row] = {}
    kinds: dict[int, Kind] = {}
    known = _Joints(source)
    for joint, name in enumerate(target.joints):
        if (found := known.same(name)) is not None:
            rows[joint], kinds[joint] = {found: 1.0}, "same"
        elif (stand_in := known.stand_in(name)) is not None:
            rows[joint], kinds[joint] = stand_in, "related"
    if not rows:
        raise UserError(
            f"No joint of {target.name} ({', '.join(target.joints[:4])}, ...) has a counterpart in {source.name} "
            f"({', '.join(source.joints[:4])}, ...): name the joints as in one of the shipped topologies."
        )
    named = dict(rows)
    for joint in range(target.num_joints):
        if joint not in rows:
            rows[joint], kinds[joint] = _mean([named[near] for near in _nearest(target, joint, named)]), "guessed"
    everything = range(source.num_joints)
    return Correspondence(
        source,
        target,
        tuple(tuple(rows[joint].get(old, 0.0) for old in everything) for joint in range(target.num_joints)),
        tuple(kinds[joint] for joint in range(target.num_joints)),
    )


class _Joints:
    """A source's joints by name and by landmark; of several alike the first."""

    def __init__(self, topology: Topology) -> None:
        joints = list(reversed(list(enumerate(topology.joints))))
        self.names = {name: joint for joint, name in joints}
        self.keys = {_key(name): joint for joint, name in joints}
        self.landmarks = {mark: joint for joint, name in joints if (mark := _landmark(name))}

    def same(self, name: str) -> int | None:
        """The joint of that name or landmark."""
        exact = self.names.get(name, self.keys.get(_key(name)))
        mark = _landmark(name)
        return self.landmarks.get(mark) if exact is None and mark else exact

    def stand_in(self, name: str) -> Row | None:
        """The first of the landmark's stand-ins that are all here."""
        side, landmark = _landmark(name) or ("", "")
        for stand_ins in (landmark, *STAND_INS.get(landmark, ())):
            sided = [(mark, "" if mark in _MIDLINE else side) for mark in stand_ins.split()]
            wanted = [
                (s, mark) for mark, own in sided for s in ((own,) if own or mark in _MIDLINE else ("left", "right"))
            ]
            if wanted and all(one in self.landmarks for one in wanted):
                return _mean([{self.landmarks[one]: 1.0} for one in wanted])
        return None


def _key(name: str) -> tuple[str, str]:
    """(side, stem) of a joint's name, whatever its spelling: left_hand_tip, HandTipLeft, LHandTip, l-hand-tip."""
    words = [_SPELLINGS.get(word.lower(), word.lower()) for word in _WORDS.findall(name)]
    side = next((word for word in words if word in ("left", "right")), "")
    return side, "".join(word for word in words if word != side) or name


_LANDMARKS = {mark: mark for mark in STAND_INS} | {stem: mark for mark, stems in SYNONYMS.items() for stem in stems}
_LANDMARKS = {_key(stem)[1]: mark for stem, mark in _LANDMARKS.items()}


def _landmark(name: str) -> tuple[str, str] | None:
    """(side, landmark); None for a name that is not known."""
    side, stem = _key(name)
    if (side, stem) == ("", "hip"):  # without a side it is the one between them
        return "", "pelvis"
    return (side, _LANDMARKS[stem]) if stem in _LANDMARKS else None


def _sum(topology: Topology, row: tuple[float, ...]) -> str:
    shares = [(share, joint) for joint, share in zip(topology.joints, row, strict=True) if share]
    return " + ".join(joint if share == 1 else f"{share:.2g} {joint}" for share, joint in shares)


def _mean(rows: list[Row]) -> Row:
    return {joint: sum(row.get(joint, 0.0) for row in rows) / len(rows) for row in rows for joint in row}


def _nearest(topology: Topology, start: int, found: Mapping[int, Row]) -> list[int]:
    """The joints in `found` that are fewest bones away from `start`."""
    seen, ring = {start}, [start]
    while not (near := [joint for joint in ring if joint in found]):
        ring = [
            joint
            for joint in range(topology.num_joints)
            if joint not in seen
            and any(topology.parents[joint] == one or topology.parents[one] == joint for one in ring)
        ]
        seen.update(ring)
    return near

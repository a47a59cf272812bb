"""Joint names in plain data: how a topology written by hand refers to its joints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slim_fast.errors import UserError


@dataclass
class JointNames:
    """The joints of one topology, as far as its plain data have been read: turns names into indices.

    Every method raises UserError when the data are of the wrong kind or name an unknown joint.
    """

    topology: str
    joints: list[Any]

    def index(self, what: str, joint: Any) -> int:
        if isinstance(joint, int) and not isinstance(joint, bool):
            return joint
        if joint not in self.joints:
            raise UserError(f"Topology {self.topology!r}: {what} names the joint {joint!r}, which is not in joints.")
        return self.joints.index(joint)

    def indices(self, what: str, joints: Any) -> tuple[int, ...]:
        if not isinstance(joints, Sequence) or isinstance(joints, str):
            raise UserError(f"Topology {self.topology!r}: {what} must be a list of joints, not a {kind(joints)}.")
        return tuple(self.index(what, joint) for joint in joints)

    def parents(self, parents: Any) -> tuple[int, ...]:
        if isinstance(parents, Mapping):
            for child in parents:
                self.index("parents", child)
            parents = [parents.get(joint) for joint in self.joints]
        if not isinstance(parents, Sequence) or isinstance(parents, str):
            raise UserError(f"Topology {self.topology!r}: parents must be an object or a list, not a {kind(parents)}.")
        return tuple(-1 if parent is None else self.index("parents", parent) for parent in parents)

    def mirror(self, mirror: Any) -> tuple[int, ...]:
        if mirror is None:
            mirror = [
                (joint, joint.replace("left_", "right_", 1))
                for joint in self.joints
                if str(joint).startswith("left_") and joint.replace("left_", "right_", 1) in self.joints
            ]
        if not isinstance(mirror, Sequence) or isinstance(mirror, str):
            raise UserError(f"Topology {self.topology!r}: mirror must be a list of pairs, not a {kind(mirror)}.")
        if not all(isinstance(pair, Sequence) and not isinstance(pair, str) for pair in mirror):
            return self.indices("mirror", mirror)
        other = list(range(len(self.joints)))
        paired: set[int] = set()
        for pair in mirror:
            joints = self.indices("mirror", pair)
            if len(joints) != 2 or not all(0 <= joint < len(other) for joint in joints) or paired.intersection(joints):
                raise UserError(f"Topology {self.topology!r}: mirror pair {list(pair)} must be two unpaired joints.")
            paired.update(joints)
            left, right = joints
            other[left], other[right] = right, left
        return tuple(other)


def kind(value: Any) -> str:
    return type(value).__name__

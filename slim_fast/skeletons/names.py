"""Joint names in a topology's JSON turned into indices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slim_fast.errors import UserError


@dataclass
class JointResolver:
    """Turns the joint names of one topology's plain data into indices.

    Every method raises UserError for data of the wrong type and for unknown joints.
    """

    topology: str
    joints: list[Any]

    def resolve(self, what: str, joint: Any) -> int:
        """The index of a joint given by name or index; `what` names the field in messages."""
        if isinstance(joint, int) and not isinstance(joint, bool):
            return joint
        if joint not in self.joints:
            raise UserError(
                f"Topology {self.topology!r}: {what} names the joint {joint!r}, which is not in "
                "joints."
            )
        return self.joints.index(joint)

    def resolve_all(self, what: str, joints: Any) -> tuple[int, ...]:
        """The indices of a list of joints."""
        expect(self.topology, f"{what} must be a list of joints", joints)
        return tuple(self.resolve(what, joint) for joint in joints)

    def resolve_parents(self, parents: Any) -> tuple[int, ...]:
        """The parent of every joint, -1 for none, from {joint: parent} or a list."""
        if isinstance(parents, Mapping):
            for child in parents:
                self.resolve("parents", child)
            parents = [parents.get(joint) for joint in self.joints]
        expect(self.topology, "parents must be an object or a list", parents)
        return tuple(
            -1 if parent is None else self.resolve("parents", parent) for parent in parents
        )

    def resolve_mirror(self, mirror: Any) -> tuple[int, ...]:
        """The mirror joint of every joint, from pairs, a list, or names with left_ and right_."""
        if mirror is None:
            mirror = [
                (joint, joint.replace("left_", "right_", 1))
                for joint in self.joints
                if str(joint).startswith("left_")
                and joint.replace("left_", "right_", 1) in self.joints
            ]
        expect(self.topology, "mirror must be a list of pairs", mirror)
        if not all(isinstance(pair, Sequence) and not isinstance(pair, str) for pair in mirror):
            return self.resolve_all("mirror", mirror)
        other = list(range(len(self.joints)))
        paired: set[int] = set()
        for pair in mirror:
            joints = self.resolve_all("mirror", pair)
            if (
                len(joints) != 2
                or not all(0 <= joint < len(other) for joint in joints)
                or paired.intersection(joints)
            ):
                raise UserError(
                    f"Topology {self.topology!r}: mirror pair {list(pair)} must be two unpaired "
                    "joints."
                )
            paired.update(joints)
            left, right = joints
            other[left], other[right] = right, left
        return tuple(other)


def expect(topology: str, rule: str, value: Any, kind: type = Sequence) -> None:
    """Raises: UserError for a value of another kind, or a str."""
    if not isinstance(value, kind) or isinstance(value, str):
        raise UserError(f"Topology {topology!r}: {rule}, not a {type(value).__name__}.")

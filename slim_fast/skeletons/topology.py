"""A skeleton's topology: its joints, their tree, their symmetry and their parts."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from slim_fast.errors import UserError
from slim_fast.reading import parse_json
from slim_fast.skeletons.names import JointResolver, expect

UP_AXES = ("y", "-y", "z", "-z")
KEYS = ("name", "joints", "parents", "mirror", "parts", "centre", "up")


@dataclass(frozen=True)
class Topology:
    """A tree of V joints with its left-right symmetry and its body parts.

    Attributes:
        name: for example "ntu-25".
        joints: V joint names.
        parents: parent of every joint, -1 for the root; exactly one root.
        mirror: mirror[j] is the same joint of the other side, or j itself.
        parts: a partition of the joints into named parts, each connected in the tree. Tube masks
            cover consecutive joints of a part. Without its side prefix ("left_", "right_") a part's
            name is its kind ("trunk", "arm", "leg"); bone scaling draws one factor a kind.
        centre: the joint at the origin, in the first frame, of a centred clip.
        up: the axis that points up; x is always the lateral axis.

    Raises: UserError when the fields contradict each other; the message names the joints.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    mirror: tuple[int, ...]
    parts: Mapping[str, tuple[int, ...]]
    centre: int
    up: str = "y"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise UserError(f"A topology's name must be a non-empty string, not {self.name!r}.")
        if isinstance(self.joints, str) or not all(
            isinstance(joint, str) and joint for joint in self.joints
        ):
            raise self._error("joints must be a list of non-empty names")
        fields = {
            "joints": tuple(self.joints),
            "parents": self._integers("parents", self.parents),
            "mirror": self._integers("mirror", self.mirror),
            "parts": {
                str(part): self._integers(f"part {part!r}", members)
                for part, members in self.parts.items()
            },
            "centre": self._integers("centre", (self.centre,))[0],
        }
        for field, value in fields.items():
            object.__setattr__(self, field, value)
        self._check_joints()
        self._check_parents()
        self._check_mirror()
        self._check_parts()
        self._check_index("centre", self.centre)
        if self.up not in UP_AXES:
            raise self._error(f"up is {self.up!r}; choose one of {', '.join(UP_AXES)}")

    def __hash__(self) -> int:
        return hash((self.name, self.joints, self.parents, self.mirror, self.centre, self.up))

    @property
    def num_joints(self) -> int:
        """V."""
        return len(self.joints)

    @cached_property
    def root(self) -> int:
        """The joint without a parent."""
        return self.parents.index(-1)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """All joints, every parent before its children."""
        order = [self.root]
        for joint in order:
            order += [child for child, parent in enumerate(self.parents) if parent == joint]
        return tuple(order)

    @cached_property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(child, parent) of the V - 1 bones, parents first."""
        return tuple((joint, self.parents[joint]) for joint in self.order[1:])

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Topology":
        """Build a topology from plain data, as JSON holds it.

        Joints may be given by name or by index everywhere. `parents` is {joint: parent}, the root
        left out or null, or a list with one entry a joint, null or -1 for the root. `mirror` is a
        list of pairs, or a list with one entry a joint; left out, joints called left_X and right_X
        are pairs. `centre` left out is the root, `up` left out "y".

        Raises: UserError for missing or unknown keys, unknown joints and invalid fields.
        """
        if not isinstance(fields, Mapping):
            kind, keys = type(fields).__name__, ", ".join(KEYS)
            raise UserError(f"A topology must be an object with the keys {keys}, not a {kind}.")
        name: Any = fields.get("name")
        if unknown := sorted(set(fields) - set(KEYS)):
            raise UserError(
                f"Topology {name!r} has the unknown key {unknown[0]!r}; the keys are "
                f"{', '.join(KEYS)}."
            )
        if missing := [key for key in ("name", "joints", "parents", "parts") if key not in fields]:
            raise UserError(f"Topology {name!r} lacks the key {missing[0]!r}.")
        expect(name, "joints must be a list of names", fields["joints"])
        expect(name, "parts must be an object of lists", fields["parts"], Mapping)
        resolver = JointResolver(str(name), list(fields["joints"]))
        parents = resolver.resolve_parents(fields["parents"])
        return cls(
            name=fields["name"],
            joints=tuple(resolver.joints),
            parents=parents,
            mirror=resolver.resolve_mirror(fields.get("mirror")),
            parts={
                part: resolver.resolve_all(f"part {part!r}", members)
                for part, members in fields["parts"].items()
            },
            centre=resolver.resolve(
                "centre", fields.get("centre", parents.index(-1) if -1 in parents else 0)
            ),
            up=fields.get("up", "y"),
        )

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain data for JSON and `from_dict`, with joints by their names."""
        named = self.joints.__getitem__
        return {
            "name": self.name,
            "joints": list(self.joints),
            "parents": {
                named(j): None if parent < 0 else named(parent)
                for j, parent in enumerate(self.parents)
            },
            "mirror": [
                [named(joint), named(other)]
                for joint, other in enumerate(self.mirror)
                if joint < other
            ],
            "parts": {
                part: [named(joint) for joint in members] for part, members in self.parts.items()
            },
            "centre": named(self.centre),
            "up": self.up,
        }

    @classmethod
    def from_json(cls, path: str | Path) -> "Topology":
        """Read a topology from a JSON file. Raises: UserError when it holds no valid one."""
        try:
            # given bytes, json detects the encoding and a BOM
            fields = parse_json(Path(path).read_bytes())
        except OSError as error:
            raise UserError(f"Cannot read the topology file {path}: {error.strerror}.") from error
        except ValueError as error:
            raise UserError(f"The topology file {path} is not JSON: {error}.") from error
        return cls.from_dict(fields)

    def _error(self, sentence: str) -> UserError:
        return UserError(f"Topology {self.name!r}: {sentence}.")

    def _integers(self, what: str, values: Sequence[Any]) -> tuple[int, ...]:
        try:
            return tuple(operator.index(value) for value in values)
        except TypeError as error:
            raise self._error(
                f"{what} must be joint indices (names are for from_dict and JSON)"
            ) from error

    def _check_index(self, what: str, index: int) -> None:
        if not 0 <= index < len(self.joints):
            raise self._error(
                f"{what} is joint {index}, but joints are numbered 0 to {len(self.joints) - 1}"
            )

    def _check_joints(self) -> None:
        if not self.joints:
            raise self._error("there must be at least one joint")
        if twice := [joint for joint in self.joints if self.joints.count(joint) > 1]:
            raise self._error(f"the joint name {twice[0]!r} is used twice")
        for what in ("parents", "mirror"):
            if len(getattr(self, what)) != len(self.joints):
                raise self._error(
                    f"{what} has {len(getattr(self, what))} entries for {len(self.joints)} joints"
                )

    def _check_parents(self) -> None:
        for joint, parent in enumerate(self.parents):
            if parent != -1:
                self._check_index(f"the parent of {self.joints[joint]!r}", parent)
        for start in range(len(self.joints)):
            chain: list[int] = []
            joint = start
            while joint != -1 and joint not in chain:
                chain.append(joint)
                joint = self.parents[joint]
            if joint != -1:
                cycle = [*chain[chain.index(joint) :], joint]
                raise self._error(
                    "the parents form a cycle: " + " -> ".join(self.joints[step] for step in cycle)
                )
        roots = [self.joints[joint] for joint, parent in enumerate(self.parents) if parent == -1]
        if len(roots) > 1:
            raise self._error(
                f"{len(roots)} joints have no parent ({', '.join(roots)}), but only the root may"
            )

    def _check_mirror(self) -> None:
        for joint, other in enumerate(self.mirror):
            self._check_index(f"the mirror joint of {self.joints[joint]!r}", other)
            if self.mirror[other] != joint:
                first, second, third = (
                    self.joints[step] for step in (joint, other, self.mirror[other])
                )
                raise self._error(
                    f"mirror pairs must be mutual: {first} -> {second}, but {second} -> {third}"
                )

    def _check_parts(self) -> None:
        part_of: dict[int, str] = {}
        for part, members in self.parts.items():
            if not members:
                raise self._error(f"part {part!r} has no joints")
            for joint in members:
                self._check_index(f"a member of part {part!r}", joint)
                if joint in part_of:
                    raise self._error(
                        f"{self.joints[joint]!r} is listed in part {part_of[joint]!r} and in part "
                        f"{part!r}"
                    )
                part_of[joint] = part
        if missing := [
            self.joints[joint] for joint in range(len(self.joints)) if joint not in part_of
        ]:
            raise self._error(f"every joint must belong to a part, but {', '.join(missing)} do not")
        for part, members in self.parts.items():
            heads = [self.joints[joint] for joint in members if self.parents[joint] not in members]
            if len(heads) > 1:
                raise self._error(
                    f"part {part!r} is not connected: no parent within it joins {', '.join(heads)}"
                )

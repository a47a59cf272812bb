"""Parts of a skeleton as skeletons of their own: the upper body, an arm, a hand, or any joints."""

from collections.abc import Callable, Sequence

from slim_fast.errors import UserError, suggest
from slim_fast.skeletons.correspondence import find_landmark
from slim_fast.skeletons.topology import Topology

_LEGS = {"hip", "knee", "ankle", "heel", "foot", "big_toe", "small_toe"}
_HAND = {"wrist", "hand", "hand_tip", "thumb", "pinky"}
_ARM = {"shoulder", "elbow"} | _HAND


def _of_side(side: str, landmarks: set[str]) -> Callable[[str, str], bool]:
    return lambda own, landmark: own == side and landmark in landmarks


# name -> whether a joint of (side, landmark) belongs to it
SUBSETS: dict[str, Callable[[str, str], bool]] = {
    "upper-body": lambda _, landmark: landmark not in _LEGS,
    "left-arm": _of_side("left", _ARM),
    "right-arm": _of_side("right", _ARM),
    "left-hand": _of_side("left", _HAND),
    "right-hand": _of_side("right", _HAND),
}


def find_subset(topology: Topology, subset: str) -> tuple[int, ...]:
    """The joints, ascending, of one of SUBSETS, or of a list "left_hand,right_hand" of names.

    Landmarks tell what a joint is (`slim_fast.skeletons.correspondence`): one whose name is not
    known belongs to no named subset.
    Raises: UserError for an unknown subset or joint, and when the skeleton has none of its joints.
    """
    if subset not in SUBSETS:
        names = subset.split(",")
        for name in names:
            if name not in topology.joints:
                near = suggest(name, [*SUBSETS, *topology.joints])
                raise UserError(
                    f"{topology.name} has no joint or part {name!r}{near}: give "
                    f"{', '.join(SUBSETS)}, or names of its joints, set apart by commas."
                )
        return tuple(sorted({topology.joints.index(name) for name in names}))
    known = enumerate(map(find_landmark, topology.joints))
    found = tuple(joint for joint, mark in known if mark and SUBSETS[subset](*mark))
    if not found:
        raise UserError(f"{topology.name} has no joints of the subset {subset}.")
    return found


def take_subset(topology: Topology, subset: str) -> tuple[Topology, tuple[int, ...]]:
    """The skeleton of some joints, called NAME/SUBSET, and their numbers in `topology`.

    A joint's parent is its nearest ancestor that is kept. Of several joints without one the first
    in the tree is the root, and their parent; within a part the first is the others'. A joint
    without its mirror image is its own. Without the centre joint the root is the centre.
    Raises: UserError as `find_subset`.
    """
    kept = find_subset(topology, subset)
    order = [joint for joint in topology.order if joint in kept]
    parent = {joint: _kept_ancestor(topology, joint, kept) for joint in kept}
    for members in topology.parts.values():
        _join([joint for joint in order if joint in members], parent, members)
    _join(order, parent, kept)
    number = {joint: new for new, joint in enumerate(kept)}
    root = order[0]
    made = Topology(
        name=f"{topology.name}/{subset}",
        joints=tuple(topology.joints[joint] for joint in kept),
        parents=tuple(number.get(parent[joint], -1) for joint in kept),
        mirror=tuple(number.get(topology.mirror[joint], number[joint]) for joint in kept),
        parts={
            part: tuple(number[joint] for joint in members if joint in number)
            for part, members in topology.parts.items()
            if number.keys() & set(members)
        },
        centre=number.get(topology.centre, number[root]),
        up=topology.up,
    )
    return made, kept


def _kept_ancestor(topology: Topology, joint: int, kept: Sequence[int]) -> int:
    """The nearest of a joint's ancestors that is kept, or -1."""
    joint = topology.parents[joint]
    while joint != -1 and joint not in kept:
        joint = topology.parents[joint]
    return joint


def _join(order: Sequence[int], parent: dict[int, int], members: Sequence[int]) -> None:
    """Make the first of the joints whose parent is not among `members` the parent of the others."""
    heads = [joint for joint in order if parent[joint] not in members]
    for head in heads[1:]:
        parent[head] = heads[0]

"""Whether two skeletons are the same: their joints' names, their axes and their channels."""

from slim_fast.skeletons.correspondence import find_same_joints
from slim_fast.skeletons.topology import Topology


def find_mismatch(
    ours: Topology | int, our_channels: str, theirs: Topology | int, their_channels: str
) -> str | None:
    """Describe the first difference between two skeletons; None when clips of one fit the other.

    They fit when every joint has the same name or landmark in both, and the same axis points up;
    parents, parts and centre do not matter. A skeleton given as its number of joints is compared by
    numbers alone.
    """
    counts = [t if isinstance(t, int) else t.num_joints for t in (ours, theirs)]
    if counts[0] != counts[1]:
        return f"{counts[0]} joints are not {counts[1]}"
    if not isinstance(ours, Topology) or not isinstance(theirs, Topology):
        sizes = [len(channels) for channels in (our_channels, their_channels)]
        return None if sizes[0] == sizes[1] else f"{sizes[0]} channels are not {sizes[1]}"
    found = find_same_joints(theirs, ours)
    for joint, other in enumerate(found):
        if other != joint:
            order = (
                ": the joints are the same in another order"
                if set(found) == set(range(len(found)))
                else ""
            )
            return (
                f"joint {joint} is {ours.joints[joint]} in the one and {theirs.joints[joint]} in "
                f"the other{order}"
            )
    if ours.up != theirs.up:
        return f"{ours.up} points up in the one and {theirs.up} in the other"
    return (
        None
        if our_channels == their_channels
        else f"the channels {our_channels} are not {their_channels}"
    )

"""Poses of an estimator carried over to a model's skeleton, by the joints' names."""

import warnings
from collections.abc import Callable

import numpy as np

from slim_fast.data.clips import ORIGIN, count_coordinates
from slim_fast.errors import UserError
from slim_fast.interop.transfer import axis_map
from slim_fast.skeletons import Topology
from slim_fast.skeletons.compatibility import find_mismatch
from slim_fast.skeletons.correspondence import match_joints
from slim_fast.watching.poses import PoseFrame, PoseSource

TALLEST = 20
"""Metres or half image heights; larger bodies are in other units."""


def carry_over(
    source: PoseSource, topology: Topology, channels: str
) -> Callable[[PoseFrame], np.ndarray]:
    """A function from frames of `source` to people (M, V, C) of the model's skeleton.

    A model of three coordinates is given joints in space where the estimator has them, one of two
    coordinates joints in the image. A joint of the model is the mean of the joints that stand for
    it (`match_joints`), and undetected where one of those is. Joints in space that have the hips
    at the origin are moved to where the image shows them (`place_people`), unless the model's
    skeleton is the estimator's: such a model has learned from clips that `data convert` wrote.

    Raises: UserError when no joint has a counterpart, or when there is no image for a model of two
    coordinates.
    Warns: when depth is missing.
    """
    is_flat = count_coordinates(channels) == 2
    from_image = is_flat or not source.world_channels
    if is_flat and not source.image_channels:
        raise UserError(
            f"The model takes positions in the image ({channels}), which these poses lack: give "
            "image landmarks too, or a model of three coordinates."
        )
    given = source.image_channels if from_image else source.world_channels
    if not is_flat and "z" not in given:
        warnings.warn(
            f"The model was trained with depth ({channels}), which these poses of {given} lack: "
            "it is 0 everywhere, and classes may be wrong.",
            stacklevel=2,
        )
    is_same = find_mismatch(topology, channels, source.topology, channels) is None
    # (V', V)
    rows = np.eye(topology.num_joints)
    if not is_same:
        rows = np.array(match_joints(source.topology, topology).weights)
    # (C, C')
    axes = axis_map(topology, source.topology, channels, given).numpy().astype(np.float64)
    needs = rows > 0
    coordinates = count_coordinates(given)

    def carry(frame: PoseFrame) -> np.ndarray:
        people = frame.image if from_image else frame.world
        assert people is not None
        if not from_image and not is_same and frame.image is not None:
            people = place_people(people, frame.image)
        known = np.isfinite(people).all(-1) & (people[..., :coordinates] != 0).any(-1)  # (M, V)
        if coordinates < people.shape[-1]:
            known &= people[..., -1] > 0
        moved = rows @ np.where(known[..., None], people, 0) @ axes  # (M, V', C')
        if channels.endswith("c") and coordinates == people.shape[-1]:
            moved[..., -1] = 1  # the estimator gives none
        found = _all_known(known, needs)
        for person, joints in zip(moved, found, strict=True):
            check_units(person[joints, : count_coordinates(channels)])
        # a joint that is found at the origin would count as undetected
        moved[..., 0] = np.where((moved[..., :coordinates] == 0).all(-1), ORIGIN, moved[..., 0])
        return np.where(found[..., None], moved, 0)

    return carry


def _all_known(known: np.ndarray, needs: np.ndarray) -> np.ndarray:
    """(M, V') bool: whether all joints (V) that a joint needs, (V', V), are known, (M, V)."""
    found: np.ndarray = np.all(needs[None] <= known[:, None], axis=-1)
    return found


def check_units(joints: np.ndarray) -> None:
    """Raises: UserError for a person's joints (V, 2 or 3) when they are larger than `TALLEST`."""
    if len(joints) and (size := float(np.ptp(joints, axis=0).max())) > TALLEST:
        raise UserError(
            f"A body is {size:.0f} units large, but metres, or half image heights, are needed: "
            "say the image's size with --image-size, or convert the poses."
        )


def place_people(world: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Move people whose hips are at the origin to where the image shows them.

    The image is taken for a scaled view of the body from far away, whose scale and place are
    fitted by least squares; the depth of a whole body stays as it is.

    Args:
        world: (M, V, C) metres, x and y as in the image.
        image: (M, V, C) in half image heights from its middle.
    """
    placed = world.copy()
    for person, (body, seen) in enumerate(zip(world[..., :2], image[..., :2], strict=True)):
        known = np.isfinite(body).all(-1) & np.isfinite(seen).all(-1) & (seen != 0).any(-1)
        if known.sum() < 2:
            continue
        centred, shown = body[known] - body[known].mean(0), seen[known] - seen[known].mean(0)
        scale = (centred * shown).sum() / max(float((centred**2).sum()), 1e-12)
        if scale > 1e-6:
            placed[person, :, :2] += seen[known].mean(0) / scale - body[known].mean(0)
    return placed

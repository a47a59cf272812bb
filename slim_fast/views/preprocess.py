"""slim_fast.preprocess: raw joints of one clip to what an encoder reads."""

import math
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slim_fast.data.clips import Clip, clean_clip, count_coordinates, default_channels
from slim_fast.data.units import explain_units, measure_extent
from slim_fast.errors import UserError
from slim_fast.skeletons import Topology, get_topology, topology_names
from slim_fast.views.frames import evaluation_positions
from slim_fast.views.prepare import gather_people

RATE = 30  # frames a second of Kinect recordings, which the released encoders were trained on


def preprocess(
    clip: Any,
    skeleton: Topology | str,
    fps: float | None = None,
    *,
    channels: str | None = None,
    scale: float = 1.0,
    window: int = 64,
    people: int = 2,
) -> Tensor:
    """Make of raw joints what an encoder reads: (1, C, window, V, people) float32.

    As in evaluation: joints that are zero, not finite or without confidence are undetected and
    stay zeros; people are ranked, who is seen longest first, and absent ones are zeros; empty
    frames are left out; of more than `window` frames `window` are taken from the middle 95 %, fewer
    are interpolated; the first person's centre joint in their first frame becomes the origin.

    Args:
        clip: one action, an array or tensor (T, V, C), or (T, V, C, M) of M people: frames, joints,
            channels, anywhere in the room.
        skeleton: of the joints, and of the encoder: a name such as "ntu-25", a .json file, or
            encoder.topology.
        fps: frames a second of the recording; frames are then counted at 30 a second, as the
            released encoders saw them. None: as they are.
        channels: "xyz", "xy", "xyzc" or "xyc"; by default what `convert` would take.
        scale: factor of the coordinates, to metres (2-D: half image heights), such as 0.001.
        window: frames, encoder.config.window: 64 in the release.
        people: of the result.

    Raises: UserError for other shapes, an unknown skeleton, numbers that cannot work, and a clip
    without a person.
    Warns: when the coordinates look like other units.
    """
    topology = skeleton if isinstance(skeleton, Topology) else get_topology(skeleton)
    for name, value in (("fps", RATE if fps is None else fps), ("scale", scale)):
        if not 0 < value < math.inf:
            raise UserError(f"{name}={value}: give a number above 0.")
    for name, value in (("window", window), ("people", people)):
        if value < 1:
            raise UserError(f"{name}={value}: must be at least 1.")
    positions = _check_shape(clip, topology, channels)
    channels = channels or default_channels(topology, positions.shape[2])
    dims = count_coordinates(channels)
    with np.errstate(over="ignore", invalid="ignore"):
        positions = np.array(positions, np.float32)
        positions[:, :, :dims] *= scale
    cleaned, _ = clean_clip(Clip(positions, "given"), channels, topology)
    if cleaned is None:
        raise UserError(
            "The clip holds no person: every joint is zero, not finite or without confidence."
        )
    positions = cleaned.positions
    poses = positions[:, :, :dims].transpose(0, 3, 1, 2).reshape(-1, topology.num_joints, dims)
    if fault := explain_units(measure_extent(poses), topology, dims, "pass scale="):
        warnings.warn(f"Of this clip {fault}.", stacklevel=2)
    rows = torch.from_numpy(np.ascontiguousarray(positions.transpose(3, 0, 1, 2))).flatten(0, 1)
    frames, present = len(positions), positions.shape[3]
    start, length, crowd = torch.tensor([[0], [frames], [present]])
    position = find_positions(frames, window, fps)[None]
    views = gather_people(rows, start, length, crowd, position, people, topology.centre, dims)
    return views.permute(0, 4, 2, 3, 1).contiguous()


def find_positions(frames: int, window: int, fps: float | None) -> Tensor:
    """(window,) float32: where in a clip of `frames` frames the evaluation clip's are taken."""
    if fps is None:
        return evaluation_positions(torch.tensor(frames), window)
    counted = max(1, round(frames * RATE / fps))
    position = evaluation_positions(torch.tensor(counted), window)
    return ((position + 0.5) * (frames / counted) - 0.5).clamp(0, frames - 1)


def _check_shape(clip: Any, topology: Topology, channels: str | None) -> np.ndarray:
    """The clip as (T, V, C, M). Raises: UserError for what does not fit the skeleton."""
    try:
        array = clip.detach().cpu().numpy() if isinstance(clip, Tensor) else np.asarray(clip)
    except ValueError as error:  # frames of several lengths
        raise UserError(f"The clip is no array of numbers ({error}).") from error
    array = array[..., None] if array.ndim == 3 else array
    numbers = (len(channels),) if channels else (2, 3, 4)
    if array.dtype.kind not in "fiu":
        raise UserError(f"The clip is no array of numbers, but of {array.dtype}.")
    if array.ndim == 4 and array.shape[1] == topology.num_joints and array.shape[2] in numbers:
        return array
    others = [
        name
        for name in topology_names()
        if array.ndim == 4 and get_topology(name).num_joints == array.shape[1]
    ]
    hint = f" Its joints would be those of {' or '.join(others)}." if others else ""
    raise UserError(
        f"A clip of {topology.name} is (T frames, {topology.num_joints} joints, "
        f"{' or '.join(map(str, numbers))} channels), or (T, V, C, M people); got "
        f"{tuple(np.shape(clip))}.{hint}"
    )

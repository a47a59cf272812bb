"""A look at the first clips that an encoder is given: their units, and where they are centred."""

import warnings

import torch
from torch import Tensor

from slim_fast.data.clips import count_coordinates
from slim_fast.data.units import UNITS, explain_units, measure_extent
from slim_fast.skeletons import Topology
from slim_fast.views.undetected import detected_joints

_BATCH = 8  # clips that are looked at
_FAR = 1.5  # metres


def warn_if_implausible(model: str, x: Tensor, topology: Topology | int, channels: str) -> None:
    """Warn when clips (B, C, T, V, M) look like other units than metres, or are not centred.

    Looks at the first frame of the first person. Not centred: the centre joint is more than 1.5 m
    and a body's extent away from the origin.
    """
    if isinstance(topology, int) or not x.shape[2] or not x.shape[4]:
        return
    dims = count_coordinates(channels)
    poses = x[:_BATCH, :dims, 0, :, 0].detach().float().cpu().transpose(1, 2)  # (B, V, dims)
    extent = measure_extent(poses.numpy())
    fault = explain_units(extent, topology, dims, "slim_fast.preprocess takes scale=")
    if fault and (dims == 2 or extent >= UNITS[0][0]):  # augmented bodies may be of any size
        warnings.warn(f"{model}: in the first clips {fault}.", stacklevel=5)
        return
    centre = poses[:, topology.centre]  # (B, dims)
    known = centre.isfinite().all(1) & detected_joints(poses, dims)[:, topology.centre]
    distance = torch.where(known, centre.norm(dim=1), 0).median().item()
    if distance > max(extent, _FAR):
        name = topology.joints[topology.centre]
        warnings.warn(
            f"{model}: the first clips are not centred, {name} is {distance:.3g} away from the "
            f"origin: subtract {name} of the first person's first frame, as slim_fast.preprocess "
            "does.",
            stacklevel=5,
        )

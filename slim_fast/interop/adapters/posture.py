"""A check that bodies stand upright in the coordinates of the encoder's skeleton."""

import warnings

import torch
from torch import Tensor

from slim_fast.skeletons import Topology
from slim_fast.skeletons.correspondence import locate_landmark

_AGREEMENT = 0.9
"""Mean of the spines' unit vectors along an axis above which bodies stand along it: within about 25
degrees, all of them. In recordings, people rarely lie in a whole batch and in one direction.
"""


def warn_if_lying(model: str, clips: Tensor, topology: Topology | int, channels: str) -> None:
    """Warn when spines in the first frames of clips (N, T, V, C) point along an axis but up."""
    if isinstance(topology, int) or not len(clips):
        return
    low, high = (locate_landmark(topology, name) for name in ("pelvis", "shoulder_centre"))
    if low is None or high is None:
        return
    frame = clips[:, 0, :, : len(channels.rstrip("c"))].detach().float().cpu()  # (N, V, 2 or 3)
    ends = [
        torch.stack([weight * frame[:, joint] for joint, weight in end.items()]).sum(0)
        for end in (low, high)
    ]
    spine = ends[1] - ends[0]
    spine = spine[spine.isfinite().all(1) & spine.any(1)]
    if not len(spine):
        return
    mean = torch.nn.functional.normalize(spine, dim=1).mean(0)
    axis = int(mean.abs().argmax())
    along = ("-" if mean[axis] < 0 else "") + channels[axis]
    if abs(mean[axis]) > _AGREEMENT and along != topology.up:
        warnings.warn(
            f"{model}: the bodies of the first clips stand along {along}. The encoder, made for "
            f"{topology.name} with {topology.up} up, will not know them: leave the feeder's "
            "rotation of the spine out (in PYSKL and mmaction2 "
            "PreNormalize3D(align_spine=False)), or rotate the clips.",
            stacklevel=4,
        )

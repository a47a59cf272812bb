"""Undetected joints, whose coordinates are all zero: they are recognised, kept out of
interpolation, and filled while a body is scaled. Every (..., V, C) below has `dims` coordinates
first and maybe a confidence after them.
"""

import torch
from torch import Tensor

from slim_fast.skeletons import Topology


def detected_joints(positions: Tensor, dims: int) -> Tensor:
    """(..., V) bool: some coordinate of (..., V, C) is not zero."""
    return (positions[..., :dims] != 0).any(-1)


def interpolate(lower: Tensor, upper: Tensor, weight: Tensor, dims: int) -> Tensor:
    """Interpolate (..., V, C) by `weight`; joints not detected in both stay as in `lower`."""
    both = detected_joints(lower, dims) & detected_joints(upper, dims)
    return torch.where(both[..., None], torch.lerp(lower, upper, weight), lower)


def find_origin(frames: Tensor, centre: int, dims: int) -> Tensor:
    """(C,): where a person (T, V, C) is centred, the centre joint in the first frame in which it is
    detected; if it never is, the mean of the joints detected in the person's first frame. 0 for a
    confidence, and for an empty person.
    """
    detected = detected_joints(frames, dims)
    centre_position = torch.zeros_like(frames[0, 0])
    if detected[:, centre].any():
        centre_position[:dims] = frames[detected[:, centre].int().argmax(), centre, :dims]
    elif detected.any():
        first = detected.any(1).int().argmax()
        centre_position[:dims] = frames[first, detected[first], :dims].mean(0)
    return centre_position


def fill_undetected(views: Tensor, detected: Tensor, topology: Topology) -> Tensor:
    """Give undetected joints of views (..., w, V, C) a position, so that bones from and to them can
    be scaled: where the joint was detected last (or first, before that); if never in the view, its
    parent's position; the root's, if that is missing, is the mean of the joints that were detected.
    detected (..., w, V) bool.
    """
    frame = torch.arange(views.shape[-3], device=views.device)[:, None]
    last = torch.where(detected, frame, -1).cummax(-2).values
    nearest = torch.where(last < 0, detected.int().argmax(-2, keepdim=True), last)  # (..., w, V)
    filled = views.gather(-3, nearest[..., None].expand_as(views))
    known = detected.any(-2)[..., None, :, None]  # (..., 1, V, 1)
    middle = (filled * known).sum(-2) / known.sum(-2).clamp_min(1)  # (..., w, C)
    for joint in topology.order:
        parent = topology.parents[joint]
        stand_in = middle if parent < 0 else filled[..., parent, :]
        filled[..., joint, :] = torch.where(known[..., joint, :], filled[..., joint, :], stand_in)
    return filled

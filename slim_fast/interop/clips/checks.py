"""Checks of clips: what is wrong with a shape, and which other layout it looks like."""

import math
import warnings

import torch
from torch import Tensor
from torch.jit._trace import TracerWarning, is_tracing

from slim_fast.errors import UserError
from slim_fast.skeletons import Topology, get_topology, topology_names

# Layouts of other code bases: axes -> (name, expression that makes (B, C, T, V, M) of x).
_LAYOUTS: dict[str, tuple[str, str]] = {
    "BCTVM": ("(B, C, T, V, M)", "x"),
    "BMTVC": ("PYSKL's (N, M, T, V, C)", "x.permute(0, 4, 2, 3, 1)"),
    "BTVCM": ("(N, T, V, C, M)", "x.permute(0, 3, 1, 2, 4)"),
    "BTMVC": ("(N, T, M, V, C)", "x.permute(0, 4, 1, 3, 2)"),
    "BCTV": ("(N, C, T, V), people missing", "x[..., None]"),
    "BTVC": ("(N, T, V, C), people missing", "x.permute(0, 3, 1, 2)[..., None]"),
    "TVC": ("one clip (T, V, C)", "x.permute(2, 0, 1)[None, ..., None]"),
}


def check_tensor(x: object, name: str) -> None:
    """Check that `x`, called `name`, is a tensor. Raises: UserError."""
    if not isinstance(x, Tensor):
        raise UserError(
            f"The encoder takes {name} as a torch tensor, not a {type(x).__name__}: pass "
            f"torch.as_tensor({name})."
        )


def static_shape(x: Tensor) -> tuple[int, ...]:
    """The sizes of x as numbers, also under torch.jit.trace, which records them as tensors."""
    if not is_tracing():
        return tuple(x.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TracerWarning)
        return tuple(map(int, x.shape))


def check_clips(
    x: Tensor, joints: int, channels: int, topology: Topology | int, patch_frames: int
) -> None:
    """Check that x is floating-point (B, channels, T, joints, M), T a multiple of patch_frames.

    Raises: UserError that says what x looks like and what to do.
    """
    check_tensor(x, "clips")
    if not x.is_floating_point():
        raise UserError(f"The encoder takes floating-point clips, not {x.dtype}; use x.float().")
    shape = static_shape(x)
    if len(shape) != 5 or shape[1] != channels or shape[3] != joints:
        name = f"{topology.name}, " if isinstance(topology, Topology) else ""
        raise UserError(
            (
                f"The encoder takes clips (B, C={channels}, T, V={joints}, M) ({name}{joints} "
                f"joints); got {shape}."
            )
            + _advice(shape, joints, channels)
        )
    if shape[2] % patch_frames or not shape[2]:
        raise UserError(
            f"The encoder takes clips whose length is a multiple of {patch_frames} frames; got "
            f"T={shape[2]}. Cut or resample them, or make the encoder with resample=True."
        )


def check_masks(masks: Tensor, x: Tensor, patch_frames: int) -> Tensor:
    """Masks as (B * M, T / patch_frames, V) for clips x (B, C, T, V, M). Raises: UserError."""
    b, _, t, v, m = static_shape(x)
    shape = (b * m, t // patch_frames * v)
    if masks.dtype != torch.bool or math.prod(static_shape(masks)) != math.prod(shape):
        raise UserError(
            f"masks must be bool (B * M, T / {patch_frames} * V) = {shape}; got {masks.dtype} "
            f"{tuple(masks.shape)}."
        )
    batch, _, frames, joints, slots = x.shape
    return masks.reshape(batch * slots, frames // patch_frames, joints)


def check_people(people: Tensor, x: Tensor) -> None:
    """Check that people is bool (B, M) for clips x (B, C, T, V, M). Raises: UserError."""
    if people.dtype != torch.bool or static_shape(people) != static_shape(x)[::4]:
        raise UserError(
            f"people must be bool (B, M) = {(x.shape[0], x.shape[4])}; got {people.dtype} "
            f"{tuple(people.shape)}."
        )


def _advice(shape: tuple[int, ...], joints: int, channels: int) -> str:
    """A sentence on the layout or skeleton that a wrong shape looks like, or ""."""
    for axes, (name, remedy) in _LAYOUTS.items():
        if len(axes) == len(shape) and (shape[axes.index("V")], shape[axes.index("C")]) == (
            joints,
            channels,
        ):
            return f" It looks like {name}: pass {remedy}."
    if len(shape) == 3 and shape[2] == joints * channels:
        return (
            f" It looks like (N, T, V * C): pass x.unflatten(2, ({joints}, {channels}))"
            ".permute(0, 3, 1, 2)[..., None]."
        )
    if len(shape) == 5 and shape[3] == joints:
        return (
            f" It has {shape[1]} channels: leave out what is no coordinate, or load weights made "
            "for it (SLiMEncoder.to_skeleton makes them)."
        )
    names = [
        (known, axes)
        for axes in _LAYOUTS
        if len(axes) == len(shape) and shape[axes.index("C")] in (2, 3, 4)
        for known in topology_names()
        if get_topology(known).num_joints == shape[axes.index("V")]
    ]
    if names:
        looks = " or ".join(dict.fromkeys(known for known, _ in names))
        return (
            f" Its {get_topology(names[0][0]).num_joints} joints look like {looks}: weights for "
            "another skeleton are "
            f'carried over by encoder.to_skeleton("{names[0][0]}").'
        )
    return ""

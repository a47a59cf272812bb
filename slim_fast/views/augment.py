"""Skeleton-aware augmentation: mirroring, bone-aware scaling, rotation, noise (section 3.2).

Mirroring and scaling are linear in a frame's joints, so both together are one V×V matrix a view;
rotation is one C×C matrix. Every view is then two small matrix multiplications, whatever was drawn.
"""

import re
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from slim_fast.limits import NonNegative, Share
from slim_fast.skeletons import Topology
from slim_fast.views.random_stream import RandomStream

_MIRROR, _SCALE, _ROTATE, _NOISE, _FLATTEN = range(5)


@dataclass
class AugmentConfig:
    """Probabilities and ranges of the skeleton-aware augmentations."""

    mirror: Share = 0.5
    """Probability of swapping left and right."""
    scale: Share = 0.5
    """Probability of bone-aware scaling."""
    scale_range: tuple[float, float] = (0.85, 1.15)
    """Factors of torso, arms and legs are drawn uniformly from this interval."""
    rotate: Share = 0.5
    """Probability of rotation."""
    tilt: float = 0.3
    """Rotation about the two horizontal axes, uniform in plus or minus this angle (rad)."""
    turn: float = 0.3
    """Rotation about the vertical axis, uniform in plus or minus this angle (rad)."""
    noise: tuple[NonNegative, NonNegative, NonNegative] = (0.01, 0.05, 0.01)
    """Gaussian noise (m) on the first global view, the second one and the local views."""
    noise_probability: tuple[Share, Share, Share] = (1.0, 0.1, 0.5)
    """Probability of that noise."""
    flatten: Share = 0.2
    """Probability of zeroing one coordinate axis of the second global view."""


class SkeletonAugmenter:
    """Draws and applies the augmentations of a batch of views on one topology.

    channels: "xyz", "xy", "xyzc" or "xyc"; a confidence c is mirrored with its joint and otherwise
    left alone.
    """

    def __init__(
        self,
        topology: Topology,
        channels: str,
        config: AugmentConfig,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config
        self.dims = len(channels.rstrip("c"))
        self.up = "xyz".index(topology.up[-1])
        bases = torch.cat(scaling_bases(topology))  # (1 + groups, V, V)
        self._swap = torch.tensor(topology.mirror, device=device)
        self._bases = torch.stack([bases, bases[..., list(topology.mirror)]], 1).to(device)
        eye = torch.eye(3, device=device)
        self._along = torch.diag_embed(eye)  # (axis, 3, 3), what a turn about the axis leaves alone
        self._across, self._turned = eye - self._along, torch.linalg.cross(eye[:, None], eye[None])
        tilts = [config.turn if axis == self.up else config.tilt for axis in range(3)]
        self._limit = torch.tensor(tilts, device=device)
        self._sigma = torch.tensor(config.noise, device=device)
        self._probability = torch.tensor(config.noise_probability, device=device)

    def joint_matrices(self, stream: RandomStream) -> tuple[Tensor, Tensor]:
        """What mirroring and scaling do to the joints.

        Returns: (*keys, V, V), which every coordinate axis is multiplied by from the left, and
        (*keys,), the factor (1 or -1) of the lateral axis.
        """
        mirrored = self._is_mirrored(stream)[..., None]
        low, high = self.config.scale_range
        u = stream.fold_in(_SCALE).uniform(len(self._bases))
        factor = torch.where(u[..., :1] < self.config.scale, low + (high - low) * u, 1.0)
        factor[..., 0] = 1.0  # of the root's position
        sides = torch.cat([~mirrored, mirrored], -1)
        matrix = torch.einsum("...g,...m,gmij->...ij", factor, sides.float(), self._bases)
        return matrix, 1.0 - 2.0 * mirrored[..., 0]

    def rotations(self, stream: RandomStream) -> Tensor:
        """(*keys, dims, dims) rotation matrices for row vectors, the identity where none is drawn.

        In 3-D: about x, then about the other horizontal axis, then about the vertical one. In 2-D:
        within the image, by the tilt.
        """
        u = stream.fold_in(_ROTATE).uniform(4)
        # about x, y, z
        angle = (2 * u[..., 1:] - 1) * self._limit
        angle = torch.where(u[..., :1] < self.config.rotate, angle, 0.0)
        cos, sin = angle.cos()[..., None, None], angle.sin()[..., None, None]
        about = (self._along + cos * self._across + sin * self._turned).unbind(-3)
        if self.dims == 2:
            return about[2][..., :2, :2]
        level = 3 - self.up  # the horizontal axis that is not x
        return about[0] @ about[level] @ about[self.up]

    def __call__(self, views: Tensor, stream: RandomStream, origin: Tensor | None = None) -> Tensor:
        """Mirror, scale and rotate views (..., w, V, C); stream keys (...,). Same shape.

        origin: (..., C), of the coordinates; it is subtracted first.
        """
        matrix, side = self.joint_matrices(stream)
        rotation = self.rotations(stream)
        # The lateral axis' sign goes into the rotation's first row.
        rotation = torch.cat(
            [rotation[..., :1, :] * side[..., None, None], rotation[..., 1:, :]], -2
        )
        leading, (w, v, c), dims = views.shape[:-3], views.shape[-3:], self.dims
        # A plane (w, V) each coordinate: what goes over long rows is several times faster.
        planes = views.new_empty(*leading, dims, w, v)
        centre = 0.0 if origin is None else origin[..., :dims, None, None]
        torch.sub(rearrange(views[..., :dims], "... w v c -> ... c w v"), centre, out=planes)
        moved = torch.bmm(matrix.view(-1, v, v), planes.view(-1, dims * w, v).mT)
        moved = rearrange(moved, "n v (c w) -> n c (v w)", c=dims)
        moved = torch.bmm(rotation.view(-1, dims, dims).mT, moved).view(*leading, dims, v, w)
        moved = rearrange(moved, "... c v w -> ... w v c")
        if c == dims:
            return moved.contiguous()
        confidence = views[..., dims:]
        swapped = torch.where(
            side[..., None, None, None] < 0, confidence[..., self._swap, :], confidence
        )
        return torch.cat([moved, swapped], -1)

    def mirrored(self, detected: Tensor, stream: RandomStream) -> Tensor:
        """Which joints (..., w, V) are detected after mirroring; stream keys (...,)."""
        swap = self._is_mirrored(stream)[..., None, None]
        return torch.where(swap, detected[..., self._swap], detected)

    def _is_mirrored(self, stream: RandomStream) -> Tensor:
        return stream.fold_in(_MIRROR).uniform() < self.config.mirror

    def add_noise(
        self, views: Tensor, kind: Tensor, stream: RandomStream, fixed_shapes: bool = False
    ) -> Tensor:
        """Gaussian noise on the coordinates; second global views sometimes lose an axis.

        views (..., w, V, C); kind (...,) int64: 0 first global, 1 second global, 2 local; stream
        keys (...,). fixed_shapes: draw the noise of views without any, too, which gives the same.
        """
        device = views.device
        sigma, probability = self._sigma[kind], self._probability[kind]
        noise_stream = stream.fold_in(_NOISE)
        noisy = noise_stream.fold_in(0).uniform() < probability
        u = stream.fold_in(_FLATTEN).uniform(2)
        flat = (kind == 1) & (u[..., 0] < self.config.flatten)
        axis = (u[..., 1] * self.dims).long().clamp_max(self.dims - 1)
        shape = (*views.shape[-3:-1], self.dims)
        out = views.clone(memory_format=torch.contiguous_format)
        coordinates = out.flatten(0, -4)[..., : self.dims]
        stream = noise_stream.fold_in(1)
        if fixed_shapes:
            sigma = torch.where(noisy, sigma, 0.0)[..., None, None, None]
            out[..., : self.dims] += stream.normal(shape) * sigma
            is_axis = torch.arange(views.shape[-1], device=device) == axis[..., None]
            return out * ~(flat[..., None] & is_axis)[..., None, None, :]
        noise = stream[noisy].normal(shape).mul_(sigma[noisy][:, None, None, None])
        coordinates.index_add_(0, noisy.flatten().nonzero()[:, 0], noise)
        coordinates[flat.flatten(), :, :, axis[flat]] = 0
        return out


def scaling_bases(topology: Topology) -> tuple[Tensor, Tensor]:
    """Forward kinematics as matrices: new joints = (root + Σ_g factor_g paths[g]) · joints.

    Returns: root (1, V, V), which copies the root's position to every joint; paths (groups, V, V),
    the sum of each joint's bones of one kind on its way from the root. Kinds are the parts' names
    without their side, so both sides share a factor. With every factor 1 the sum is the identity,
    exactly.
    """
    v = topology.num_joints
    kinds = {part: re.sub(r"^(left|right)_", "", part) for part in topology.parts}
    groups = sorted(set(kinds.values()))
    group_of = {
        joint: groups.index(kinds[part])
        for part, joints in topology.parts.items()
        for joint in joints
    }
    root = torch.zeros(1, v, v)
    root[..., topology.root] = 1.0
    paths = torch.zeros(len(groups), v, v)
    for child, parent in topology.bones:
        paths[:, child] = paths[:, parent]
        paths[group_of[child], child, child] += 1.0
        paths[group_of[child], child, parent] -= 1.0
    return root, paths

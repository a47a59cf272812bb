"""For SkateFormer's trainer: `model: slim_fast.interop.skateformer.SkateFormer_` in its YAML."""

from typing import Any

import torch
from torch import Tensor

from slim_fast.interop.adapters.arguments import Source
from slim_fast.interop.adapters.base import Adapter
from slim_fast.interop.clips.checks import static_shape
from slim_fast.interop.clips.people import find_present_people, zero_undetected
from slim_fast.skeletons import get_topology

# Joints in the order of SkateFormer's feeders with `partition: True`, by their numbers in the
# recordings: arms, legs, torso. They leave out NTU's joint 20, between the shoulders.
_NTU = (6, 7, 21, 22, 10, 11, 23, 24, 12, 13, 14, 15, 16, 17, 18, 19, 4, 8, 5, 9, 1, 2, 0, 3)
_UCLA = (4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 1, 2, 0, 3)
_PARTITIONS = {24: ("ntu-25", _NTU), 20: ("kinect-v1-20", _UCLA)}


class SkateFormer(Adapter):
    """Clips (N, C, T, V, M) -> logits (N, num_classes), with SkateFormer's arguments.

    Args:
        in_channels, num_points: channels and joints of the clips; None: the checkpoint's, or 3 and
            25. 24 (of NTU's 25) and 20 joints (NW-UCLA's) come in the feeder's own order and are
            put back into the recordings'; for the joint that the feeder leaves out, the mask token
            stands in, as in pre-training.
        num_classes: None: the checkpoint's, or 60.
        num_people, num_frames: any; people whose joints do not spread are absent, and no clip's
            length is fixed.
        head_drop: dropout of the features that the head reads.
        index_t: unused, see `forward`.
        partition: False: joints come in the recordings' order.
        pretrained, others: see Adapter. All sizes of SkateFormer's own blocks are unused, num_heads
            and mlp_ratio too.

    Raises: UserError for arguments that contradict the checkpoint, or as from_pretrained.
    """

    def __init__(
        self,
        in_channels: int | None = None,
        num_classes: int | None = None,
        num_people: int | None = None,
        num_frames: int | None = None,
        num_points: int | None = None,
        head_drop: float = 0.0,
        index_t: bool = False,
        partition: bool = True,
        pretrained: Source = None,
        **others: Any,
    ) -> None:
        skeleton, order = _PARTITIONS.get(num_points or 0, (None, ())) if partition else (None, ())
        topology = get_topology(skeleton) if skeleton else num_points
        requested = {"joints": ("num_points", topology), "channels": ("in_channels", in_channels)}
        super().__init__(pretrained, requested, {}, num_classes, **{"dropout": head_drop, **others})
        self.order = order
        self._has_masked_joint = bool(order) and len(order) < self.joints
        self.mask_token.requires_grad_(self._has_masked_joint)

    def forward(  # type: ignore[override]
        self, x: Tensor, index_t: Tensor | None = None, people: Tensor | None = None
    ) -> Tensor:
        """Logits (N, num_classes).

        index_t: (N, T), positions of the frames in their recording, from -1 to 1; unused. The
        encoder knows time by the index of its tokens, of eight frames each. The feeder samples the
        frames of a clip evenly, but for a random jitter within bins, so index_t only adds which
        part of the recording the clip is, which pre-training has no input for.
        people: (N, M) bool, who is present; None: whose joints spread.
        """
        if (
            not self.order
            or not isinstance(x, Tensor)
            or x.dim() != 5
            or static_shape(x)[3] != len(self.order)
        ):
            return super().forward(x, people)
        x = zero_undetected(x, self.channel_names)
        if people is None and self.skip_empty:  # before the missing joint is filled with zeros
            people = find_present_people(x, self.channel_names)
        order = x.new_tensor(self.order, dtype=torch.int64)
        batch, channels, frames, _, slots = x.shape
        x = x.new_zeros(batch, channels, frames, self.joints, slots).index_copy(3, order, x)
        if not self._has_masked_joint:
            return super().forward(x, people)
        x = self._resample_to_tokens(x)
        is_missing = x.new_tensor(
            [joint not in self.order for joint in range(self.joints)], dtype=torch.bool
        )
        masks = is_missing.expand(
            batch * slots, x.shape[2] // self.config.patch_frames, self.joints
        ).flatten(1)
        return self.forward_head(self.forward_features(x, masks, people))


SkateFormer_ = SkateFormer
"""The name in SkateFormer's configs."""

"""SLiM's encoder for SkateFormer's trainer: `model: slim_fast.interop.skateformer.SkateFormer_` in its YAML."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from slim_fast.interop.adapter import Adapter, Source
from slim_fast.interop.people import resample
from slim_fast.skeletons import get_topology

# The order in which SkateFormer's feeders give the joints with `partition: True`, counted as in the recordings: arms,
# legs, torso. NTU's joint 20, between the shoulders, is left out.
_NTU = (6, 7, 21, 22, 10, 11, 23, 24, 12, 13, 14, 15, 16, 17, 18, 19, 4, 8, 5, 9, 1, 2, 0, 3)
_UCLA = (4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 1, 2, 0, 3)
_PARTITIONS = {24: ("ntu-25", _NTU), 20: ("kinect-v1-20", _UCLA)}


class SkateFormer(Adapter):
    """Clips (N, C, T, V, M) -> logits (N, num_classes), with SkateFormer's arguments.

    Args:
        in_channels, num_points: channels and joints of the clips; None: the checkpoint's, or 3 and 25. 24 (of NTU's 25)
            and 20 joints (NW-UCLA's) come in the feeder's own order and are put back into the recordings'; for the
            joint that the feeder leaves out, the mask token stands in, as in pre-training.
        num_classes: None: the checkpoint's, or 60.
        num_people, num_frames: any; people who are all zeros do not count, and no clip's length is fixed.
        head_drop: of what the head reads, in training.
        index_t: no use, see `forward`.
        partition: False: joints come in the recordings' order.
        pretrained, others: see Adapter. All sizes of SkateFormer's own blocks are unused, num_heads and mlp_ratio too.

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
        asked = {"joints": ("num_points", topology), "channels": ("in_channels", in_channels)}
        super().__init__(pretrained, asked, {}, num_classes, **{"dropout": head_drop, **others})
        self.order = order
        self._hides = bool(order) and len(order) < self.joints
        self.mask_token.requires_grad_(self._hides)

    def forward(  # type: ignore[override]
        self, x: Tensor, index_t: Tensor | None = None, people: Tensor | None = None
    ) -> Tensor:
        """Logits (N, num_classes).

        index_t: (N, T), where the frames lie in their recording, from -1 to 1; not used. The encoder tells time by
        counting its tokens, eight frames each. The feeder spaces the frames of a clip evenly, up to a jitter within
        bins that serves as augmentation, so index_t adds which part of the recording the clip is; the encoder was
        never told that in pre-training.
        people: (N, M) bool, who is there; None: who is not all zeros.
        """
        if not self.order or x.dim() != 5 or x.shape[3] != len(self.order):
            return super().forward(x, people)
        place = torch.tensor(self.order, device=x.device)
        batch, channels, frames, _, places = x.shape
        x = x.new_zeros(batch, channels, frames, self.joints, places).index_copy(3, place, x)
        if not self._hides:
            return super().forward(x, people)
        times = max(1, round(frames / self.patch_size))
        hidden = torch.ones(self.joints, dtype=torch.bool, device=x.device).index_fill(0, place, False)
        masks = hidden.expand(batch * places, times, self.joints).flatten(1)
        return self.forward_head(self.forward_features(resample(x, times * self.patch_size), masks, people))


SkateFormer_ = SkateFormer
"""The name in SkateFormer's configs."""

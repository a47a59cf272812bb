"""A backbone for OpenMMLab's recognizers, PYSKL's and mmaction2's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from einops import rearrange
from torch import Tensor

from slim_fast.errors import UserError
from slim_fast.interop.adapters.arguments import Source, resolve_description, warn_unused
from slim_fast.interop.adapters.base import PretrainedEncoder
from slim_fast.interop.checkpoints.read import read_checkpoint
from slim_fast.interop.clips.checks import check_tensor
from slim_fast.interop.clips.people import find_present_people, zero_undetected
from slim_fast.skeletons import Topology, get_topology, topology_names

_LAYOUTS = {
    "nturgb+d": "ntu-25",
    "coco": "coco-17",
    "openpose": "openpose-18",
    "openpose_25": "openpose-25",
}


class Backbone(PretrainedEncoder):
    """Backbone for PYSKL's and mmaction2's RecognizerGCN: (N, M, T, V, C) -> (N, M, D, T / 8, V).

    D is the encoder's width (256 as released, like their graph networks); any T is resampled to a
    multiple of 8.

    Args:
        graph_cfg: as theirs; its layout ("nturgb+d", "coco", "openpose", or a name of `python -m
            slim_fast.data topologies`) names the skeleton.
        in_channels: C; None: the checkpoint's, or 3.
        pretrained: an encoder or run folder, .pth or hub name.
        channels: what they are; None: of 3 channels of a layout of pictures, the third is the
            confidence, "xyc".
        mean_of_present: absent people's features are zeros. True: those of the M / n-th part that
            is present are multiplied by M / n, so that the mean over M that the heads take is the
            mean over those present.
        layout: instead of graph_cfg.
        others: unused; one warning lists them.
    """

    def __init__(
        self,
        graph_cfg: Mapping[str, Any] | None = None,
        in_channels: int | None = None,
        pretrained: Source = None,
        *,
        channels: str | None = None,
        mean_of_present: bool = True,
        layout: Any = None,
        **others: Any,
    ) -> None:
        name = f"{type(self).__module__.rpartition('.')[2]}.{type(self).__name__}"
        layout = (graph_cfg or {}).get("layout") if layout is None else layout
        skeleton = _skeleton(name, layout)
        if isinstance(pretrained, str | Path):
            pretrained = read_checkpoint(pretrained)
        if channels is None and isinstance(skeleton, Topology) and skeleton.up == "-y":
            number = 3 if pretrained is None else len(pretrained.about.channels)
            channels = {2: "xy", 3: "xyc"}.get(number if in_channels is None else in_channels)
        if channels is not None and in_channels not in (None, len(channels)):
            raise UserError(
                f"{name}: in_channels={in_channels} and channels={channels!r} do not fit; give "
                "one of them."
            )
        requested = {
            "joints": ("layout", skeleton),
            "channels": ("channels", channels) if channels else ("in_channels", in_channels),
        }
        about, checkpoint = resolve_description(name, pretrained, requested)
        super().__init__(about.topology, about.channels, about.config, resample=True)
        self.mean_of_present = mean_of_present
        if checkpoint is not None:
            self.load_checkpoint(checkpoint)
        self.mask_token.requires_grad_(False)  # as in Adapter
        warn_unused(name, {k: (v, None) for k, v in others.items()})

    def init_weights(self) -> None:
        """Called by both frameworks; the constructor has initialised or loaded all weights."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """x (N, M, T, V, C) -> (N, M, D, T / 8, V), contiguous."""
        check_tensor(x, "clips")
        clips = rearrange(x, "n m t v c -> n c t v m") if x.dim() == 5 else x
        people, channels = None, self.channel_names
        if clips.dim() == 5:
            people = find_present_people(zero_undetected(clips, channels), channels)
        (grid,) = self.get_intermediate_layers(clips, 1, reshape=True, people=people)
        grid = grid.unflatten(0, (x.shape[0], -1))  # (N, M, D, T / 8, V)
        if not self.mean_of_present or people is None:
            return grid
        scale = people.shape[1] / people.sum(1).clamp_min(1)  # (N,)
        return grid * scale.to(grid.dtype).view(-1, 1, 1, 1, 1)


def _skeleton(model: str, layout: Any) -> Topology | int | None:
    """The skeleton of a layout; mmaction2's may also be a dict of a graph, {"num_node": V, ...}."""
    if isinstance(layout, Mapping):
        return int(layout["num_node"])
    if layout is None:
        return None
    if layout not in _LAYOUTS and layout not in topology_names():
        known = ", ".join([*_LAYOUTS, *topology_names()])
        raise UserError(f"{model}: the layout {layout!r} is not known; choose one of {known}.")
    return get_topology(_LAYOUTS.get(layout, layout))

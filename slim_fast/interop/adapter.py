"""What the adapters to other code bases share: sizes from a checkpoint or from the other's arguments, one warning of
arguments that change nothing, registries that may not be installed, and a backbone for OpenMMLab's recognizers.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor
from typing_extensions import Self

from slim_fast.errors import UserError
from slim_fast.interop.checkpoint import Checkpoint, read_checkpoint
from slim_fast.interop.classifier import SLiMClassifier, head_settings
from slim_fast.interop.encoder import SLiMEncoder
from slim_fast.interop.people import present_people
from slim_fast.model.encoder import EncoderConfig
from slim_fast.model.files import CHANNEL_NAMES, Description, known_topology
from slim_fast.skeletons import Topology, get_topology, topology_names

Source = str | Path | Checkpoint | None
Asked = Mapping[str, tuple[str, Any]]
"""joints (a number or a Topology), channels (a number or their names) or a field of EncoderConfig -> what the other
code base calls it, and the value it asks for (None: any)."""
Unused = Mapping[str, tuple[Any, Any]]
"""Argument -> its value, and the value that would say what holds anyway."""

_OPTIONS = ("pool", "people_pool", "dropout", "skip_empty")
_LAYOUTS = {"nturgb+d": "ntu-25", "coco": "coco-17", "openpose": "openpose-18", "openpose_25": "openpose-25"}


def settle(model: str, pretrained: Source, asked: Asked) -> tuple[Description, Checkpoint | None]:
    """What to make, and the weights for it: as `pretrained` (a path or hub name, as SLiMEncoder.from_pretrained takes)
    has it, or without it as `asked`, the rest in the released sizes.

    Raises: UserError when `asked` contradicts the checkpoint or names no encoder, or as `read_checkpoint`.
    """
    wanted = {ours: value for ours, (_, value) in asked.items() if value is not None}
    if pretrained is None:
        joints, channels = wanted.pop("joints", 25), wanted.pop("channels", "xyz")
        names = channels if isinstance(channels, str) else CHANNEL_NAMES.get(channels)
        if names is None:
            raise UserError(f"{model}: {asked['channels'][0]}={channels}, but clips have 2, 3 or 4 channels.")
        topology = joints if isinstance(joints, Topology) else known_topology(joints)
        return Description(EncoderConfig(**wanted), topology, names, {}), None
    checkpoint = pretrained if isinstance(pretrained, Checkpoint) else read_checkpoint(pretrained)
    about = checkpoint.about
    held = {"joints": about.topology, "channels": about.channels, **asdict(about.config)}
    wrong = [
        f"{asked[ours][0]}={_shown(value)} (it has {_shown(held[ours])})"
        for ours, value in wanted.items()
        if not _agree(value, held[ours])
    ]
    if wrong:
        raise UserError(
            f"{model}: the checkpoint {checkpoint.source} contradicts {', '.join(wrong)}; leave these arguments out, "
            "or give another checkpoint."
        )
    return about, checkpoint


def _agree(asked: Any, held: Any) -> bool:
    asked, held = (x.joints if isinstance(x, Topology) else x for x in (asked, held))
    if type(asked) is type(held):
        return bool(asked == held)
    numbers = [x if isinstance(x, int | float) else len(x) for x in (asked, held)]
    return bool(numbers[0] == numbers[1])


def _shown(value: Any) -> Any:
    return value.name if isinstance(value, Topology) else value


def warn_unused(model: str, unused: Unused) -> None:
    """One warning that names the arguments that ask for something else than what holds anyway."""
    # YAML's `None` is a word.
    named = [f"{name}={given!r}" for name, (given, anyway) in unused.items() if given not in (None, "None", anyway)]
    if named:
        warnings.warn(f"{model}: SLiM's encoder has no use for {', '.join(named)}.", stacklevel=4)


def registry(module: str, name: str) -> Any:
    """`name` of an optional package's `module`; None where the package is not installed. Other errors are raised."""
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0]:
            raise
        return None


class _Pretrained(SLiMEncoder):
    """Constructors take `pretrained`, and read it themselves; `from_pretrained` has their options."""

    @classmethod
    def _made_of(cls, checkpoint: Checkpoint, **options: Any) -> Self:
        return cls(pretrained=checkpoint, **options)  # type: ignore[call-arg]


class Adapter(_Pretrained, SLiMClassifier):
    """A classifier made by another code base's arguments. Clips of lengths that are no multiple of 8 frames are
    resampled; nothing is centred or scaled: clips come as that code base's feeder makes them.

    Args:
        pretrained: an encoder or run folder, .pth or hub name; sizes, skeleton and, where classes agree, head are its.
        asked: sizes the other's arguments name; see `settle`.
        unused: see `warn_unused`.
        num_classes: None: the checkpoint's, or 60.
        others: pool, people_pool, dropout and skip_empty go to SLiMClassifier, the rest is unused.
    """

    def __init__(
        self, pretrained: Source, asked: Asked, unused: Unused, num_classes: int | None = None, **others: Any
    ) -> None:
        name = f"{type(self).__module__.rpartition('.')[2]}.{type(self).__name__}"
        about, checkpoint = settle(name, pretrained, asked)
        options = {**head_settings(about, num_classes), **{k: others.pop(k) for k in _OPTIONS if k in others}}
        super().__init__(
            topology=about.topology, channels=about.channels, config=about.config, resample=True, **options
        )
        if checkpoint is not None:
            self.load_checkpoint(checkpoint)
        # Nothing reads it without masks, and DistributedDataParallel refuses parameters that get no gradient.
        self.mask_token.requires_grad_(False)
        warn_unused(name, {**unused, **{k: (v, None) for k, v in others.items()}})


class Backbone(_Pretrained):
    """Backbone for PYSKL's and mmaction2's RecognizerGCN: (N, M, T, V, C) -> (N, M, D, T / 8, V), D the encoder's width
    (256 as released, as their graph networks), T of any length, resampled to a multiple of 8.

    Args:
        graph_cfg: as theirs; its layout ("nturgb+d", "coco", "openpose", or a name of `python -m slim_fast.data
            topologies`) names the skeleton.
        in_channels: C; None: the checkpoint's, or 3.
        pretrained: an encoder or run folder, .pth or hub name.
        channels: what they are; None: of 3 channels of a layout of pictures, the third is the confidence, "xyc".
        mean_of_present: absent people's features are zeros. True: those of the M / n-th part that is present are
            multiplied by M / n, so that the mean over M that the heads take is the mean over those present.
        layout: instead of graph_cfg.
        others: no use; named in one warning.
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
        skeleton = _skeleton(name, layout if layout is not None else (graph_cfg or {}).get("layout"))
        if channels is None and pretrained is None and isinstance(skeleton, Topology) and skeleton.up == "-y":
            channels = {2: "xy", 3: "xyc"}.get(3 if in_channels is None else in_channels)
        if channels is not None and in_channels not in (None, len(channels)):
            raise UserError(
                f"{name}: in_channels={in_channels} and channels={channels!r} do not fit; give one of them."
            )
        asked = {
            "joints": ("layout", skeleton),
            "channels": ("channels", channels) if channels else ("in_channels", in_channels),
        }
        about, checkpoint = settle(name, pretrained, asked)
        super().__init__(about.topology, about.channels, about.config, resample=True)
        self.mean_of_present = mean_of_present
        if checkpoint is not None:
            self.load_checkpoint(checkpoint)
        self.mask_token.requires_grad_(False)  # as in Adapter
        warn_unused(name, {k: (v, None) for k, v in others.items()})

    def init_weights(self) -> None:
        """Called by both frameworks. Weights are initialised or loaded when the backbone is made; they stay."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """x (N, M, T, V, C) -> (N, M, D, T / 8, V), contiguous."""
        clips = x.permute(0, 4, 2, 3, 1) if x.dim() == 5 else x
        people = present_people(clips, self.channel_names) if clips.dim() == 5 else None
        (grid,) = self.get_intermediate_layers(clips, 1, reshape=True, people=people)
        grid = grid.unflatten(0, (len(x), -1))
        if not self.mean_of_present or people is None:
            return grid
        share = people.shape[1] / people.sum(1).clamp_min(1)  # (N,)
        return grid * share.to(grid.dtype).view(-1, 1, 1, 1, 1)


def _skeleton(model: str, layout: Any) -> Topology | int | None:
    """mmaction2 also takes a layout that describes a graph, {"num_node": V, ...}."""
    if isinstance(layout, Mapping):
        return int(layout["num_node"])
    if layout is None:
        return None
    if layout not in _LAYOUTS and layout not in topology_names():
        known = ", ".join([*_LAYOUTS, *topology_names()])
        raise UserError(f"{model}: the layout {layout!r} is not known; choose one of {known}.")
    return get_topology(_LAYOUTS.get(layout, layout))

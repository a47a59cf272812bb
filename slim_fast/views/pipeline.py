"""From clips to the views and masks of one training step (paper section 3.2), the whole batch at once."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from slim_fast.views.augment import AugmentConfig, SkeletonAugmenter
from slim_fast.views.frames import crop, extended_length, fold, window_positions
from slim_fast.views.masks import MaskConfig, TubeMasker, motion_masks, random_masks, shuffle, stratified_ratios
from slim_fast.views.store import FrameStore
from slim_fast.views.stream import Stream

PATCH_FRAMES = 8
_PERSON, _CROP, _WINDOW, _AUGMENT, _MASK, _RATIOS = range(6)
_WHOLE_CLIP, _WHOLE_BATCH = -1, -2  # in the place of a view's number


@dataclass
class LocalViewConfig:
    """Local views of one length around each global view."""

    window: int = 32
    """Frames, a multiple of 8."""
    count: int = 1
    """Views of this length around each of the two global views."""
    interval: tuple[float, float] = (0.35, 0.7)
    """Share of the global view's frame range that is cropped."""


def _published_locals() -> list[LocalViewConfig]:
    return [
        LocalViewConfig(32, 1, (0.35, 0.7)),
        LocalViewConfig(16, 2, (0.15, 0.4)),
        LocalViewConfig(8, 1, (0.05, 0.2)),
    ]


@dataclass
class ViewsConfig:
    """The two global views and the local views around them."""

    window: int = 64
    """Frames of a global view, a multiple of 8."""
    interval: tuple[float, float] = (0.5, 1.0)
    """Share of the clip's frames that a global view crops."""
    local: list[LocalViewConfig] = field(default_factory=_published_locals)
    """Local views; an empty list trains on global views only."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Skeleton-aware augmentations."""
    mask: MaskConfig = field(default_factory=MaskConfig)
    """Token masks."""


@dataclass
class ViewGroup:
    """All views of one length: clips (B, n, w, V, C) float32, mask (B, n, w / 8, V) bool (True = hidden from the
    student).
    """

    window: int
    clips: Tensor
    mask: Tensor


@dataclass
class ViewBatch:
    """The views of one step. groups[0] holds the two global views; clip (B,) are the store's clip numbers."""

    groups: list[ViewGroup]
    clip: Tensor
    step: int


class ViewSampler:
    """Draws views for batches of clips of a store. A batch is a pure function of (seed, step, clip numbers)."""

    def __init__(self, store: FrameStore, config: ViewsConfig, seed: int) -> None:
        self.store, self.config, self.seed = store, config, seed
        device = store.device
        self._augment = SkeletonAugmenter(store.topology, store.channels, config.augment, device)
        self._tubes = TubeMasker(store.topology, device)
        grid = config.window // PATCH_FRAMES * store.topology.num_joints
        self._max_tube_area = max(1, grid // 2)

    def __call__(self, clip: Tensor, step: int) -> ViewBatch:
        """clip: int64 (B,) clip numbers of the store, on its device."""
        config, device = self.config, clip.device
        of_clip = Stream.of(self.seed, step, clip)
        of_batch = Stream.of(self.seed, step, _WHOLE_BATCH, device=device)
        track = self.store.tracks(clip, of_clip.fold(_WHOLE_CLIP).fold(_PERSON).uniform())
        frames = self.store.frames(track)
        centre = self.store.gather(track, torch.zeros_like(track))[:, self.store.topology.centre]  # (B, C)
        centre = torch.cat([centre[:, : self._augment.dims], torch.zeros_like(centre[:, self._augment.dims :])], -1)

        view = torch.arange(2, device=device)
        stream = of_clip[:, None].fold(view)
        start, length = crop(
            extended_length(frames)[:, None].expand(-1, 2), config.window, config.interval, stream.fold(_CROP)
        )
        groups = [self._views(track, frames, centre, start, length, config.window, view.clamp_max(1), stream)]
        ratios = stratified_ratios(
            round(config.mask.global_share * view.numel() * len(clip)), config.mask.ratio, of_batch
        )
        ratios = torch.nn.functional.pad(ratios, (0, 2 * len(clip) - len(ratios)))
        self._mask(groups[0], shuffle(ratios, of_batch.fold(_RATIOS)).view(-1, 2), stream)

        seen = 2
        for number, local in enumerate(config.local):
            anchor = torch.arange(2, device=device).repeat_interleave(local.count)
            stream = of_clip[:, None].fold(seen + torch.arange(len(anchor), device=device))
            inner, span = crop(length[:, anchor], local.window, local.interval, stream.fold(_CROP))
            kind = torch.full_like(anchor, 2)
            group = self._views(track, frames, centre, start[:, anchor] + inner, span, local.window, kind, stream)
            if config.mask.local:
                of_group = of_batch.fold(number + 1)
                ratios = stratified_ratios(len(anchor) * len(clip), config.mask.ratio, of_group)
                if config.mask.shuffle_local:
                    ratios = shuffle(ratios, of_group.fold(_RATIOS))
                self._mask(group, ratios.view(-1, len(anchor)), stream)
            groups.append(group)
            seen += len(anchor)
        return ViewBatch(groups, clip, step)

    def _views(
        self,
        track: Tensor,
        frames: Tensor,
        centre: Tensor,
        start: Tensor,
        length: Tensor,
        window: int,
        kind: Tensor,
        stream: Stream,
    ) -> ViewGroup:
        """Gather and augment: track, frames (B,), centre (B, C), start, length (B, n), kind (n,), stream (B, n)."""
        position = start[..., None] + window_positions(length, window, stream.fold(_WINDOW))  # (B, n, w)
        views = interpolated_frames(self.store, track[:, None, None], position, frames[:, None, None])
        views = self._augment(views - centre[:, None, None, None], stream.fold(_AUGMENT))
        views = self._augment.add_noise(views, kind.expand(start.shape), stream.fold(_AUGMENT))
        tokens = window // PATCH_FRAMES
        mask = torch.zeros(*start.shape, tokens, views.shape[-2], dtype=torch.bool, device=views.device)
        return ViewGroup(window, views, mask)

    def _mask(self, group: ViewGroup, ratios: Tensor, stream: Stream) -> None:
        """Fill the group's mask: ratios (B, n), 0 = not masked; stream (B, n)."""
        config = self.config.mask
        _, _, tokens, joints = group.mask.shape
        budget = (ratios * tokens * joints).long().flatten()
        keys = Stream(stream.fold(_MASK).keys.flatten())
        if config.kind == "tube":
            mask = self._tubes(budget, tokens, max(1, group.window // PATCH_FRAMES), self._max_tube_area, keys)
        elif config.kind == "random":
            mask = random_masks(budget, tokens, joints, keys)
        else:
            mask = motion_masks(group.clips.flatten(0, 1), budget, PATCH_FRAMES, config.motion_temperature, keys)
        group.mask = mask.view_as(group.mask)


def interpolated_frames(store: FrameStore, track: Tensor, position: Tensor, frames: Tensor) -> Tensor:
    """Frames at fractional positions of the ping-pong extended tracks: (..., w) -> (..., w, V, C)."""
    below = position.long()
    share = position - below
    lower = store.gather(track, fold(below, frames))
    if not bool(share.any()):
        return lower
    return torch.lerp(lower, store.gather(track, fold(below + 1, frames)), share[..., None, None])

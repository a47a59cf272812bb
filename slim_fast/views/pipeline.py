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
    most_masked: int | None = None
    """No more tokens of the global views are masked, whatever the masks turned out to be; None: unknown."""


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
        whole = extended_length(frames)[:, None].expand(-1, 2)
        start, length = crop(whole, config.window, config.interval, stream.fold(_CROP))
        views = [self._views(track, frames, centre, start, length, config.window, view, stream)]
        streams, ratios = [stream], [self._global_ratios(len(clip), of_batch)]
        seen = 2
        for number, local in enumerate(config.local):
            anchor = torch.arange(2, device=device).repeat_interleave(local.count)
            stream = of_clip[:, None].fold(seen + torch.arange(len(anchor), device=device))
            inner, span = crop(length[:, anchor], local.window, local.interval, stream.fold(_CROP))
            kind = torch.full_like(anchor, 2)
            views.append(self._views(track, frames, centre, start[:, anchor] + inner, span, local.window, kind, stream))
            streams.append(stream)
            ratios.append(self._local_ratios(len(clip), len(anchor), of_batch.fold(number + 1)))
            seen += len(anchor)
        masks = self._masks(views, ratios, streams)
        groups = [ViewGroup(v.shape[2], v, mask) for v, mask in zip(views, masks, strict=True)]
        return ViewBatch(groups, clip, step, self.most_masked(len(clip)))

    def most_masked(self, clips: int) -> int:
        """The most tokens that the global views of a batch may have masked: the tops of the ratios' strata."""
        mask = self.config.mask
        tokens = self.config.window // PATCH_FRAMES * self.store.topology.num_joints
        views = round(mask.global_share * 2 * clips)
        low, high = mask.ratio
        return sum(int((low + (high - low) * (view + 1) / views) * tokens + 1e-3) for view in range(views))

    def _global_ratios(self, clips: int, stream: Stream) -> Tensor:
        """(clips, 2) share of each global view to mask, 0 for the views that stay whole."""
        mask = self.config.mask
        ratios = stratified_ratios(round(mask.global_share * 2 * clips), mask.ratio, stream)
        ratios = torch.nn.functional.pad(ratios, (0, 2 * clips - len(ratios)))
        return shuffle(ratios, stream.fold(_RATIOS)).view(clips, 2)

    def _local_ratios(self, clips: int, views: int, stream: Stream) -> Tensor:
        """(clips, views) share of each local view of one length to mask."""
        mask = self.config.mask
        if not mask.local:
            return torch.zeros(clips, views, device=stream.keys.device)
        ratios = stratified_ratios(clips * views, mask.ratio, stream)
        if mask.shuffle_local:
            ratios = shuffle(ratios, stream.fold(_RATIOS))
        return ratios.view(clips, views)

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
    ) -> Tensor:
        """Gather and augment: (B, n, window, V, C).

        track, frames (B,); centre (B, C); start, length (B, n); kind (n,), see `add_noise`; stream (B, n).
        """
        position = start[..., None] + window_positions(length, window, stream.fold(_WINDOW))  # (B, n, w)
        views = interpolated_frames(self.store, track[:, None, None], position, frames[:, None, None])
        views = self._augment(views - centre[:, None, None, None], stream.fold(_AUGMENT))
        return self._augment.add_noise(views, kind.expand(start.shape), stream.fold(_AUGMENT))

    def _masks(self, views: list[Tensor], ratios: list[Tensor], streams: list[Stream]) -> list[Tensor]:
        """Masks (B, n, w / 8, V) bool of views (B, n, w, V, C) that cover the share `ratios` (B, n) of their tokens."""
        config, joints = self.config.mask, self.store.topology.num_joints
        tokens = [v.shape[2] // PATCH_FRAMES for v in views]
        budgets = [(ratio * t * joints).long().flatten() for t, ratio in zip(tokens, ratios, strict=True)]
        keys = [stream.fold(_MASK).keys.flatten() for stream in streams]
        if config.kind == "tube":
            sizes = [len(budget) for budget in budgets]
            temporal = torch.cat([torch.full_like(budget, t) for budget, t in zip(budgets, tokens, strict=True)])
            grids = self._tubes(torch.cat(budgets), temporal, temporal, self._max_tube_area, Stream(torch.cat(keys)))
            masks = [grid[:, :t] for grid, t in zip(grids.split(sizes), tokens, strict=True)]
        elif config.kind == "random":
            masks = [random_masks(b, t, joints, Stream(k)) for b, t, k in zip(budgets, tokens, keys, strict=True)]
        else:
            masks = [
                motion_masks(v.flatten(0, 1), b, PATCH_FRAMES, config.motion_temperature, Stream(k))
                for v, b, k in zip(views, budgets, keys, strict=True)
            ]
        return [mask.view(*v.shape[:2], t, joints) for mask, v, t in zip(masks, views, tokens, strict=True)]


def interpolated_frames(store: FrameStore, track: Tensor, position: Tensor, frames: Tensor) -> Tensor:
    """Frames at fractional positions of the ping-pong extended tracks: (..., w) -> (..., w, V, C)."""
    below = position.long()
    share = position - below
    lower = store.gather(track, fold(below, frames))
    if not bool(share.any()):
        return lower
    return torch.lerp(lower, store.gather(track, fold(below + 1, frames)), share[..., None, None])

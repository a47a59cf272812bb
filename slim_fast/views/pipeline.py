"""From clips to the views and masks of one step (paper section 3.2), a batch at once."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from slim_fast.limits import Count, Frames, Share, check_interval
from slim_fast.views.augment import AugmentConfig, SkeletonAugmenter
from slim_fast.views.frames import (
    crop,
    extended_length,
    ping_pong_index,
    shortest_crop,
    window_positions,
)
from slim_fast.views.masks import (
    MaskConfig,
    TubeMasker,
    motion_masks,
    random_masks,
    shuffle,
    stratified_ratios,
)
from slim_fast.views.random_stream import RandomStream
from slim_fast.views.store import FrameStore, send
from slim_fast.views.tracks import Tracks
from slim_fast.views.undetected import detected_joints, fill_undetected, interpolate

PATCH_FRAMES = 8
_PERSON, _CROP, _WINDOW, _AUGMENT, _MASK, _RATIOS = range(6)
_WHOLE_CLIP, _WHOLE_BATCH = -1, -2  # instead of a view's number


@dataclass
class LocalViewConfig:
    """Local views of one length around each global view."""

    window: Frames = 32
    """Frames of a local view."""
    count: Count = 1
    """Views of this length around each of the two global views."""
    interval: tuple[Share, Share] = (0.35, 0.7)
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

    window: Frames = 64
    """Frames of a global view."""
    interval: tuple[Share, Share] = (0.5, 1.0)
    """Share of the clip's frames that a global view crops."""
    people: Count = 2
    """Most people of a clip to take, one a step: the longest present, then the most moving."""
    local: list[LocalViewConfig] = field(default_factory=_published_locals)
    """Local views; an empty list trains on global views only."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Skeleton-aware augmentations."""
    mask: MaskConfig = field(default_factory=MaskConfig)
    """Token masks."""

    def __post_init__(self) -> None:
        check_interval("views.interval", self.interval)
        for index, local in enumerate(self.local):
            check_interval(f"views.local[{index}].interval", local.interval)


@dataclass
class ViewGroup:
    """Views of one length: clips (B, n, w, V, C) float32; mask (B, n, w / 8, V), True: hidden."""

    window: int
    clips: Tensor
    mask: Tensor


@dataclass
class ViewBatch:
    """The views of a step, groups[0] the two global ones; clip (B,): the store's clip numbers."""

    groups: list[ViewGroup]
    clip: Tensor
    step: int | Tensor
    max_masked: int | None = None
    """The most tokens of the global views that any masks of these settings cover; None: unknown."""


class ViewSampler:
    """Draws a batch of views as a pure function of (seed, step, clip numbers).

    fixed_shapes: whether no tensor's size may depend on what was drawn. Then more is computed in
    vain, and the host reads nothing where tubes are masked by their Triton kernel, as a CUDA graph
    demands. None: on a GPU. The views are the same.
    """

    def __init__(
        self, store: FrameStore, config: ViewsConfig, seed: int, fixed_shapes: bool | None = None
    ) -> None:
        self.store, self.config, self.seed = store, config, seed
        device = store.device
        self.fixed_shapes = device.type == "cuda" if fixed_shapes is None else fixed_shapes
        self._augment = SkeletonAugmenter(store.topology, store.channels, config.augment, device)
        self._tubes = TubeMasker(store.topology, device)
        grid = config.window // PATCH_FRAMES * store.topology.num_joints
        self._max_tube_area = max(1, grid // 2)

    def __call__(self, clip: Tensor, step: int | Tensor, part: slice | None = None) -> ViewBatch:
        """clip: int64 (B,) clip numbers, on the store's device, or the host if it `is_staged`.

        step: a number, or int64 () where the clips are.

        part: of the batch, the clips whose views are wanted: those that the whole batch's would
        have.
        """
        config, device, batch = self.config, self.store.device, len(clip)
        part = part or slice(batch)
        clip = clip[part]
        of_clip = RandomStream.of(self.seed, step, clip)
        of_batch = RandomStream.of(self.seed, step, _WHOLE_BATCH, device=device)
        person = of_clip.fold_in(_WHOLE_CLIP).fold_in(_PERSON).uniform()
        store, track = self._read(self.store.tracks(clip, person))
        if self.store.is_staged:
            clip, of_clip = send(clip, device), RandomStream(send(of_clip.keys, device))
        frames = store.frames(track)
        view = torch.arange(2, device=device)
        stream = of_clip[:, None].fold_in(view)
        # Crops lie within the clip; only one that is too short for them goes back and forth.
        whole = torch.where(frames < shortest_crop(config.window), extended_length(frames), frames)
        start, length = crop(
            whole[:, None].expand(-1, 2), config.window, config.interval, stream.fold_in(_CROP)
        )
        position = start[..., None] + window_positions(
            length, config.window, stream.fold_in(_WINDOW)
        )
        views = [self._views(store, track, frames, position, view, stream)]
        streams, ratios = [stream], [self._global_ratios(batch, of_batch)[part]]
        # local views lie between these
        first, last = position[..., 0].long(), position[..., -1].ceil().long()
        seen = 2
        for number, local in enumerate(config.local):
            anchor = torch.arange(2, device=device).repeat_interleave(local.count)
            stream = of_clip[:, None].fold_in(seen + torch.arange(len(anchor), device=device))
            start, length = crop(
                (last - first + 1)[:, anchor], local.window, local.interval, stream.fold_in(_CROP)
            )
            position = (first[:, anchor] + start)[..., None]
            position = position + window_positions(length, local.window, stream.fold_in(_WINDOW))
            views.append(
                self._views(store, track, frames, position, torch.full_like(anchor, 2), stream)
            )
            streams.append(stream)
            share = self._local_ratios(batch, len(anchor), of_batch.fold_in(number + 1))
            ratios.append(share[part])
            seen += len(anchor)
        masks = self._masks(views, ratios, streams)
        groups = [ViewGroup(v.shape[2], v, mask) for v, mask in zip(views, masks, strict=True)]
        return ViewBatch(groups, clip, step, self.max_masked(batch, len(clip)))

    def _read(self, track: Tensor) -> tuple[Tracks, Tensor]:
        """Tracks on the device, and which of them each of the store's is."""
        if not self.store.is_staged:
            return self.store, track
        return self.store.stage(track), torch.arange(len(track), device=self.store.device)

    def max_masked(self, clips: int, part: int | None = None) -> int:
        """The most tokens of the global views that a batch, or `part` of its clips, may have
        masked.
        """
        mask = self.config.mask
        tokens = self.config.window // PATCH_FRAMES * self.store.topology.num_joints
        views = round(mask.global_share * 2 * clips)
        low, high = mask.ratio
        most = [
            int((low + (high - low) * (view + 1) / views) * tokens + 1e-3) for view in range(views)
        ]
        return sum(most[-2 * (clips if part is None else part) :])

    def _global_ratios(self, clips: int, stream: RandomStream) -> Tensor:
        """(clips, 2) share of each global view to mask, 0 for the views that stay whole."""
        mask = self.config.mask
        ratios = stratified_ratios(round(mask.global_share * 2 * clips), mask.ratio, stream)
        ratios = torch.nn.functional.pad(ratios, (0, 2 * clips - len(ratios)))
        return shuffle(ratios, stream.fold_in(_RATIOS)).view(clips, 2)

    def _local_ratios(self, clips: int, views: int, stream: RandomStream) -> Tensor:
        """(clips, views) share of each local view of one length to mask."""
        mask = self.config.mask
        if not mask.local:
            return torch.zeros(clips, views, device=stream.keys.device)
        ratios = stratified_ratios(clips * views, mask.ratio, stream)
        if mask.shuffle_local:
            ratios = shuffle(ratios, stream.fold_in(_RATIOS))
        return ratios.view(clips, views)

    def _views(
        self,
        store: Tracks,
        track: Tensor,
        frames: Tensor,
        position: Tensor,
        kind: Tensor,
        stream: RandomStream,
    ) -> Tensor:
        """Gather, centre and augment: (B, n, w, V, C); undetected joints are zeros.

        track, frames (B,); position (B, n, w) in the extended clip; kind (n,), see `add_noise`;
        stream (B, n).
        """
        augment = self._augment
        views = gather_interpolated(
            *(store, track[:, None, None], position, frames[:, None, None]), self.fixed_shapes
        )
        detected = None
        if not store.is_complete:
            detected = detected_joints(views, augment.dims)
            views = fill_undetected(views, detected, store.topology)
        stream = stream.fold_in(_AUGMENT)
        views = augment(views, stream, store.origins(track)[:, None])
        views = augment.add_noise(views, kind.expand(stream.keys.shape), stream, self.fixed_shapes)
        return views if detected is None else views * augment.mirrored(detected, stream)[..., None]

    def _masks(
        self, views: list[Tensor], ratios: list[Tensor], streams: list[RandomStream]
    ) -> list[Tensor]:
        """Masks (B, n, w / 8, V) bool over the share `ratios` (B, n) of views' tokens."""
        config, joints = self.config.mask, self.store.topology.num_joints
        tokens = [v.shape[2] // PATCH_FRAMES for v in views]
        shares = zip(ratios, tokens, strict=True)
        budgets = [(ratio * t * joints).long().flatten() for ratio, t in shares]
        keys = [stream.fold_in(_MASK).keys.flatten() for stream in streams]
        groups = list(zip(views, tokens, budgets, map(RandomStream, keys), strict=True))
        if config.kind == "tube":
            temporal = torch.cat([torch.full_like(budget, t) for _, t, budget, _ in groups])
            stream, largest = RandomStream(torch.cat(keys)), self._max_tube_area
            grids = self._tubes(
                *(torch.cat(budgets), temporal, temporal, largest, stream), max(tokens)
            )
            masks = list(grids.split([len(budget) for budget in budgets]))
        elif config.kind == "random":
            masks = [random_masks(budget, t, joints, stream) for _, t, budget, stream in groups]
        else:
            settings = PATCH_FRAMES, config.motion_temperature
            masks = [motion_masks(v.flatten(0, 1), b, *settings, key) for v, _, b, key in groups]
        shapes = ((*v.shape[:2], t, joints) for v, t, *_ in groups)
        return [mask[:, : s[2]].reshape(s) for mask, s in zip(masks, shapes, strict=True)]


def gather_interpolated(
    store: Tracks, track: Tensor, position: Tensor, frames: Tensor, always: bool = False
) -> Tensor:
    """Frames at fractional positions of ping-pong extended tracks: (..., w) -> (..., w, V, C).

    always: do not look whether any position lies between two frames.
    """
    below = position.long()
    weight = position - below
    lower = store.gather(track, ping_pong_index(below, frames))
    if not (always or bool(weight.any())):
        return lower
    upper, weight = store.gather(track, ping_pong_index(below + 1, frames)), weight[..., None, None]
    if store.is_complete:
        return torch.lerp(lower, upper, weight)
    return interpolate(lower, upper, weight, len(store.channels.rstrip("c")))

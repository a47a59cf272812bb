"""The views of one sample, one after the other in numpy: the baseline of the view benchmark.

This is how a data loader's ``__getitem__`` is usually written: a loop over the ten views, ordinary
numpy inside each. It follows sections 3 and 4 of the recipe (Do et al., "Less is More", arXiv
2603.10648): temporal crops, mirroring, bone-aware scaling, rotation, noise and semantic tube masks,
on 3-D joints of one person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from slim_fast.skeletons import Topology

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

PATCH_FRAMES = 8
MIN_FRAMES = 150
MASK_RATIOS = (0.5, 0.9)
MASK_PROPOSALS = 10
SCALES = (0.85, 1.15)
TILT = 0.3  # radians, about the two horizontal axes
YAW = 0.3  # radians, about the vertical
AXES = {"x": 0, "y": 1, "z": 2}


@dataclass(frozen=True)
class Window:
    """One view length: views around each global, fraction of frames to crop, smallest tube area."""

    per_global: int
    fraction: tuple[float, float]
    min_area: int


WINDOWS = {
    64: Window(1, (0.5, 1.0), 8),
    32: Window(1, (0.35, 0.7), 4),
    16: Window(2, (0.15, 0.4), 2),
    8: Window(1, (0.05, 0.2), 1),
}


@dataclass
class NumpyViews:
    """``clips[w]`` (n, frames, V, 3) float32 and ``masks[w]`` (n, frames/8, V) bool, by window.

    The views of global A come before those of global B: 64: A, B; 32: A, B; 16: A, A, B, B; 8: A,
    B. A batch has one more axis in front: (B, n, frames, V, 3) and (B, n, frames/8, V).
    """

    clips: list[Array]
    masks: list[Mask]


def lengthen(clip: Array) -> Array:
    """(T, V, 3) -> at least 150 frames, by appending the reversed clip again and again."""
    pieces = [clip]
    while sum(map(len, pieces)) < MIN_FRAMES:
        pieces.append(pieces[-1][::-1])
    return np.concatenate(pieces)


def shortest_crop(window: int) -> int:
    """Frames that a crop for a view of ``window`` frames has at least."""
    return min(max(window, 8), 16)


def crop(
    start: int, length: int, window: int, fraction: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int]:
    """A random range (start, length) inside the given one."""
    cropped = min(max(int(length * rng.uniform(*fraction)), shortest_crop(window)), length)
    return start + int(rng.integers(length - cropped + 1)), cropped


def window_positions(length: int, window: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Where in a crop of `length` frames a window's frames lie: between frames when short, random
    skips when similar, one random frame a bin when long.
    """
    if length < window:
        return np.clip((np.arange(window) + 0.5) * length / window - 0.5, 0, length - 1)
    if length < 2 * window:
        skips = np.zeros(window + 1, dtype=np.int64)
        skips[rng.choice(window + 1, length - window, replace=False)] = 1
        return (np.arange(window) + np.cumsum(skips)[:-1]).astype(np.float64)
    edges = np.arange(window + 1) * length // window
    return rng.integers(edges[:-1], edges[1:]).astype(np.float64)


def frames_at(clip: Array, position: NDArray[np.float64]) -> Array:
    """(T, V, 3) -> (window, V, 3), interpolated where positions lie between frames."""
    before = np.floor(position).astype(np.int64)
    if (before == position).all():
        return clip[before]
    after = np.minimum(before + 1, len(clip) - 1)
    weight = (position - before).astype(np.float32)[:, None, None]
    return clip[before] * (1 - weight) + clip[after] * weight


def mirror(view: Array, topology: Topology) -> Array:
    """Swap left and right joints and negate x."""
    return view[:, list(topology.mirror)] * np.array([-1, 1, 1], dtype=np.float32)


def scale_bones(view: Array, topology: Topology, rng: np.random.Generator) -> Array:
    """Scale trunk, arms and legs by a factor each; bones keep directions, the root its path."""
    kinds = {name: name.removeprefix("left_").removeprefix("right_") for name in topology.parts}
    factors = {kind: rng.uniform(*SCALES) for kind in sorted(set(kinds.values()))}
    factor = np.ones(topology.num_joints, dtype=np.float32)
    for name, joints in topology.parts.items():
        factor[list(joints)] = factors[kinds[name]]
    scaled = view.copy()
    for joint in topology.order:
        parent = topology.parents[joint]
        if parent >= 0:
            scaled[:, joint] = scaled[:, parent] + factor[joint] * (
                view[:, joint] - view[:, parent]
            )
    return scaled


def axis_rotation(axis: int, angle: float) -> NDArray[np.float64]:
    """Rotation by ``angle`` radians about one coordinate axis, (3, 3)."""
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = np.cos(angle)
    matrix[i, j], matrix[j, i] = -np.sin(angle), np.sin(angle)
    return matrix


def rotate(view: Array, topology: Topology, rng: np.random.Generator) -> Array:
    """Rotations about both horizontal axes and the vertical, around the origin."""
    vertical = AXES[topology.up[-1]]
    matrix = np.eye(3)
    for axis in range(3):
        limit = YAW if axis == vertical else TILT
        matrix = axis_rotation(axis, rng.uniform(-limit, limit)) @ matrix
    return view @ matrix.T.astype(np.float32)


def augment(view: Array, topology: Topology, rng: np.random.Generator) -> Array:
    """Mirroring, bone scaling and rotation, each with probability one half."""
    if rng.random() < 0.5:
        view = mirror(view, topology)
    if rng.random() < 0.5:
        view = scale_bones(view, topology, rng)
    if rng.random() < 0.5:
        view = rotate(view, topology, rng)
    return view


def add_noise(view: Array, kind: str, rng: np.random.Generator) -> Array:
    """Gaussian noise in metres; ``kind`` is "first" or "second" (the globals) or "local"."""
    sigma, probability = {"first": (0.01, 1.0), "second": (0.05, 0.1), "local": (0.01, 0.5)}[kind]
    if rng.random() < probability:
        view = view + rng.normal(0, sigma, view.shape).astype(np.float32)
    if kind == "second" and rng.random() < 0.2:
        view = view.copy()
        view[..., rng.integers(3)] = 0
    return view


def tube_mask(
    tokens: int,
    topology: Topology,
    ratio: float,
    min_area: int,
    max_area: int,
    rng: np.random.Generator,
) -> Mask:
    """(tokens, V) bool: tubes over runs of joints of a part until ``ratio`` of them is masked."""
    mask = np.zeros((tokens, topology.num_joints), dtype=bool)
    parts = [np.array(part) for part in topology.parts.values()]
    left = int(ratio * mask.size)
    while left > 0:
        for _ in range(MASK_PROPOSALS):
            part = parts[rng.integers(len(parts))]
            width = int(rng.integers(1, len(part) + 1))
            run = int(rng.integers(len(part) - width + 1))
            largest = min(left, max_area)
            area = rng.uniform(min(min_area, largest), largest)
            duration = min(max(round(area / width), 1), tokens)
            start = int(rng.integers(tokens - duration + 1))
            frames, joints = mask[start : start + duration], part[run : run + width]
            added = duration * width - int(np.count_nonzero(frames[:, joints]))
            if 0 < added <= left:
                frames[:, joints] = True
                left -= added
                break
        else:
            break
    return mask


def sample_views(
    clip: Array,
    topology: Topology,
    rng: np.random.Generator,
    *,
    windows: Mapping[int, Window] = WINDOWS,
    ratios: Sequence[Sequence[float]] | None = None,
) -> NumpyViews:
    """The ten views of one sample and their masks.

    clip: (T, V, 3) float32, metres, the valid frames of one person.
    windows: by view length, which views to make; the first is the global one.
    ratios: ``ratios[w][i]`` is the fraction to mask of each view (0: not masked); by default a
    global view is masked with probability one half, a local one always, uniformly in [0.5, 0.9].
    """
    clip = clip.astype(np.float32) - clip[0, topology.centre].astype(np.float32)
    lengths = list(windows)
    if len(clip) < shortest_crop(lengths[0]):
        clip = lengthen(clip)
    max_area = lengths[0] // PATCH_FRAMES * topology.num_joints // 2
    clips: list[list[Array]] = [[] for _ in windows]
    masks: list[list[Mask]] = [[] for _ in windows]

    def add(index: int, start: int, length: int, noise: str) -> NDArray[np.float64]:
        window = lengths[index]
        position = start + window_positions(length, window, rng)
        clips[index].append(
            add_noise(augment(frames_at(clip, position), topology, rng), noise, rng)
        )
        if ratios is not None:
            ratio = ratios[index][len(masks[index])]
        else:
            ratio = rng.uniform(*MASK_RATIOS) if noise == "local" or rng.random() < 0.5 else 0.0
        masks[index].append(
            tube_mask(
                window // PATCH_FRAMES, topology, ratio, windows[window].min_area, max_area, rng
            )
        )
        return position

    for noise in ("first", "second"):
        drawn = add(0, *crop(0, len(clip), lengths[0], windows[lengths[0]].fraction, rng), noise)
        first, last = int(drawn[0]), int(np.ceil(drawn[-1]))
        for index, window in enumerate(lengths[1:], start=1):
            for _ in range(windows[window].per_global):
                cropped = crop(first, last - first + 1, window, windows[window].fraction, rng)
                add(index, *cropped, "local")
    return NumpyViews([np.stack(views) for views in clips], [np.stack(views) for views in masks])


def stratified_ratios(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """``count`` ratios, one from each of ``count`` equal slices of [0.5, 0.9], in random order."""
    low, high = MASK_RATIOS
    return rng.permutation(
        low + (np.arange(count) + rng.random(count)) * (high - low) / max(count, 1)
    )


def sample_batch(
    clips: Sequence[Array],
    topology: Topology,
    rng: np.random.Generator,
    *,
    windows: Mapping[int, Window] = WINDOWS,
) -> NumpyViews:
    """``sample_views`` of every clip; half of the 2B globals are masked, by stratified ratios."""
    batch = len(clips)
    per_window: list[NDArray[np.float64]] = []
    for index, window in enumerate(windows):
        count = 2 * batch * (1 if index == 0 else windows[window].per_global)
        if index == 0:
            ratios = rng.permutation(
                np.concatenate([stratified_ratios(batch, rng), np.zeros(batch)])
            )
        else:
            ratios = stratified_ratios(count, rng)
        per_window.append(ratios.reshape(batch, -1))
    samples = []
    for i, clip in enumerate(clips):
        chosen = [ratios[i].tolist() for ratios in per_window]
        samples.append(sample_views(clip, topology, rng, windows=windows, ratios=chosen))
    return NumpyViews(
        [np.stack(views) for views in zip(*(s.clips for s in samples), strict=True)],
        [np.stack(masks) for masks in zip(*(s.masks for s in samples), strict=True)],
    )

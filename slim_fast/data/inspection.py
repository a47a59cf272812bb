"""A look at a cache: what it holds, whether its numbers are plausible, and a picture of some clips."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slim_fast.data.cache import ClipCache
from slim_fast.data.clips import coordinate_count
from slim_fast.skeletons import Topology

SAMPLE_CLIPS, SAMPLE_FRAMES = 256, 32
METRES = (0.5, 3.0)  # largest extent of a body: crouching child to jumping adult with arms up
UNITS = ((20.0, 300.0, "centimetres", 0.01), (300.0, 4000.0, "millimetres", 0.001))
LARGEST_NORMALISED = 10.0  # 2-D coordinates beyond this many picture halves are pixels


@dataclass(frozen=True)
class Geometry:
    """Medians over a sample of poses, in the cache's units.

    extent: longest side of a body's bounding box; bone: mean bone length; upright: share of poses with the head above
    the feet along the topology's up axis, None if it names no such joints; dead: joints that are zero in every pose.
    """

    extent: float
    bone: float
    upright: float | None
    dead: tuple[str, ...]


def measure(cache: ClipCache) -> Geometry:
    """Measure a sample of at most 256 clips x 32 frames."""
    topology, coordinates = cache.topology, coordinate_count(cache.channels)
    poses = np.concatenate(list(_sample_poses(cache)))[..., :coordinates]  # (P, V, C)
    there = (poses != 0).any(axis=-1)  # (P, V)
    seen = np.where(there[..., None], poses, np.nan)
    extent = np.nanmax(seen, axis=1) - np.nanmin(seen, axis=1)  # (P, C)
    child, parent = np.array(topology.bones).reshape(-1, 2).T
    bones = np.linalg.norm(seen[:, child] - seen[:, parent], axis=-1)
    dead = tuple(name for name, alive in zip(topology.joints, there.any(axis=0), strict=True) if not alive)
    bone = float(np.median(bones[np.isfinite(bones)])) if np.isfinite(bones).any() else 0.0
    return Geometry(float(np.median(extent.max(axis=1))), bone, _upright(topology, seen), dead)


def _sample_poses(cache: ClipCache) -> Iterator[np.ndarray]:
    for i in np.unique(np.linspace(0, len(cache) - 1, SAMPLE_CLIPS).astype(int)):
        rows = cache.positions[cache.start[i] : cache.start[i] + cache.people[i] * cache.length[i]]
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, SAMPLE_FRAMES).astype(int))]
        yield rows[(rows[..., : coordinate_count(cache.channels)] != 0).any(axis=(1, 2))]


def _upright(topology: Topology, poses: np.ndarray) -> float | None:
    def joints(*words: str) -> list[int]:
        return [j for j, name in enumerate(topology.joints) if any(word in name for word in words)]

    head, feet = joints("head", "nose", "neck"), joints("foot", "ankle")
    axis = "xyz".index(topology.up[-1])
    if not head or not feet or axis >= poses.shape[-1]:
        return None
    height = poses[..., axis] * (-1 if topology.up.startswith("-") else 1)
    difference = np.nan_to_num(height[:, head]).max(axis=1) - np.nan_to_num(height[:, feet]).mean(axis=1)
    return float((difference > 0).mean())


def warnings(cache: ClipCache, geometry: Geometry) -> list[str]:
    """What looks wrong, one sentence each, with the remedy."""
    found = []
    if coordinate_count(cache.channels) == 2:
        if geometry.extent > LARGEST_NORMALISED:
            found.append(
                f"bodies are {geometry.extent:.4g} units large, which looks like pixels: divide by half the "
                "picture's height"
            )
    elif not METRES[0] <= geometry.extent <= METRES[1]:
        unit = next(
            (
                f"looks like {name}: multiply by {factor}"
                for low, high, name, factor in UNITS
                if low <= geometry.extent <= high
            ),
            "is not plausible in metres: about 1.5 is usual",
        )
        found.append(f"bodies are {geometry.extent:.4g} units large, which {unit}")
    if geometry.upright is not None and geometry.upright < 0.5:
        found.append(
            f"in {1 - geometry.upright:.0%} of the poses the head is below the feet along the up axis "
            f"'{cache.topology.up}' of topology '{cache.topology.name}': another axis may point up"
        )
    if geometry.dead:
        found.append(f"always zero: joints {', '.join(geometry.dead)}")
    short = int((cache.length < 8).sum())
    if short:
        found.append(f"{short} clips are shorter than 8 frames")
    for name, code in cache.splits.items():
        train, test = set(cache.label[code == 1].tolist()), set(cache.label[code == 2].tolist())
        if test - train:
            found.append(f"split '{name}' tests {len(test - train)} classes it does not train")
    return found


def describe(cache: ClipCache) -> str:
    """The report `python -m slim_fast.data inspect` prints."""
    cleaning: Mapping[str, Any] = cache.meta["cleaning"]  # type: ignore[assignment]
    skipped: Mapping[str, int] = cache.meta["skipped"]  # type: ignore[assignment]
    geometry = measure(cache)
    shortest, median, longest = (int(q) for q in np.quantile(cache.length, [0, 0.5, 1]))
    people, counts = np.unique(cache.people, return_counts=True)
    rows, absent = len(cache.positions), cleaning["absent_person_frames"]
    lines = [
        f"{cache.path}: {len(cache)} clips of '{cache.topology.name}' ({cache.topology.num_joints} joints, "
        f"{cache.channels}), {cache.positions.nbytes / 1e6:.1f} MB, from {cache.meta['source']}",
        f"frames a clip: {shortest} / {median} / {longest} (min / median / max)",
        "people a clip: " + ", ".join(f"{m} in {n} clips" for m, n in zip(people, counts, strict=True)),
        f"person-frames: {rows}, of which absent {absent} ({absent / rows:.2%}); {cleaning['nonfinite_person_frames']} "
        "were not finite",
        f"left out: {sum(skipped.values())} clips"
        + "".join(f", {n} {why}" for why, n in skipped.items())
        + f"; {cleaning['frames_dropped']} empty frames",
        f"units: bodies {geometry.extent:.3g} large, bones {geometry.bone:.3g} long (medians)"
        + (f", head above feet in {geometry.upright:.0%}" if geometry.upright is not None else ""),
        *(f"WARNING: {warning}" for warning in warnings(cache, geometry)),
        "",
    ]
    return "\n".join(lines + _class_table(cache))


def _class_table(cache: ClipCache) -> list[str]:
    head = ["class", "clips", *(f"{name} train/test" for name in cache.splits)]
    table = [head]
    for label in sorted(set(cache.label.tolist())):
        mine = cache.label == label
        sides = [f"{int((code[mine] == 1).sum())}/{int((code[mine] == 2).sum())}" for code in cache.splits.values()]
        table.append([f"{label} {cache.classes[label]}" if label >= 0 else "unlabelled", str(int(mine.sum())), *sides])
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in table]


def draw(cache: ClipCache, path: str | os.PathLike[str], rows: int = 12) -> Path:
    """Draw clips of as many different classes as there are rows. Raises UserError when it cannot."""
    from slim_fast.drawing import contact_sheet  # matplotlib is slow to import and not everybody has it

    _, firsts = np.unique(cache.label, return_index=True)
    if len(firsts) < rows:
        firsts = np.union1d(firsts, np.linspace(0, len(cache) - 1, rows).astype(int))
    chosen = np.sort(firsts)[np.unique(np.linspace(0, len(firsts) - 1, rows).astype(int))]
    titles = [
        f"{cache.classes[cache.label[i]]} {cache.names[i]}" if cache.label[i] >= 0 else str(cache.names[i])
        for i in chosen
    ]
    contact_sheet([cache.clip(i) for i in chosen], cache.topology, titles, Path(path), channels=cache.channels)
    return Path(path)

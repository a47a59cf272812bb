"""Inspection of a cache: its content, whether it is plausible, a picture of some clips."""

import os
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slim_fast.data.cache import ClipCache
from slim_fast.data.clips import count_coordinates
from slim_fast.data.units import explain_units, measure_extent
from slim_fast.skeletons import Topology

SAMPLE_CLIPS, SAMPLE_FRAMES = 256, 32
REPORT_WIDTH, MIN_NAME_WIDTH, MAX_CLASSES = 80, 20, 200  # columns, columns, rows of the table


@dataclass(frozen=True)
class Geometry:
    """Statistics of a sample of poses, in the cache's units.

    Attributes:
        extent: median of the longest side of a body's bounding box.
        bone: median length of a bone.
        upright: fraction of poses whose head is above the feet along the topology's up axis; None
            for a topology without such joints.
        undetected: joints that are zero in every pose.
    """

    extent: float
    bone: float
    upright: float | None
    undetected: tuple[str, ...]


def measure_geometry(cache: ClipCache) -> Geometry:
    """Measure a sample of at most 256 clips of 32 frames each."""
    topology, coordinates = cache.topology, count_coordinates(cache.channels)
    poses = np.concatenate(list(_sample_poses(cache)))[..., :coordinates]  # (P, V, C)
    if not len(poses):  # in a damaged cache
        return Geometry(np.nan, np.nan, None, ())
    detected = np.isfinite(poses).all(axis=-1) & (poses != 0).any(axis=-1)  # (P, V)
    poses = np.where(detected[..., None], poses, np.nan)
    child, parent = np.array(topology.bones, int).reshape(-1, 2).T
    bones = np.linalg.norm(poses[:, child] - poses[:, parent], axis=-1)
    undetected = tuple(topology.joints[joint] for joint in np.flatnonzero(~detected.any(axis=0)))
    bone = float(np.median(bones[np.isfinite(bones)])) if np.isfinite(bones).any() else 0.0
    upright = _upright_fraction(topology, poses)
    return Geometry(measure_extent(poses), bone, upright, undetected)


def _sample_poses(cache: ClipCache) -> Iterator[np.ndarray]:
    for i in np.unique(np.linspace(0, len(cache) - 1, SAMPLE_CLIPS).astype(int)):
        rows = cache.positions[cache.start[i] : cache.start[i] + cache.people[i] * cache.length[i]]
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, SAMPLE_FRAMES).astype(int))]
        coordinates = rows[..., : count_coordinates(cache.channels)]
        yield rows[(np.isfinite(coordinates) & (coordinates != 0)).any(axis=(1, 2))]


def _upright_fraction(topology: Topology, poses: np.ndarray) -> float | None:
    def joints(*words: str) -> list[int]:
        return [j for j, name in enumerate(topology.joints) if any(word in name for word in words)]

    head, feet = joints("head", "nose", "neck"), joints("foot", "ankle")
    axis = "xyz".index(topology.up[-1])
    if not head or not feet or axis >= poses.shape[-1]:
        return None
    height = poses[..., axis] * (-1 if topology.up.startswith("-") else 1)
    height = np.nan_to_num(height)
    return float((height[:, head].max(axis=1) > height[:, feet].mean(axis=1)).mean())


def check_units(cache: ClipCache, geometry: Geometry) -> list[str]:
    """Warn of coordinates that are not in metres or, in 2-D, in half image heights."""
    fault = explain_units(
        geometry.extent,
        cache.topology,
        count_coordinates(cache.channels),
        "convert again with --scale ",
    )
    return [fault] if fault else []


def check_labels(cache: ClipCache) -> list[str]:
    """Warn of labels that seem to count from 1."""
    known = cache.label[cache.label >= 0]
    if not len(known) or known.min() != 1 or cache.classes[:1] != ("0",):
        return []
    return [
        f"no clip has label 0 (the labels are 1 to {known.max()}), so class 0 is empty: if the "
        "labels count from 1, convert again with --labels-from 1"
    ]


def check_cache(cache: ClipCache, geometry: Geometry) -> list[str]:
    """All warnings about a cache, each a sentence with the remedy."""
    warnings = check_units(cache, geometry) + check_labels(cache)
    if geometry.upright is not None and geometry.upright < 0.5:
        warnings.append(
            f"in {1 - geometry.upright:.0%} of the poses the head is below the feet along the up "
            f"axis '{cache.topology.up}' of topology '{cache.topology.name}': another axis may "
            "point up in these data"
        )
    if geometry.undetected:
        warnings.append(f"joints that are zero in every frame: {', '.join(geometry.undetected)}")
    short = int((cache.length < 8).sum())
    if short:
        warnings.append(f"{short} clips are shorter than 8 frames")
    warnings += check_people(cache)
    for name, code in cache.splits.items():
        train, test = set(cache.label[code == 1].tolist()), set(cache.label[code == 2].tolist())
        if untrained := test - train:
            warnings.append(
                f"split '{name}' has {len(untrained)} classes with test clips but no training clip"
            )
    return warnings


def check_people(cache: ClipCache) -> list[str]:
    """Note clips with more people than evaluation and training take by default."""
    count = int((cache.people > 2).sum())
    return [
        f"{count} clips have more than two people: evaluation and training take the two who are "
        "present longest, then move most, then have the highest confidence (for more, evaluate "
        "--people and pretrain --views.people)"
    ] * (count > 0)


def describe_cache(cache: ClipCache) -> str:
    """The report of `python -m slim_fast.data inspect`: 80 columns, warnings last."""
    cleaning: Mapping[str, Any] = cache.meta["cleaning"]  # type: ignore[assignment]
    skipped: Mapping[str, int] = cache.meta["skipped"]  # type: ignore[assignment]
    geometry = measure_geometry(cache)
    upright = geometry.upright
    shortest, median, longest = (int(q) for q in np.quantile(cache.length, [0, 0.5, 1]))
    people, counts = np.unique(cache.people, return_counts=True)
    rows, absent = len(cache.positions), cleaning["absent_person_frames"]
    lines = [
        f"{cache.path}: {len(cache)} clips of '{cache.topology.name}' "
        f"({cache.topology.num_joints} joints, {cache.channels}), "
        f"{cache.positions.nbytes / 1e6:.1f} MB, from {cache.meta['source']}",
        f"frames per clip: {shortest} to {longest}, median {median}",
        "people per clip: "
        + ", ".join(f"{m} in {n} clips" for m, n in zip(people, counts, strict=True)),
        f"frames of all people: {rows}, the person absent in {absent} ({absent / rows:.2%})",
        f"undetected joints: {cleaning['undetected_joint_frames']} in all frames; "
        f"{cleaning['nonfinite_joint_frames']} were not finite",
        f"skipped clips: {sum(skipped.values())}"
        + "".join(f", {n} {reason}" for reason, n in skipped.items()),
        f"empty frames: {cleaning['frames_dropped']} dropped, "
        f"{cleaning['frames_interpolated']} interpolated",
        f"units: median extent of a body {geometry.extent:.3g}, of a bone {geometry.bone:.3g}"
        + ("" if upright is None else f"; head above feet in {upright:.0%} of the poses"),
        *(
            f"split {i}, {name}: {(code == 1).sum()} training and {(code == 2).sum()} test clips"
            for i, (name, code) in enumerate(cache.splits.items(), 1)
        ),
    ]
    warnings = [f"WARNING: {warning}" for warning in check_cache(cache, geometry)]
    parts = (map(_wrap, lines), _class_table(cache), map(_wrap, warnings))
    return "\n\n".join(filter(None, map("\n".join, parts)))


def _wrap(line: str) -> str:
    return textwrap.fill(
        line, REPORT_WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def _class_table(cache: ClipCache) -> list[str]:
    # splits go by their names if these fit, else by their numbers; those that do not fit even then
    # are omitted
    labels = sorted(set(cache.label.tolist()))
    names = [f"{label} {cache.classes[label]}" if label >= 0 else "unlabelled" for label in labels]
    widest = max(map(len, ["class", *names]))
    members = [cache.label == label for label in labels]
    clips = ["clips", *(str(own.sum()) for own in members)]
    subsets = [
        [f"{((code == 1) & own).sum()}/{((code == 2) & own).sum()}" for own in members]
        for code in cache.splits.values()
    ]
    for heads in (list(cache.splits), [f"split {i}" for i in range(1, len(subsets) + 1)]):
        table = [clips, *([head, *column] for head, column in zip(heads, subsets, strict=True))]
        widths = [2 + max(map(len, column)) for column in table]
        if REPORT_WIDTH - sum(widths) >= min(MIN_NAME_WIDTH, widest):
            break
    while len(widths) > 1 and REPORT_WIDTH - sum(widths) < min(MIN_NAME_WIDTH, widest):
        widths.pop()
    name_width = min(REPORT_WIDTH - sum(widths), widest)
    lines = [
        (name if len(name) <= name_width else name[: name_width - 2] + "..").ljust(name_width)
        + "".join(map(str.rjust, row, widths))
        for name, *row in zip(["class", *names], *table[: len(widths)], strict=True)
    ]
    more = len(labels) - MAX_CLASSES
    return lines[: MAX_CLASSES + 1] + ([f"... and {more} more classes"] if more > 0 else [])


def draw_cache(cache: ClipCache, path: str | os.PathLike[str], rows: int = 12) -> Path:
    """Draw a clip a row, of different classes as far as possible. Raises: UserError."""
    # matplotlib is slow to import
    from slim_fast.drawing import contact_sheet

    _, firsts = np.unique(cache.label, return_index=True)
    if len(firsts) < rows:
        firsts = np.union1d(firsts, np.linspace(0, len(cache) - 1, rows).astype(int))
    chosen = np.sort(firsts)[np.unique(np.linspace(0, len(firsts) - 1, rows).astype(int))]
    classes = (f"{cache.classes[label]}\n" if label >= 0 else "" for label in cache.label[chosen])
    titles = [f"{title}{cache.names[i]}" for title, i in zip(classes, chosen, strict=True)]
    contact_sheet(
        [cache.clip(i) for i in chosen], cache.topology, titles, Path(path), channels=cache.channels
    )
    return Path(path)

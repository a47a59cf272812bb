"""Pickles of PYSKL and mmaction2.

They hold {"split": {name: [frame_dir, ...]}, "annotations": [{frame_dir, label, keypoint, ...}]}.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange

from slim_fast.data.clips import Clip, count_coordinates
from slim_fast.data.readers.ntu import find_action_names, parse_ntu_name
from slim_fast.data.readers.pickled_values import LazyArray, parse_integer, parse_text, read_array
from slim_fast.data.readers.pyskl_split import read_split
from slim_fast.data.readers.source import Options, Problem, Reader, Source, infer_skeleton
from slim_fast.data.readers.stream import starts_with
from slim_fast.data.readers.unpickle import load_pickle
from slim_fast.errors import UserError

NO_KEYPOINT = "keypoint is not (people, frames, joints, coordinates) of numbers"
MIN_PIXELS = 4.0  # coordinates that are all smaller are not in pixels


def _recognises(path: Path) -> bool:
    return path.is_file() and (starts_with(path, b"\x80") or path.suffix in (".pkl", ".pickle"))


def _read(path: Path, options: Options) -> Source:
    """keypoint is (people, frames, joints, coordinates), keypoint_score (people, frames, joints).

    The score becomes the confidence. 2-D keypoints in pixels, with img_shape, are centred on the
    image and divided by half its height, and y points as the topology's `up` says. A joint is
    undetected, and zero, when its score is not above 0, when all its coordinates are 0, or when,
    without a score, it is at (-1, -1), where mmaction2 puts missing joints.
    """
    content = load_pickle(path, options.scratch)
    annotations = content.get("annotations") if isinstance(content, dict) else content
    if (
        not isinstance(annotations, list)
        or not annotations
        or not all(isinstance(item, dict) for item in annotations)
    ):
        raise UserError(
            f"{path} is a pickle, but not of PYSKL's form: a dict with 'split' and a list of "
            "'annotations' (of a training set saved as .npy with a label pickle, give the .npy)"
        )
    flaws = [_find_flaw(item) for item in annotations]
    first = next(
        (item for item, flaw in zip(annotations, flaws, strict=True) if flaw is None), None
    )
    if first is None:
        raise UserError(_explain_flaws(path, annotations, Counter(filter(None, flaws))))
    joints, width = _shape(first["keypoint"])[2:]
    has_score = first.get("keypoint_score") is not None
    if has_score and options.channels is None and width in (2, 3):
        options = replace(options, channels={2: "xyc", 3: "xyzc"}[width])
    names = [
        parse_text(item.get("frame_dir")) or f"clip{i:06d}" for i, item in enumerate(annotations)
    ]
    splits, problems = read_split(
        content.get("split") or {} if isinstance(content, dict) else {}, names, path
    )
    topology, channels, assumed = infer_skeleton(
        options, joints, width, path, names, lambda: read_array(first["keypoint"])[..., 2]
    )
    has_confidence = channels.endswith("c") and width == count_coordinates(channels)

    def clips() -> Iterator[Clip]:
        for item, flaw, name, split in zip(annotations, flaws, names, splits, strict=True):
            if has_confidence and flaw is None and item.get("keypoint_score") is None:
                flaw = "keypoint_score is missing"
            if flaw is not None:
                problems.append(Problem(name, flaw))
                continue
            positions = _read_positions(item, channels, has_confidence, flip=topology.up != "-y")
            ntu = parse_ntu_name(name)
            numbers = (ntu.subject, ntu.camera, ntu.setup) if ntu else (-1, -1, -1)
            label = parse_integer(item.get("label"))
            yield Clip(positions, name, -1 if label is None else label, *numbers, split=split)

    labels = [
        label for item in annotations if (label := parse_integer(item.get("label"))) is not None
    ]
    classes = find_action_names(path.stem, max(labels, default=-1) + 1 - options.labels_from)
    return Source(topology, channels, clips(), classes, len(annotations), problems, assumed)


def _explain_flaws(path: Path, annotations: list[Mapping[Any, Any]], flaws: Counter[str]) -> str:
    keys = ", ".join(filter(None, map(parse_text, annotations[0])))
    if set(flaws) == {NO_KEYPOINT}:
        return f"{path} holds no annotation with a 4-dimensional 'keypoint': the first has {keys}"
    reasons = ", ".join(f"{count} times: {flaw}" for flaw, count in flaws.most_common())
    return f"{path} holds no annotation that can be read, of {len(annotations)}; {reasons}"


def _shape(value: Any) -> tuple[int, ...]:
    """The shape of an array of numbers, () of anything else."""
    if isinstance(value, LazyArray):
        return value.shape if value.dtype.kind in "fiu" else ()
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError):  # a ragged list
        return ()
    return array.shape if array.dtype.kind in "fiu" else ()


def _find_flaw(item: Mapping[str, Any]) -> str | None:
    keypoint, score, size = (
        _shape(item.get("keypoint")),
        item.get("keypoint_score"),
        _image_size(item),
    )
    if len(keypoint) != 4:
        return NO_KEYPOINT
    if score is not None and _shape(score) not in (keypoint[:3], (*keypoint[:3], 1)):
        return "keypoint_score is not (people, frames, joints)"
    if size is not None:
        sides = read_array(size) if _shape(size) == (2,) else None
        if sides is None or not np.isfinite(sides).all() or not sides.min() > 0:
            return "img_shape is not (height, width)"
    if item.get("label") is not None and parse_integer(item["label"]) is None:
        return "label is not a whole number"
    return None


def _image_size(item: Mapping[str, Any]) -> Any:
    size = item.get("img_shape")
    return item.get("original_shape") if size is None else size


def _read_positions(
    item: Mapping[str, Any], channels: str, has_confidence: bool, flip: bool
) -> np.ndarray:
    coordinates, size = count_coordinates(channels), _image_size(item)
    total = parse_integer(item.get("total_frames")) or 0
    frames = slice(total if total > 0 else None)
    with np.errstate(over="ignore", invalid="ignore"):
        keypoint = read_array(item["keypoint"])[:, frames].astype(np.float32)  # (M, T, V, C)
        position = keypoint[..., :coordinates]  # a view, changed in place
        detected = position.any(axis=-1)
        score = None
        if item.get("keypoint_score") is not None:
            score = (
                read_array(item["keypoint_score"])[:, frames]
                .astype(np.float32)
                .reshape(detected.shape)
            )
            detected &= score > 0
        elif coordinates == 2 and keypoint.shape[-1] == 2:
            detected &= (position != -1).any(axis=-1)
        if (
            position.shape[-1] == coordinates == 2  # one alone is for the cache to refuse
            and size is not None
            and (np.abs(position[detected]) >= MIN_PIXELS).any()
        ):
            height, width = read_array(size).astype(float)
            centre = np.array([width / 2, height / 2], np.float32)
            position[...] = (position - centre) / (height / 2)
            position[..., 1] *= -1 if flip else 1
        position[~detected] = 0
    if has_confidence and score is not None:
        keypoint = np.concatenate([keypoint, score[..., None]], axis=-1)
    return rearrange(keypoint, "m t v c -> t v c m")


READER = Reader("a PYSKL or mmaction2 pickle (.pkl)", _recognises, _read)

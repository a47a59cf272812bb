"""PYSKL and mmaction2 pickles: {"split": {name: [frame_dir, ...]}, "annotations": [{frame_dir, label, ...}]}."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from slim_fast.data.clips import Clip, coordinate_count
from slim_fast.data.readers.ntu import action_names, parse_name
from slim_fast.data.readers.source import Options, Problem, Reader, Source, choose_topology, standard_split
from slim_fast.data.readers.stream import starts_with
from slim_fast.data.readers.unpickle import LazyArray, as_array, load_pickle
from slim_fast.errors import UserError

SPLIT_KEY = re.compile(r"(.*?)[_-]?(train|val|test)(\d*)")


def _recognises(path: Path) -> bool:
    return path.is_file() and (starts_with(path, b"\x80") or path.suffix in (".pkl", ".pickle"))


def _read(path: Path, options: Options) -> Source:
    """keypoint is (people, frames, joints, coordinates), keypoint_score (people, frames, joints): the confidence.

    2-D keypoints in pixels (img_shape given) are centred on the picture and divided by half its height, with y pointing
    the way the topology's `up` axis says; joints at exactly (0, 0) were not detected and stay zero.
    """
    content = load_pickle(path, options.scratch)
    annotations = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(annotations, list) or not annotations or not all(isinstance(item, dict) for item in annotations):
        raise UserError(
            f"{path} is a pickle, but not of PYSKL's form: a dict with 'split' and a list of 'annotations' "
            "(of a training set saved as .npy with a label pickle, give the .npy)"
        )
    splits = _splits(content.get("split", {}) if isinstance(content, dict) else {}, path)
    first = next((item for item in annotations if _why_not(item) is None), None)
    if first is None:
        raise UserError(
            f"{path} holds no annotation with a 4-dimensional 'keypoint': the first has "
            f"{', '.join(map(str, annotations[0]))}"
        )
    joints, width = _shape(first["keypoint"])[2:]
    has_score = _shape(first.get("keypoint_score")) == (*_shape(first["keypoint"])[:3],)
    channels = options.channels or {2: "xy", 3: "xyz"}.get(width, "") + ("c" if has_score else "")
    topology = choose_topology(options, joints, coordinate_count(channels), path)
    scored = channels.endswith("c") and width == coordinate_count(channels)
    labels = [label for label in map(_label, annotations) if label is not None]
    problems: list[Problem] = []

    def clips() -> Iterator[Clip]:
        for i, item in enumerate(annotations):
            name = str(item.get("frame_dir", f"clip{i:06d}"))
            reason = _why_not(item, scored)
            if reason is not None:
                problems.append(Problem(name, reason))
                continue
            positions = _positions(item, channels, scored, flip=topology.up != "-y")
            ntu = parse_name(name)
            who = (ntu.subject, ntu.camera, ntu.setup) if ntu else (-1, -1, -1)
            label = _label(item)
            yield Clip(positions, name, -1 if label is None else label, *who, split=splits.get(name, {}))

    classes = action_names(path.stem, max(labels, default=-1) + 1)
    return Source(topology, channels, clips(), classes, len(annotations), problems)


def _label(item: Mapping[str, Any]) -> int | None:
    label = item.get("label")
    return int(label) if isinstance(label, int) or (isinstance(label, float) and label.is_integer()) else None


def _shape(value: Any) -> tuple[int, ...]:
    if isinstance(value, LazyArray):
        return value.shape
    try:
        return np.shape(value)
    except ValueError:  # a ragged list
        return ()


def _why_not(item: Mapping[str, Any], scored: bool = False) -> str | None:
    keypoint = _shape(item.get("keypoint"))
    size = _picture_size(item)
    if len(keypoint) != 4:
        return "keypoint is not (people, frames, joints, coordinates)"
    if scored and _shape(item.get("keypoint_score")) != keypoint[:3]:
        return "keypoint_score is not (people, frames, joints)"
    sides = as_array(size) if _shape(size) == (2,) else None
    if size is not None and (sides is None or sides.dtype.kind not in "iuf" or not sides.min() > 0):
        return "img_shape is not (height, width)"
    if item.get("label") is not None and _label(item) is None:
        return "label is not a whole number"
    return None


def _picture_size(item: Mapping[str, Any]) -> Any:
    return item.get("img_shape", item.get("original_shape"))


def _splits(split: Any, path: Path) -> dict[str, dict[str, str]]:
    # frame_dir -> split name -> side. "xsub_train" and "xsub_val" make the split "xsub"; a "val" beside a "test" is
    # neither side, and what is listed on both sides counts as test
    if not isinstance(split, dict) or not all(isinstance(names, (list, tuple, set)) for names in split.values()):
        raise UserError(f"{path} has a 'split' that is not a dict of lists of names")
    parsed = {key: SPLIT_KEY.fullmatch(str(key)) for key in split}
    keys = {key: (match[1] + match[3], match[2]) for key, match in parsed.items() if match}
    of_clip: dict[str, dict[str, str]] = {}
    for key, (group, side) in sorted(keys.items(), key=lambda pair: pair[1][1] != "train"):
        if side == "val" and (group, "test") in keys.values():
            continue
        name = standard_split(f"{path.stem} {group}") or group or "default"
        for clip in split[key]:
            of_clip.setdefault(str(clip), {})[name] = "train" if side == "train" else "test"
    return of_clip


def _positions(item: Mapping[str, Any], channels: str, scored: bool, flip: bool) -> np.ndarray:
    # (T, V, C, M)
    keypoint = as_array(item["keypoint"]).astype(np.float32)  # (M, T, V, C)
    total = item.get("total_frames", keypoint.shape[1])
    keypoint = keypoint[:, :total] if isinstance(total, int) and total > 0 else keypoint
    size = _picture_size(item)
    if coordinate_count(channels) == 2 and size is not None:
        height, width = as_array(size).astype(float)
        xy = keypoint[..., :2]
        scaled = (xy - np.array([width / 2, height / 2], np.float32)) / (height / 2)
        scaled[..., 1] *= -1 if flip else 1
        keypoint[..., :2] = np.where((xy == 0).all(axis=-1, keepdims=True), 0, scaled)
    if scored:
        score = as_array(item["keypoint_score"]).astype(np.float32)[:, : keypoint.shape[1], :, None]
        keypoint = np.concatenate([keypoint, score], axis=-1)
    return keypoint.transpose(1, 2, 3, 0)


READER = Reader("a PYSKL or mmaction2 pickle (.pkl)", _recognises, _read)

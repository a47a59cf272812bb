"""The npz of CTR-GCN, MAMP and SkateFormer: x_train, y_train, x_test, y_test.

x is (N, T, people * joints * channels); y holds labels, or one-hot rows (N, classes).
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from einops import rearrange

from slim_fast.data.clips import Clip
from slim_fast.data.readers.columns import convert_to_integers, decode_text, warn_of_ignored
from slim_fast.data.readers.ntu import find_action_names
from slim_fast.data.readers.source import (
    SUBSETS,
    Options,
    Reader,
    Source,
    find_standard_split,
    infer_skeleton,
    resolve_subset,
)
from slim_fast.data.readers.stream import ArrayStream, list_npz_members, peek_rows
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology


def _parts(members: list[str]) -> dict[str, tuple[str, str | None]]:
    # key of SUBSETS -> (member of clips, member of labels)
    parts: dict[str, tuple[str, str | None]] = {}
    for kind, words in SUBSETS.items():
        clips = next(
            (name for name in members if name.lower() in [f"x_{word}" for word in words]), None
        )
        if clips is not None:
            labels = [f"{what}_{clips[2:].lower()}" for what in ("y", "label", "labels")]
            parts[kind] = clips, next((name for name in members if name.lower() in labels), None)
    return parts


def _recognises(path: Path) -> bool:
    return "train" in _parts(list_npz_members(path))


def _read(path: Path, options: Options) -> Source:
    """Without --topology the width of x must be that of one or two people of ntu-25."""
    members = list_npz_members(path)
    parts = _parts(members)
    streams = {kind: ArrayStream(path, clips) for kind, (clips, _) in parts.items()}
    labels, classes = {}, 0
    for kind, stream in streams.items():
        if len(stream.shape) != 3:
            raise UserError(
                f"{stream.name} has shape {stream.shape}; (clips, frames, values) is needed"
            )
        labels[kind], count = _read_labels(path, parts[kind][1], stream.shape[0])
        classes = max(classes, count)
    labels, words = _encode_labels(path, labels)
    width = streams["train"].shape[2]
    if options.topology is None and width not in (75, 150):
        raise UserError(
            f"{path} has {width} values a frame, which fits no known skeleton: pass --topology"
        )
    topology = options.topology or get_topology("ntu-25")
    options = replace(options, topology=topology)
    layout = (topology.num_joints, len(options.channels or "xyz"))
    if any(stream.shape[2] % (layout[0] * layout[1]) for stream in streams.values()):
        raise UserError(
            f"{path} has {width} values a frame, no multiple of the {layout[0]} joints x "
            f"{layout[1]} channels of topology '{topology.name}': pass another --topology or "
            "--channels"
        )
    topology, channels, assumed = infer_skeleton(
        options,
        topology.num_joints,
        3,
        path,
        read_third=lambda: peek_rows(streams["train"])[..., 2::3],
    )
    split = find_standard_split(path.stem) or "default"

    def clips() -> Iterator[Clip]:
        for kind, stream in streams.items():
            subset = resolve_subset(kind, streams)
            splits, word, i = {split: subset} if subset else {}, parts[kind][0][2:], 0
            for chunk in stream.read_chunks():
                for row in rearrange(chunk, "n t (m v c) -> n t v c m", v=layout[0], c=layout[1]):
                    yield Clip(row, f"{word}{i:06d}", int(labels[kind][i]), split=splits)
                    i += 1

    return Source(
        topology,
        channels,
        clips(),
        words
        or find_action_names(path.stem, classes - options.labels_from)
        or tuple(map(str, range(classes))),
        sum(stream.shape[0] for stream in streams.values()),
        warnings=assumed
        + warn_of_ignored(path, members, [member for pair in parts.values() for member in pair]),
    )


def _encode_labels(
    path: Path, labels: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    # the class names, where labels are words, and labels as indices of them
    kinds = {values.dtype.kind == "U" for values in labels.values() if (values != -1).all()}
    if kinds <= {False}:
        return labels, ()
    if kinds != {True}:
        raise UserError(
            f"{path} names its classes by words in one subset and by numbers in the other: use one "
            "of the two"
        )
    words = np.unique(
        np.concatenate([values for values in labels.values() if values.dtype.kind == "U"])
    )
    encoded = {
        kind: np.searchsorted(words, values) if values.dtype.kind == "U" else values
        for kind, values in labels.items()
    }
    return encoded, tuple(words.tolist())


def _read_labels(path: Path, member: str | None, clips: int) -> tuple[np.ndarray, int]:
    # (labels as numbers from 0 or as words, number of classes of the former); -1 without labels
    if member is None:
        return np.full(clips, -1), 0
    stream = ArrayStream(path, member)
    if stream.shape[:1] != (clips,) or len(stream.shape) not in (1, 2):
        raise UserError(
            f"{stream.name} has shape {stream.shape}; it needs one row for each of the {clips} "
            "clips"
        )
    single = len(stream.shape) == 1 or stream.shape[1] == 1
    if stream.dtype.kind not in ("biufUS" if single else "biuf"):
        raise UserError(
            f"{stream.name} is of type {stream.dtype}; whole numbers, words or one-hot rows are "
            "needed"
        )
    if single:
        values = convert_to_integers(decode_text(stream.read_all().reshape(-1)))
        if values.dtype.kind == "U":
            return values, 0
        if values.dtype.kind not in "bi" or (values < -1).any():
            raise UserError(f"{stream.name} holds labels that are not whole numbers from 0 up")
        return values.astype(np.int64), int(values.max(initial=-1)) + 1
    labels: list[int] = []
    for chunk in stream.read_chunks():
        classes_set = (chunk != 0).sum(axis=1)
        if (classes_set != 1).any():
            row = int(np.flatnonzero(classes_set != 1)[0])
            raise UserError(
                f"{stream.name} is not one-hot: row {len(labels) + row} has {classes_set[row]} "
                "classes set"
            )
        labels += (chunk != 0).argmax(axis=1).tolist()
    return np.array(labels, np.int64), stream.shape[1]


READER = Reader("an npz with x_train, y_train, x_test, y_test", _recognises, _read)

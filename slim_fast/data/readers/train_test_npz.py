"""The npz that CTR-GCN, MAMP and SkateFormer train on: x_train (N, T, people * joints * 3), y_train, x_test, y_test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from slim_fast.data.clips import Clip, coordinate_count
from slim_fast.data.readers.ntu import action_names
from slim_fast.data.readers.source import Options, Reader, Source, standard_split
from slim_fast.data.readers.stream import ArrayStream, npz_members
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology

SIDES = {"train": ("train",), "test": ("test", "val")}  # side -> what members may be called


def _recognises(path: Path) -> bool:
    return "x_train" in npz_members(path)


def _read(path: Path, options: Options) -> Source:
    """The last axis of x is (people, joints, coordinates); without --topology only 75 and 150 are known (NTU-25)."""
    members = npz_members(path)
    names = {side: next((name for name in aliases if f"x_{name}" in members), None) for side, aliases in SIDES.items()}
    streams = {side: ArrayStream(path, f"x_{name}") for side, name in names.items() if name is not None}
    labels, classes = {}, 0
    for side, stream in streams.items():
        if len(stream.shape) != 3:
            raise UserError(f"{stream.name} has shape {stream.shape}; (clips, frames, values) is needed")
        labels[side], count = _labels(path, members, f"y_{names[side]}", stream.shape[0])
        classes = max(classes, count)
    width = streams["train"].shape[2]
    if options.topology is None and width not in (75, 150):
        raise UserError(f"{path} has {width} values a frame, which names no skeleton: pass --topology")
    topology = options.topology or get_topology("ntu-25")
    channels = options.channels or "xyz"
    coordinate_count(channels)
    layout = (topology.num_joints, len(channels))
    if any(stream.shape[2] % (layout[0] * layout[1]) for stream in streams.values()):
        raise UserError(
            f"{path} has {width} values a frame, no multiple of the {layout[0]} joints x {layout[1]} "
            f"channels of topology '{topology.name}': pass another --topology or --channels"
        )
    split = standard_split(path.stem) or "default"

    def clips() -> Iterator[Clip]:
        for side, stream in streams.items():
            i = 0
            for chunk in stream.chunks():
                for row in chunk.reshape(*chunk.shape[:2], -1, *layout):  # (T, M, V, C)
                    yield Clip(row.transpose(0, 2, 3, 1), f"{side}{i:06d}", int(labels[side][i]), split={split: side})
                    i += 1

    return Source(
        topology,
        channels,
        clips(),
        action_names(path.stem, classes) or tuple(map(str, range(classes))),
        sum(stream.shape[0] for stream in streams.values()),
    )


def _labels(path: Path, members: list[str], member: str, clips: int) -> tuple[np.ndarray, int]:
    # (labels from 0, number of classes); all -1 when the file has none
    if member not in members:
        return np.full(clips, -1), 0
    stream = ArrayStream(path, member)
    if stream.shape[:1] != (clips,) or len(stream.shape) not in (1, 2):
        raise UserError(f"{stream.name} has shape {stream.shape}; it needs one row for each of the {clips} clips")
    if len(stream.shape) == 1 or stream.shape[1] == 1:
        labels = stream.whole().reshape(-1)
        whole = labels.astype(np.int64)
        if (whole != labels).any() or (whole < -1).any():
            raise UserError(f"{stream.name} holds labels that are not whole numbers from 0 up")
        return whole, int(whole.max(initial=-1)) + 1
    picked: list[int] = []
    for chunk in stream.chunks():
        classes_set = (chunk != 0).sum(axis=1)
        if (classes_set != 1).any():
            row = int(np.flatnonzero(classes_set != 1)[0])
            raise UserError(f"{stream.name} is not one-hot: row {len(picked) + row} has {classes_set[row]} classes set")
        picked += (chunk != 0).argmax(axis=1).tolist()
    return np.array(picked, np.int64), stream.shape[1]


READER = Reader("an npz with x_train, y_train, x_test, y_test", _recognises, _read)

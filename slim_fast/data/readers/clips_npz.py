"""Anybody's own clips in an npz.

Either every member is a clip, (T, V, C) or (T, V, C, M), named as it is; or a member `clips` is (N, T, V, C[, M]) with
`lengths` (N,) where clips are shorter than T. In both, optional members with one value a clip, in the clips' order:
`labels` (whole numbers from 0, or class names), `subjects`, `split` ("train" or "test") and `names`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from slim_fast.data.clips import Clip
from slim_fast.data.readers.source import Options, Reader, Source, choose_channels, choose_topology
from slim_fast.data.readers.stream import ArrayStream, npz_members, read_member
from slim_fast.errors import UserError

COLUMNS = ("labels", "subjects", "split", "names", "lengths")


def _recognises(path: Path) -> bool:
    members = npz_members(path)
    return bool(set(members) - set(COLUMNS)) or (path.suffix == ".npz" and path.is_file())


def _read(path: Path, options: Options) -> Source:
    members = npz_members(path)
    clip_members = ["clips"] if "clips" in members else [name for name in members if name not in COLUMNS]
    if not clip_members:
        raise UserError(f"{path} holds no array of clips: it is empty or no npz")
    together = "clips" in members
    first = ArrayStream(path, clip_members[0])
    shape = first.shape[1:] if together else first.shape
    if len(shape) not in (3, 4):
        raise UserError(
            f"{first.name} has shape {first.shape}; ({'clips, ' if together else ''}frames, joints, "
            "channels[, people]) is needed"
        )
    count = first.shape[0] if together else len(clip_members)
    columns = {name: _column(path, members, name, count) for name in COLUMNS}
    channels = choose_channels(options, shape[2], path)
    topology = choose_topology(options, shape[1], len(channels.rstrip("c")), path)
    labels, classes = _labels(columns["labels"], count, path)
    subjects, sides, lengths = columns["subjects"], columns["split"], columns["lengths"]
    names = columns["names"]
    if names is None:
        names = np.array([f"clip{i:06d}" for i in range(count)] if together else clip_members)

    def arrays() -> Iterator[np.ndarray]:
        if together:
            for chunk in first.chunks():
                yield from chunk
        else:
            for member in clip_members:
                yield ArrayStream(path, member).whole()

    def clips() -> Iterator[Clip]:
        for i, frames in enumerate(arrays()):
            if frames.ndim == 3:
                frames = frames[..., None]
            if lengths is not None:
                frames = frames[: int(lengths[i])]
            yield Clip(
                frames,
                str(names[i]),
                int(labels[i]),
                -1 if subjects is None else int(subjects[i]),
                split={} if sides is None else {"default": str(sides[i])},
            )

    return Source(topology, channels, clips(), classes, count)


def _column(path: Path, members: list[str], name: str, count: int) -> np.ndarray | None:
    values = read_member(path, members, name)
    if values is None:
        return None
    kinds = {"labels": "iuU", "split": "U", "names": "U"}.get(name, "iu")
    if values.shape != (count,) or values.dtype.kind not in kinds:
        raise UserError(
            f"'{name}' in {path} has shape {values.shape} and type {values.dtype}; one "
            f"{'word' if kinds == 'U' else 'whole number'} for each of the {count} clips is needed"
        )
    if name == "lengths" and values.min(initial=0) < 0:
        raise UserError(f"'lengths' in {path} has negative numbers")
    return values


def _labels(values: np.ndarray | None, count: int, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    if values is None:
        return np.full(count, -1), ()
    if values.dtype.kind == "U":
        classes, labels = np.unique(values, return_inverse=True)
        return labels, tuple(classes.tolist())
    return values.astype(np.int64), ()


READER = Reader(
    "an npz whose members are clips (frames, joints, channels[, people]), or one member 'clips'", _recognises, _read
)

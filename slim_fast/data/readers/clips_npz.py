"""Your own clips in an npz.

Either every member is a clip, (T, V, C) or (T, V, C, M), whose name is the member's; or the member
`clips` is (N, T, V, C[, M]), with `lengths` (N,) for clips shorter than T. Both forms may have
members with one value a clip, in the order of the clips: `labels` (whole numbers from 0, or class
names), `subjects`, `cameras`, `setups`, `split` (train, val or test) and `names`, or their synonyms
(`columns.SYNONYMS`).
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from slim_fast.data.clips import Clip
from slim_fast.data.readers.columns import Columns, encode_labels, find_columns, warn_of_ignored
from slim_fast.data.readers.source import Options, Reader, Source, infer_skeleton
from slim_fast.data.readers.stream import ArrayStream, list_npz_members, peek_rows
from slim_fast.errors import UserError


def _recognises(path: Path) -> bool:
    members = list_npz_members(path)
    return bool(members) or (path.suffix == ".npz" and path.is_file())


def _read(path: Path, options: Options) -> Source:
    members = list_npz_members(path)
    is_stacked = "clips" in members
    found = find_columns(path, members)
    if not is_stacked:  # a member with the name of a column may be a clip
        found = {
            column: name for column, name in found.items() if len(ArrayStream(path, name).shape) < 3
        }
    clip_members = (
        ["clips"] if is_stacked else [name for name in members if name not in found.values()]
    )
    if not clip_members:
        raise UserError(f"{path} holds no array of clips: it is empty or no npz")
    first = ArrayStream(path, clip_members[0])
    shape = first.shape[1:] if is_stacked else first.shape
    if len(shape) not in (3, 4):
        raise UserError(
            f"{first.name} has shape {first.shape}; ({'clips, ' if is_stacked else ''}frames, "
            "joints, channels[, people]) is needed"
        )
    count = first.shape[0] if is_stacked else len(clip_members)
    columns = Columns(path, count, found)
    labels, classes = encode_labels(columns["labels"], count)
    numbers = np.stack([columns.integers(name) for name in ("subjects", "cameras", "setups")], 1)
    lengths, names, splits = columns["lengths"], columns["names"], columns.splits("default")
    if names is None:
        names = np.array([f"clip{i:06d}" for i in range(count)] if is_stacked else clip_members)
    axis = 3 if is_stacked else 2
    topology, channels, assumed = infer_skeleton(
        options, shape[1], shape[2], path, names.tolist(), lambda: peek_rows(first).take(2, axis)
    )

    def arrays() -> Iterator[np.ndarray]:
        if is_stacked:
            for chunk in first.read_chunks():
                yield from chunk
        else:
            for member in clip_members:
                yield ArrayStream(path, member).read_all()

    def clips() -> Iterator[Clip]:
        for i, frames in enumerate(arrays()):
            if frames.ndim == 3:
                frames = frames[..., None]
            if lengths is not None:
                frames = frames[: int(lengths[i])]
            subject, camera, setup = numbers[i].tolist()
            yield Clip(frames, str(names[i]), int(labels[i]), subject, camera, setup, splits[i])

    warnings = assumed + warn_of_ignored(path, members, [*clip_members, *found.values()])
    return Source(topology, channels, clips(), classes, count, warnings=warnings)


READER = Reader(
    "an npz whose members are clips (frames, joints, channels[, people]), or one member 'clips'",
    _recognises,
    _read,
)

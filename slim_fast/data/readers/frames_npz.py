"""An npz with the frames of all clips one after the other.

Its members are x (frames, V, C, M), start and length (N,), and optionally label, subject, camera,
setup, split and name (N,), or their synonyms (`columns.SYNONYMS`).
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from slim_fast.data.clips import Clip
from slim_fast.data.readers import utd_mhad
from slim_fast.data.readers.columns import Columns, encode_labels, find_columns, warn_of_ignored
from slim_fast.data.readers.source import Options, Reader, Source, infer_skeleton
from slim_fast.data.readers.stream import MAX_ROW_BYTES, ArrayStream, list_npz_members, peek_rows
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology

KNOWN_FILES = {"utd_mhad": "utd-mhad-20", "msrc12": "kinect-v1-20"}
MSRC_12 = tuple(
    """\
lift outstretched arms|duck|push right|goggles|wind it up|shoot|bow|throw|had enough|
change weapon|beat both|kick
""".replace("\n", "").split("|")
)
CLASSES = {"utd_mhad": utd_mhad.ACTIONS, "msrc12": MSRC_12}


def _recognises(path: Path) -> bool:
    members = list_npz_members(path)
    return "x" in members and {"starts", "lengths"} <= set(find_columns(path, members))


def _read(path: Path, options: Options) -> Source:
    """Clips come in the order of their first frame; in split "xsub" odd subjects train."""
    members = list_npz_members(path)
    stream = ArrayStream(path, "x")
    if len(stream.shape) != 4:
        raise UserError(
            f"{stream.name} has shape {stream.shape}; (frames, joints, channels, people) is needed"
        )
    found = find_columns(path, members)
    count = math.prod(ArrayStream(path, found["starts"]).shape)
    columns = Columns(path, count, found)
    start, length, subject, camera, setup = (
        columns.integers(name) for name in ("starts", "lengths", "subjects", "cameras", "setups")
    )
    label, words = encode_labels(columns["labels"], count)
    splits = columns.splits("default")
    names = columns["names"]
    if names is None:
        names = np.array([f"clip{i:06d}" for i in range(count)])
    order, total = np.lexsort((length, start)), stream.shape[0]
    # start and length are checked one by one, because their sum may overflow
    inside = (start >= 0) & (length >= 0) & (start <= total) & (length <= total)
    end = (start + length)[order]
    if not inside.all() or end.max(initial=0) > total or (start[order][1:] < end[:-1]).any():
        raise UserError(
            f"{path} has clips (start, length) that overlap or leave its {total} frames"
        )
    if int(length.max(initial=0)) * stream.row_bytes > MAX_ROW_BYTES:
        raise UserError(f"{path} has a clip of {length.max()} frames: cut it into shorter ones")
    known_file = next((name for key, name in KNOWN_FILES.items() if key in path.stem.lower()), None)
    if (
        options.topology is None
        and known_file
        and get_topology(known_file).num_joints == stream.shape[1]
    ):
        options = replace(options, topology=get_topology(known_file))
    topology, channels, assumed = infer_skeleton(
        options, *stream.shape[1:3], path, names.tolist(), lambda: peek_rows(stream)[:, :, 2]
    )

    def clips() -> Iterator[Clip]:
        pieces = _slices(stream, start[order], length[order])
        for i, frames in zip(order, pieces, strict=True):
            numbers = int(subject[i]), int(camera[i]), int(setup[i])
            split = {"xsub": "train" if subject[i] % 2 else "test"} if subject[i] >= 0 else {}
            yield Clip(frames, str(names[i]), int(label[i]), *numbers, splits[i] | split)

    classes = words or next((CLASSES[key] for key in CLASSES if key in path.stem.lower()), ())
    warnings = assumed + warn_of_ignored(path, members, ["x", *found.values()])
    return Source(topology, channels, clips(), classes, count, warnings=warnings)


def _slices(stream: ArrayStream, start: np.ndarray, length: np.ndarray) -> Iterator[np.ndarray]:
    # ranges of rows, ascending and without overlap; only those in use are in memory
    chunks, base = stream.read_chunks(), 0
    held = np.empty((0, *stream.shape[1:]), stream.dtype)  # rows base to base + len(held)
    for first, count in zip(start.tolist(), length.tolist(), strict=True):
        if first > base:
            cut = min(first - base, len(held))
            held, base = held[cut:], base + cut
        parts = [held]
        while base + sum(map(len, parts)) < first + count:
            chunk = next(chunks)
            parts.append(chunk)
            if base + sum(map(len, parts)) <= first:
                base += sum(map(len, parts))
                parts = [chunk[:0]]
        held = np.concatenate(parts) if len(parts) > 1 else parts[0]
        yield held[first - base : first - base + count]


READER = Reader(
    "an npz with x (frames, joints, channels, people), start and length", _recognises, _read
)

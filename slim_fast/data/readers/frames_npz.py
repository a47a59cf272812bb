"""An npz with the frames of all clips end to end: x (frames, V, C, M), start, length, label, subject, name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from slim_fast.data.clips import Clip
from slim_fast.data.readers.source import Options, Reader, Source, choose_channels, choose_topology
from slim_fast.data.readers.stream import MAX_ROW_BYTES, ArrayStream, npz_members, read_member
from slim_fast.errors import UserError
from slim_fast.skeletons import Topology, get_topology

KNOWN_FILES = {"utd_mhad": "utd-mhad-20", "msrc12": "kinect-v1-20"}
UTD_MHAD = tuple(
    """swipe left|swipe right|wave|clap|throw|arms cross|basketball shoot|draw X|draw circle clockwise|
draw circle counter-clockwise|draw triangle|bowling|boxing|baseball swing|tennis swing|arm curl|tennis serve|push|knock|
catch|pick up and throw|jog|walk|sit to stand|stand to sit|lunge|squat""".replace("\n", "").split("|")
)
MSRC_12 = tuple(
    """lift outstretched arms|duck|push right|goggles|wind it up|shoot|bow|throw|had enough|change weapon|
beat both|kick""".replace("\n", "").split("|")
)
CLASSES = {"utd_mhad": UTD_MHAD, "msrc12": MSRC_12}


def _recognises(path: Path) -> bool:
    return {"x", "start", "length"} <= set(npz_members(path))


def _read(path: Path, options: Options) -> Source:
    """Split "xsub": odd subjects train, even ones test. Clips come in the order of their first frame."""
    members = npz_members(path)
    stream = ArrayStream(path, "x")
    if len(stream.shape) != 4:
        raise UserError(f"{stream.name} has shape {stream.shape}; (frames, joints, channels, people) is needed")
    channels = choose_channels(options, stream.shape[2], path)
    topology = _topology(path, options, stream.shape[1], stream.shape[2])
    start, length = (_integers(path, members, name) for name in ("start", "length"))
    label, subject = (_integers(path, members, name, len(start)) for name in ("label", "subject"))
    names = read_member(path, members, "name", "names")
    if names is None:
        names = np.array([f"clip{i:06d}" for i in range(len(start))])
    if len(names) != len(start) or len(length) != len(start):
        raise UserError(f"{path} has {len(start)} starts, {len(length)} lengths and {len(names)} names: not one a clip")
    order = np.lexsort((length, start))
    end = (start + length)[order]
    if len(start) and (
        length.min() < 0 or start.min() < 0 or end[-1] > stream.shape[0] or (start[order][1:] < end[:-1]).any()
    ):
        raise UserError(f"{path} has clips (start, length) that overlap or leave its {stream.shape[0]} frames")
    if length.max(initial=0) * stream.row_bytes > MAX_ROW_BYTES:
        raise UserError(f"{path} has a clip of {length.max()} frames: cut it into shorter ones")

    def clips() -> Iterator[Clip]:
        pieces = _slices(stream, start[order], length[order])
        for i, frames in zip(order, pieces, strict=True):
            split = {"xsub": "train" if subject[i] % 2 else "test"} if subject[i] >= 0 else {}
            yield Clip(frames, str(names[i]), int(label[i]), int(subject[i]), split=split)

    known = next((CLASSES[key] for key in CLASSES if key in path.stem.lower()), ())
    return Source(topology, channels, clips(), known, len(start))


def _topology(path: Path, options: Options, joints: int, coordinates: int) -> Topology:
    known = next((name for key, name in KNOWN_FILES.items() if key in path.stem.lower()), None)
    if options.topology is None and known is not None and get_topology(known).num_joints == joints:
        return get_topology(known)
    return choose_topology(options, joints, coordinates, path)


def _integers(path: Path, members: list[str], name: str, default_count: int = 0) -> np.ndarray:
    values = read_member(path, members, name, f"{name}s")
    if values is None:
        return np.full(default_count, -1)
    if values.ndim != 1 or values.dtype.kind not in "iu" or (default_count and len(values) != default_count):
        raise UserError(
            f"'{name}' in {path} has shape {values.shape} and type {values.dtype}; one whole number a clip is needed"
        )
    return values.astype(np.int64)


def _slices(stream: ArrayStream, start: np.ndarray, length: np.ndarray) -> Iterator[np.ndarray]:
    # consecutive, possibly gapped, non-overlapping row ranges of a stream
    chunks, base = stream.chunks(), 0
    held = np.empty((0, *stream.shape[1:]), stream.dtype)  # rows base .. base + len(held)
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


READER = Reader("an npz with x (frames, joints, channels, people), start and length", _recognises, _read)

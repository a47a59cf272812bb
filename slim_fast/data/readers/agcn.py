"""The .npy arrays of ST-GCN and 2s-AGCN: (N, channels, T, V, M) beside a pickle of (names, labels).

A folder may hold train_data_joint.npy, train_label.pkl and the same for val or test (older: train_data.npy).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slim_fast.data.clips import Clip, coordinate_count
from slim_fast.data.readers.ntu import action_names, parse_name
from slim_fast.data.readers.source import Options, Reader, Source, choose_channels, choose_topology, standard_split
from slim_fast.data.readers.stream import NPY_MAGIC, ArrayStream, starts_with
from slim_fast.data.readers.unpickle import as_array, load_pickle
from slim_fast.errors import UserError

SIDES = {"train": "train", "val": "test", "test": "test"}


def _find(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if starts_with(path, NPY_MAGIC) else []
    files = []
    for side in SIDES:
        candidates = [path / f"{side}_data_joint.npy", path / f"{side}_data.npy"]
        files += [candidate for candidate in candidates if candidate.is_file()][:1]
    return files


def _recognises(path: Path) -> bool:
    return bool(_find(path))


def _read(path: Path, options: Options) -> Source:
    """A third coordinate counts as z; pass --channels xyc where it is a confidence (Kinetics-skeleton)."""
    files = _find(path)
    streams = [ArrayStream(file) for file in files]
    for stream in streams:
        if len(stream.shape) != 5:
            raise UserError(
                f"{stream.name} has shape {stream.shape}; (clips, channels, frames, joints, people) is needed"
            )
    lists = [_labels(file, stream.shape[0], options.scratch) for file, stream in zip(files, streams, strict=True)]
    joints, width = streams[0].shape[3], streams[0].shape[1]
    channels = choose_channels(options, width, path)
    topology = choose_topology(options, joints, coordinate_count(channels), path)
    place = files[0].resolve()
    split = standard_split(f"{place.parent.parent.name} {place.parent.name}") or "default"

    def clips() -> Iterator[Clip]:
        for file, stream, (names, labels) in zip(files, streams, lists, strict=True):
            side = SIDES.get(file.name.split("_")[0])
            splits = {split: side} if side else {}
            i = 0
            for chunk in stream.chunks():
                for row in chunk:  # (C, T, V, M)
                    ntu = parse_name(names[i])
                    who = (ntu.subject, ntu.camera, ntu.setup) if ntu else (-1, -1, -1)
                    yield Clip(row.transpose(1, 2, 0, 3), names[i], labels[i], *who, split=splits)
                    i += 1

    count = max((label for _, labels in lists for label in labels), default=-1) + 1
    return Source(topology, channels, clips(), action_names(str(place.parent), count), sum(s.shape[0] for s in streams))


def _labels(file: Path, clips: int, scratch: Path | None) -> tuple[list[str], list[int]]:
    candidates = [file.with_name(file.name.split("_data")[0] + "_label.pkl"), file.with_suffix(".pkl")]
    label_file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if label_file is None:
        raise UserError(f"{file} needs its labels beside it in {candidates[0].name}")
    content = load_pickle(label_file, scratch)
    if not isinstance(content, (list, tuple)) or len(content) < 2:
        raise UserError(f"{label_file} must hold (names, labels)")
    names, labels = [str(name) for name in _plain(content[0])], _plain(content[1])
    if len(names) != clips or len(labels) != clips:
        raise UserError(f"{label_file} has {len(names)} names and {len(labels)} labels; {file.name} has {clips} clips")
    if not all(isinstance(label, int) for label in labels):
        raise UserError(f"{label_file} has labels that are not whole numbers")
    return names, labels


def _plain(values: Any) -> list[Any]:
    plain = as_array(values).tolist()
    return plain if isinstance(plain, list) else [plain]


READER = Reader(
    "a .npy of (clips, channels, frames, joints, people) with a label pickle, or a folder with train_data_joint.npy",
    _recognises,
    _read,
)

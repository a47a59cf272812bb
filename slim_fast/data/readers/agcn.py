"""The .npy arrays of ST-GCN and 2s-AGCN: (N, channels, T, V, M) beside a pickle of (names, labels).

A folder may hold train_data_joint.npy (in older code bases train_data.npy) and train_label.pkl, and
the same for val or test, or for other words of `source.SUBSETS`.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from einops import rearrange

from slim_fast.data.clips import Clip
from slim_fast.data.readers.ntu import find_action_names, parse_ntu_name
from slim_fast.data.readers.pickled_values import parse_integer, parse_list, parse_text
from slim_fast.data.readers.source import (
    SUBSETS,
    Options,
    Reader,
    Source,
    find_standard_split,
    find_subset,
    infer_skeleton,
    resolve_subset,
)
from slim_fast.data.readers.stream import (
    NPY_MAGIC,
    ArrayStream,
    explain_damage,
    peek_rows,
    starts_with,
)
from slim_fast.data.readers.unpickle import load_pickle
from slim_fast.errors import UserError

DATA = re.compile(r"(.+)_data(_joint)?\.npy", re.IGNORECASE)


def _find(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if starts_with(path, NPY_MAGIC) else []
    files: dict[str, Path] = {}
    with explain_damage(path):
        entries = sorted(
            path.iterdir(), key=lambda file: ("_joint" not in file.name.lower(), file.name)
        )
    for file in entries:
        # is_file() would pass over a broken link, which must be an error
        if (match := DATA.fullmatch(file.name)) and (kind := find_subset(match[1])):
            files.setdefault(kind, file)
    return [files[kind] for kind in SUBSETS if kind in files]


def _warn_of_ignored(path: Path, files: list[Path]) -> list[str]:
    known = {match[1] for file in files if (match := DATA.fullmatch(file.name))}
    names = sorted(file.name for file in path.iterdir()) if path.is_dir() else []
    others = [name for name in names if (match := DATA.fullmatch(name)) and match[1] not in known]
    if not others:
        return []
    return [f"{path} has {', '.join(others)}, which was ignored: it is named after no known subset"]


def _recognises(path: Path) -> bool:
    return bool(_find(path))


def _read(path: Path, options: Options) -> Source:
    files = _find(path)
    streams = [ArrayStream(file) for file in files]
    for stream in streams:
        if len(stream.shape) != 5:
            raise UserError(
                f"{stream.name} has shape {stream.shape}; (clips, channels, frames, joints, "
                "people) is needed"
            )
    warnings = _warn_of_ignored(path, files)
    lists = [
        _labels(f, stream.shape[0], options.scratch, warnings)
        for f, stream in zip(files, streams, strict=True)
    ]
    joints, width = streams[0].shape[3], streams[0].shape[1]
    # of a link, its own path or its target's may name the split
    link, target = Path(os.path.abspath(files[0])), files[0].resolve()
    splits = (
        find_standard_split(f"{file.parent.parent.name} {file.parent.name}")
        for file in (link, target)
    )
    split = next(filter(None, splits), "default")
    hints = [
        *link.parts[-3:-1],
        *target.parts[-3:-1],
        *(name for names, _ in lists for name in names),
    ]
    topology, channels, assumed = infer_skeleton(
        options, joints, width, path, hints, lambda: peek_rows(streams[0])[:, 2]
    )

    kinds = {file: find_subset(file.stem.split("_")[0]) for file in files}

    def clips() -> Iterator[Clip]:
        for file, stream, (names, labels) in zip(files, streams, lists, strict=True):
            subset = resolve_subset(kinds[file], kinds.values())
            splits = {split: subset} if subset else {}
            i = 0
            for chunk in stream.read_chunks():
                for row in chunk:
                    ntu = parse_ntu_name(names[i])
                    numbers = (ntu.subject, ntu.camera, ntu.setup) if ntu else (-1, -1, -1)
                    positions = rearrange(row, "c t v m -> t v c m")
                    yield Clip(positions, names[i], labels[i], *numbers, split=splits)
                    i += 1

    count = max((label for _, labels in lists for label in labels), default=-1) + 1
    return Source(
        topology,
        channels,
        clips(),
        find_action_names(f"{link.parent} {target.parent}", count - options.labels_from),
        sum(s.shape[0] for s in streams),
        warnings=assumed + warnings,
    )


def _labels(
    file: Path, clips: int, scratch: Path | None, warnings: list[str]
) -> tuple[list[str], list[int]]:
    stem = file.name.split("_data")[0]
    candidates = [
        file.with_name(f"{stem}_label.pkl"),
        file.with_name(f"{stem}_labels.pkl"),
        file.with_suffix(".pkl"),
    ]
    label_file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if label_file is None:
        raise UserError(f"{file} needs its labels beside it in {candidates[0].name}")
    content = load_pickle(label_file, scratch)
    lists = list(map(parse_list, content[:2])) if isinstance(content, (list, tuple)) else []
    names, labels = lists if len(lists) == 2 else (None, None)
    if names is None or labels is None:
        raise UserError(f"{label_file} must hold (names, labels)")
    if len(content) > 2:
        warnings.append(
            f"{label_file} has {len(content)} lists, of which all but names and labels were ignored"
        )
    if len(names) != clips or len(labels) != clips:
        raise UserError(
            f"{label_file} has {len(names)} names and {len(labels)} labels; {file.name} has "
            f"{clips} clips"
        )
    words = [text for name in names if (text := parse_text(name)) is not None]
    if len(words) != clips:
        raise UserError(f"{label_file} has names that are not text")
    whole = [number for label in labels if (number := parse_integer(label)) is not None]
    if len(whole) != clips:
        raise UserError(f"{label_file} has labels that are not whole numbers")
    return words, whole


READER = Reader(
    "a .npy of (clips, channels, frames, joints, people) with a label pickle, or a folder with "
    "train_data_joint.npy",
    _recognises,
    _read,
)

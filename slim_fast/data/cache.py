"""The clip cache: one folder of memory-mapped valid frames, written clip by clip in constant memory.

meta.json      format, topology, channels, class names, source, cleaning counts
positions.npy  (rows, V, C) float32; clip i owns rows start[i] .. start[i] + people[i] * length[i], person-major
clips.npz      start, length, people, label, subject, camera, setup, names, and one int8 array a split
"""

from __future__ import annotations

import json
import os
import shutil
import weakref
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from slim_fast.data.clips import CleaningReport, Clip, clean_clip, coordinate_count
from slim_fast.errors import UserError
from slim_fast.skeletons import Topology

FORMAT = "slim_fast clips 1"
HEADER_BYTES = 128
MAX_CLASSES = 1 << 16
SPLIT_CODES = {"train": 1, "test": 2}
FIELDS = ("start", "length", "people", "label", "subject", "camera", "setup")


class CacheWriter:
    """Context manager that writes a cache beside its final place and renames it there on success.

    After an exception (Ctrl-C included) nothing of it is left. Raises UserError when `path` exists (unless `overwrite`,
    which replaces a cache or an empty folder and nothing else), cannot be written, or no clip was left after cleaning.
    Without `classes` the classes are named "0", "1", ... up to the highest label met.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        topology: Topology,
        channels: str = "xyz",
        classes: Sequence[str] = (),
        source: str = "",
        overwrite: bool = False,
    ) -> None:
        coordinate_count(channels)
        self.path = Path(os.path.realpath(path))
        self.topology, self.channels, self.classes, self.source = topology, channels, list(classes), source
        self.report = CleaningReport()
        self.unread: Counter[str] = Counter()
        refuse_to_clobber(self.path, overwrite)
        self._partial = self.path.with_name(f"{self.path.name}.partial-{os.getpid()}")
        self._rows = 0
        self._columns: dict[str, list[int]] = {name: [] for name in FIELDS}
        self._names: list[str] = []
        self._splits: dict[str, dict[int, int]] = {}  # split name -> clip number -> code
        # an interrupt may strike before the `with` block begins or while it ends: this also runs when Python exits
        self._discard = weakref.finalize(self, shutil.rmtree, self._partial, ignore_errors=True)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self._partial.exists():  # a killed run of the same process number
                shutil.rmtree(self._partial)
            self._partial.mkdir()
            self._file = open(self._partial / "positions.npy", "wb", buffering=1 << 20)  # noqa: SIM115 (closed by __exit__)
            self._file.write(bytes(HEADER_BYTES))
        except OSError as error:
            self._discard()
            raise self._cannot_write(error) from error

    def _cannot_write(self, error: OSError) -> UserError:
        return UserError(f"cannot write {self.path}: {error.strerror or error}; nothing was left there")

    def __enter__(self) -> CacheWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except OSError as failure:
            raise self._cannot_write(failure) from failure
        finally:
            with suppress(OSError):  # a full disk fails once more; the file goes away in the next line
                self._file.close()
            self._discard()

    def skip(self, reason: str) -> None:
        """Count a recording that could not be read at all."""
        self.unread[reason] += 1

    @property
    def skipped(self) -> dict[str, int]:
        """Reason -> recordings not stored, whether unread or empty after cleaning."""
        return dict(self.unread + Counter(self.report.skipped))

    def add(self, clip: Clip) -> None:
        """Clean `clip` and append it. Raises UserError for a wrong joint or channel count, label or split value."""
        shape = np.shape(clip.positions)
        if len(shape) == 4 and shape[1:3] != (self.topology.num_joints, len(self.channels)):
            raise UserError(
                f"clip '{clip.name}' has {shape[1]} joints of {shape[2]} channels; topology "
                f"'{self.topology.name}' with channels '{self.channels}' needs {self.topology.num_joints} "
                f"of {len(self.channels)}: choose another topology or other channels"
            )
        limit = len(self.classes) or MAX_CLASSES
        if not -1 <= clip.label < limit:
            raise UserError(
                f"clip '{clip.name}' has label {clip.label}, outside 0..{limit - 1} "
                "(labels count from 0; -1 means unlabelled)"
            )
        codes = {name: SPLIT_CODES.get(side) for name, side in clip.split.items()}
        if None in codes.values():
            raise UserError(f"clip '{clip.name}' has splits {dict(clip.split)}: each must be 'train' or 'test'")
        cleaned, report = clean_clip(clip, self.channels)
        self.report += report
        if cleaned is None:
            return
        rows = np.ascontiguousarray(cleaned.positions.transpose(3, 0, 1, 2))  # (M, T, V, C)
        try:
            self._file.write(rows.data)
        except OSError as error:
            raise self._cannot_write(error) from error
        for name, code in codes.items():
            self._splits.setdefault(name, {})[len(self._names)] = int(code or 0)
        values = (self._rows, rows.shape[1], rows.shape[0], clip.label, clip.subject, clip.camera, clip.setup)
        for name, value in zip(FIELDS, values, strict=True):
            self._columns[name].append(int(value))
        self._names.append(clip.name)
        self._rows += rows.shape[0] * rows.shape[1]

    def _finish(self) -> None:
        if not self._names:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.skipped.items())
            raise UserError(
                f"no usable clip was found ({reasons or 'the source is empty'}): nothing was written to {self.path}"
            )
        self._file.seek(0)
        self._file.write(_npy_header((self._rows, self.topology.num_joints, len(self.channels))))
        self._file.flush()
        os.fsync(self._file.fileno())
        labels = self._columns["label"]
        classes = self.classes or [str(label) for label in range(max(labels) + 1)]
        splits = {}
        for name, codes in self._splits.items():
            splits[f"split:{name}"] = np.zeros(len(self._names), np.int8)
            splits[f"split:{name}"][list(codes)] = list(codes.values())
        columns: dict[str, Any] = {name: np.array(self._columns[name], np.int64) for name in FIELDS}
        columns |= {"names": np.array(self._names, np.str_)} | splits
        with open(self._partial / "clips.npz", "wb") as file:
            np.savez_compressed(file, **columns)
            os.fsync(file.fileno())
        meta = {
            "format": FORMAT,
            "topology": self.topology.to_dict(),
            "channels": self.channels,
            "classes": classes,
            "source": self.source,
            "splits": list(self._splits),
            "cleaning": asdict(self.report),
            "skipped": self.skipped,
        }
        with open(self._partial / "meta.json", "w", encoding="utf-8") as text:
            json.dump(meta, text, indent=1, ensure_ascii=False)
            text.flush()
            os.fsync(text.fileno())
        self._move_into_place()

    def _move_into_place(self) -> None:
        if not self.path.exists():
            os.replace(self._partial, self.path)
            return
        old = self.path.with_name(f"{self.path.name}.old-{os.getpid()}")
        os.replace(self.path, old)
        try:
            os.replace(self._partial, self.path)
        except BaseException:
            os.replace(old, self.path)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _npy_header(shape: tuple[int, ...]) -> bytes:
    # fixed size, so that it can be filled in after the rows are counted
    magic = b"\x93NUMPY\x01\x00"
    text = repr({"descr": "<f4", "fortran_order": False, "shape": shape})
    size = HEADER_BYTES - len(magic) - 2
    return magic + size.to_bytes(2, "little") + text.ljust(size - 1).encode() + b"\n"


def refuse_to_clobber(path: Path, overwrite: bool = False) -> None:
    """Raises UserError unless `path` is free, an empty folder, or a cache that may be overwritten."""
    if not os.path.lexists(path):
        return
    if is_cache(path):
        if not overwrite:
            raise UserError(f"{path} exists: choose another output folder or pass --overwrite")
    elif not path.is_dir() or any(path.iterdir()):
        raise UserError(f"{path} exists and is not a clip cache: choose another output folder")


def is_cache(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a folder whose meta.json says it is a clip cache."""
    try:
        return str(json.loads((Path(path) / "meta.json").read_text("utf-8"))["format"]).startswith("slim_fast clips")
    except (OSError, ValueError, KeyError, TypeError):
        return False


@dataclass(frozen=True, eq=False)
class ClipCache:
    """A cache opened for reading (see the module's first lines). Pickles as its path.

    positions: (rows, V, C) float32 memory map; start, length, people, label, subject, camera, setup: (N,) int64;
    names: (N,) str; splits: name -> (N,) int8, 0 neither, 1 train, 2 test; meta: the whole of meta.json.
    """

    path: Path
    topology: Topology
    channels: str
    classes: tuple[str, ...]
    positions: np.ndarray
    start: np.ndarray
    length: np.ndarray
    people: np.ndarray
    label: np.ndarray
    subject: np.ndarray
    camera: np.ndarray
    setup: np.ndarray
    names: np.ndarray
    splits: Mapping[str, np.ndarray]
    meta: Mapping[str, object]

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> ClipCache:
        """Raises UserError when `path` is no cache, or one that is damaged."""
        folder = Path(path)
        if not is_cache(folder):
            raise UserError(f"{folder} is not a clip cache: make one with `python -m slim_fast.data convert IN OUT`")
        try:
            meta = json.loads((folder / "meta.json").read_text("utf-8"))
            if meta["format"] != FORMAT:
                raise UserError(
                    f"{folder} has format '{meta['format']}' and this version reads '{FORMAT}': convert the data again"
                )
            positions = np.load(folder / "positions.npy", mmap_mode="r", allow_pickle=False)
            with np.load(folder / "clips.npz", allow_pickle=False) as archive:
                columns = {name: archive[name] for name in (*FIELDS, "names")}
                splits = {name: archive[f"split:{name}"] for name in meta["splits"]}
            cache = cls(
                folder,
                Topology.from_dict(meta["topology"]),
                meta["channels"],
                tuple(meta["classes"]),
                positions,
                **columns,
                splits=splits,
                meta=meta,
            )
        except (OSError, EOFError, KeyError, TypeError, zipfile.BadZipFile, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{folder} is a damaged clip cache ({error}): convert the data again") from error
        rows = cache.people * cache.length
        shape = (int(rows.sum()), cache.topology.num_joints, len(cache.channels))
        if positions.shape != shape or (cache.start != np.cumsum(rows) - rows).any():
            raise UserError(
                f"{folder} is a damaged clip cache (positions of shape {positions.shape}, its clips need "
                f"{shape}): convert the data again"
            )
        return cache

    def __reduce__(self) -> tuple[object, ...]:
        return ClipCache.open, (self.path,)

    def __len__(self) -> int:
        return len(self.start)

    def clip(self, i: int) -> np.ndarray:
        """Clip i as a new (T, V, C, M) float32 array."""
        start, length, people = int(self.start[i]), int(self.length[i]), int(self.people[i])
        rows = self.positions[start : start + people * length]
        return np.array(rows.reshape(people, length, *rows.shape[1:]).transpose(1, 2, 3, 0), order="C")

    def split(self, name: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(train, test) clip numbers of a split, by default the first. Raises UserError when there is no such split."""
        if not self.splits:
            raise UserError(f"{self.path} has no train/test split: its source gave none")
        name = next(iter(self.splits)) if name is None else name
        if name not in self.splits:
            raise UserError(f"{self.path} has no split '{name}': choose one of {', '.join(self.splits)}")
        code = self.splits[name]
        return np.flatnonzero(code == 1), np.flatnonzero(code == 2)

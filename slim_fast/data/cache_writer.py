"""Writing a clip cache (`slim_fast.data.cache` describes it) clip by clip, in constant memory."""

import json
import os
import shutil
import weakref
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from einops import rearrange

from slim_fast.data.cache import FIELDS, FORMAT, is_cache
from slim_fast.data.clips import CleaningReport, Clip, clean_clip, count_coordinates
from slim_fast.errors import UserError
from slim_fast.skeletons import Topology

MAX_CLASSES = 1 << 16
SPLIT_CODES = {"train": 1, "test": 2}


class CacheWriter:
    """Context manager that writes a cache to a temporary folder, renamed to `path` at the end.

    After an exception, Ctrl-C included, nothing of it is left.

    Args:
        path: the cache's folder.
        classes: class names; without them the classes are called "0", "1", ..., up to the highest
            label of the clips.
        source: where the clips are from, for meta.json.
        overwrite: replace a cache that is at `path`.
        labels_from: the label of the first class.

    Raises: UserError when `path` exists (but for an empty folder, and a cache with `overwrite`) or
    cannot be written, or no clip was left after cleaning.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        topology: Topology,
        channels: str = "xyz",
        classes: Sequence[str] = (),
        source: str = "",
        overwrite: bool = False,
        labels_from: int = 0,
    ) -> None:
        count_coordinates(channels)
        self.labels_from = labels_from
        self.path = Path(os.path.realpath(path))
        self.topology, self.channels = topology, channels
        (self.source,), self.classes = _escape_surrogates([source]), _escape_surrogates(classes)
        self.report = CleaningReport()
        self.unread: Counter[str] = Counter()
        self._overwrite = overwrite
        check_output_free(self.path, overwrite)
        self._partial = self.path.with_name(f"{self.path.name}.partial-{os.getpid()}")
        self._rows = 0
        self._columns: dict[str, list[int]] = {name: [] for name in FIELDS}
        self._names: list[str] = []
        self._splits: dict[str, dict[int, int]] = {}  # split name -> clip number -> code
        # an interrupt may come before the `with` block begins or while it ends: this also runs when
        # Python exits
        self._discard = weakref.finalize(self, shutil.rmtree, self._partial, ignore_errors=True)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self._partial.exists():  # a killed run of the same process number
                shutil.rmtree(self._partial)
            self._partial.mkdir()
            self._file = open(self._partial / "positions.npy", "wb", buffering=1 << 20)  # noqa: SIM115 (closed by __exit__)
            self._write_header()
        except OSError as error:
            self._discard()
            raise self._cannot_write(error) from error

    def _write_header(self) -> None:
        # numpy leaves space for any number of rows, so that it can be written again
        shape = (self._rows, self.topology.num_joints, len(self.channels))
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)

    def _cannot_write(self, error: OSError) -> UserError:
        return UserError(
            f"cannot write {self.path}: {error.strerror or error}; nothing was written"
        )

    def __enter__(self) -> "CacheWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except OSError as failure:
            raise self._cannot_write(failure) from failure
        finally:
            # on a full disk closing fails as well; the file is deleted in the next line
            with suppress(OSError):
                self._file.close()
            self._discard()

    def skip(self, reason: str) -> None:
        """Count a recording that could not be read."""
        self.unread[reason] += 1

    @property
    def skipped(self) -> dict[str, int]:
        """Reason -> recordings not stored: unreadable, or empty once cleaned."""
        return dict(self.unread + Counter(self.report.skipped))

    def add(self, clip: Clip) -> None:
        """Clean and append a clip. Raises: UserError for wrong joints, channels, label or split."""
        shape = np.shape(clip.positions)
        if len(shape) == 4 and shape[1:3] != (self.topology.num_joints, len(self.channels)):
            raise UserError(
                f"clip '{clip.name}' has {shape[1]} joints of {shape[2]} channels; topology "
                f"'{self.topology.name}' with channels '{self.channels}' needs "
                f"{self.topology.num_joints} of {len(self.channels)}: choose another topology or "
                "other channels"
            )
        low, limit = self.labels_from, self.labels_from + (len(self.classes) or MAX_CLASSES)
        if not (low <= clip.label < limit or clip.label == -1):
            hint = "" if low else "; --labels-from 1, if they count from 1"
            raise UserError(
                f"clip '{clip.name}' has label {clip.label}, outside {low}..{limit - 1} "
                f"(labels count from {low}; -1 means unlabelled{hint})"
            )
        codes = {name: SPLIT_CODES.get(side) for name, side in clip.split.items()}
        if None in codes.values():
            raise UserError(
                f"clip '{clip.name}' has splits {dict(clip.split)}: each must be 'train' or 'test'"
            )
        cleaned, report = clean_clip(clip, self.channels, self.topology)
        self.report += report
        if cleaned is None:
            return
        rows = np.ascontiguousarray(rearrange(cleaned.positions, "t v c m -> m t v c"))
        try:
            self._file.write(rows.data)
        except OSError as error:
            raise self._cannot_write(error) from error
        for name, code in codes.items():
            self._splits.setdefault(name, {})[len(self._names)] = int(code or 0)
        label = clip.label - low if clip.label >= 0 else -1
        people, frames = rows.shape[:2]
        values = (self._rows, frames, people, label, clip.subject, clip.camera, clip.setup)
        for name, value in zip(FIELDS, values, strict=True):
            self._columns[name].append(int(value))
        self._names.append(clip.name)
        self._rows += people * frames

    def _finish(self) -> None:
        if not self._names:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.skipped.items())
            raise UserError(
                f"no usable clip was found ({reasons or 'the source is empty'}): nothing was "
                f"written to {self.path}"
            )
        self._file.seek(0)
        self._write_header()
        self._file.flush()
        os.fsync(self._file.fileno())
        labels = self._columns["label"]
        classes = self.classes or [
            str(label + self.labels_from) for label in range(max(labels) + 1)
        ]
        splits = {}
        for name, codes in zip(
            _escape_surrogates(self._splits), self._splits.values(), strict=True
        ):
            splits[f"split:{name}"] = np.zeros(len(self._names), np.int8)
            splits[f"split:{name}"][list(codes)] = list(codes.values())
        columns: dict[str, Any] = {name: np.array(self._columns[name], np.int64) for name in FIELDS}
        columns |= {"names": np.array(_escape_surrogates(self._names), np.str_)} | splits
        with open(self._partial / "clips.npz", "wb") as file:
            np.savez_compressed(file, **columns)
            os.fsync(file.fileno())
        meta = {
            "format": FORMAT,
            "topology": self.topology.to_dict(),
            "channels": self.channels,
            "classes": classes,
            "source": self.source,
            "splits": _escape_surrogates(self._splits),
            "cleaning": asdict(self.report),
            "skipped": self.skipped,
        }
        with open(self._partial / "meta.json", "w", encoding="utf-8") as text:
            json.dump(meta, text, indent=1, ensure_ascii=False)
            text.flush()
            os.fsync(text.fileno())
        self._move_into_place()

    def _move_into_place(self) -> None:
        # another process may have written it meanwhile
        check_output_free(self.path, self._overwrite)
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


def _escape_surrogates(texts: Iterable[str]) -> list[str]:
    # file names that are no UTF-8 hold surrogates, which neither a file nor a figure can encode
    return [text.encode("utf-8", "backslashreplace").decode() for text in texts]


def check_output_free(path: Path, overwrite: bool = False) -> None:
    """Raises: UserError unless `path` is free, an empty folder, or a cache to `overwrite`."""
    if not os.path.lexists(path):
        return
    if is_cache(path):
        if not overwrite:
            raise UserError(f"{path} exists: choose another output folder or pass --overwrite")
    elif not path.is_dir() or any(path.iterdir()):
        raise UserError(f"{path} exists and is not a clip cache: choose another output folder")

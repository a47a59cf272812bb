"""The clip cache: a folder whose valid frames are memory-mapped.

meta.json: format, topology, channels, class names, source, counts of the cleaning.
positions.npy: (rows, V, C) float32. Clip i owns the rows from start[i] up to start[i] + people[i] *
    length[i]: all frames of its first person, then all of the second.
clips.npz: start, length, people, label, subject, camera, setup, names, and one int8 array a split.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from einops import rearrange

from slim_fast.data.clips import CHANNELS
from slim_fast.errors import UserError, describe_os_error, program_name, suggest
from slim_fast.reading import parse_json
from slim_fast.skeletons import Topology

FORMAT = "slim_fast clips 2"
FIELDS = ("start", "length", "people", "label", "subject", "camera", "setup")


class OldFormatError(UserError):
    """A cache that another version wrote in another format."""


def is_cache(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a clip cache, by its meta.json. Raises: UserError without permission."""
    try:
        return str(parse_json((Path(path) / "meta.json").read_text("utf-8"))["format"]).startswith(
            "slim_fast clips"
        )
    except PermissionError as error:
        raise UserError(f"{describe_os_error(error)}: mend its permissions") from error
    except (OSError, ValueError, KeyError, TypeError):
        return False


@dataclass(frozen=True, eq=False)
class ClipCache:
    """A cache opened for reading; the docstring of this module has its layout. Pickles as its path.

    Attributes:
        positions: (rows, V, C) float32 memory map.
        start, length, people, label, subject, camera, setup: (N,) int64.
        names: (N,) str.
        splits: split name -> (N,) int8, 0 neither, 1 train, 2 test.
        meta: the content of meta.json.
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
    def open(cls, path: str | os.PathLike[str]) -> "ClipCache":
        """Open the cache at `path`. Raises: UserError when it is no cache, or a damaged one."""
        folder = Path(path)
        if not is_cache(folder):
            command = f"{program_name('data')} convert IN OUT"
            raise UserError(f"{folder} is not a clip cache: make one with `{command}`")
        try:
            meta = parse_json((folder / "meta.json").read_text("utf-8"))
            if meta["format"] != FORMAT:
                raise OldFormatError(
                    f"{folder} has format '{meta['format']}' and this version reads '{FORMAT}': "
                    "convert the data again"
                )
            positions = np.load(folder / "positions.npy", mmap_mode="r", allow_pickle=False)
            with np.load(folder / "clips.npz", allow_pickle=False) as archive:
                columns = {name: archive[name] for name in (*FIELDS, "names")}
                splits = {name: archive[f"split:{name}"] for name in meta["splits"]}
            kinds = Topology.from_dict(meta["topology"]), meta["channels"], tuple(meta["classes"])
            cache = cls(folder, *kinds, positions, **columns, splits=splits, meta=meta)
            cache._check()
        except PermissionError as error:
            raise UserError(f"{describe_os_error(error)}: mend its permissions") from error
        except UserError:
            raise
        except Exception as error:  # numpy raises nearly anything on a damaged file
            raise UserError(
                f"{folder} is a damaged clip cache ({error}): convert the data again"
            ) from error
        return cache

    def _check(self) -> None:
        """Raises: ValueError for parts that do not fit each other."""
        columns = [*(getattr(self, name) for name in FIELDS), *self.splits.values()]
        if (
            self.channels not in CHANNELS
            or self.names.ndim != 1
            or self.names.dtype.kind != "U"
            or self.positions.dtype != np.float32
            or any(c.shape != self.names.shape or c.dtype.kind != "i" for c in columns)
            or min(self.people.min(initial=0), self.length.min(initial=0)) < 0
        ):
            raise ValueError("a column is of another kind or length than the others")
        rows = self.people * self.length
        shape = (int(rows.sum()), self.topology.num_joints, len(self.channels))
        if self.positions.shape != shape or (self.start != np.cumsum(rows) - rows).any():
            raise ValueError(f"positions of shape {self.positions.shape}, its clips need {shape}")

    def __reduce__(self) -> tuple[object, ...]:
        return ClipCache.open, (self.path,)

    def __len__(self) -> int:
        return len(self.start)

    def clip(self, i: int) -> np.ndarray:
        """Clip i as a new (T, V, C, M) float32 array."""
        start, length, people = int(self.start[i]), int(self.length[i]), int(self.people[i])
        rows = self.positions[start : start + people * length]
        return np.array(rearrange(rows, "(m t) v c -> t v c m", m=people), order="C")

    def find(self, name: str) -> int:
        """The number of the clip of that name, or of that number. Raises: UserError without it."""
        named = np.flatnonzero(self.names == name)
        if len(named):
            return int(named[0])
        if not name.isdecimal() or int(name) >= len(self):
            raise UserError(
                f"{self.path} has no clip {name!r}: give a name, or a number below {len(self)}."
            )
        return int(name)

    def split(self, name: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(train, test) clip numbers of a split, or the first. Raises: UserError without it."""
        if not self.splits:
            raise UserError(f"{self.path} has no train/test split: its source gave none")
        name = next(iter(self.splits)) if name is None else name
        if name not in self.splits:
            raise UserError(
                f"{self.path} has no split '{name}'{suggest(name, self.splits)}: choose one of "
                f"{', '.join(self.splits)}"
            )
        code = self.splits[name]
        return np.flatnonzero(code == 1), np.flatnonzero(code == 2)

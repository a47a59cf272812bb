"""Arrays of .npy files and npz members, read from front to back in chunks: constant memory, and no unpickling."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from slim_fast.errors import UserError

CHUNK_BYTES = 16 << 20
MAX_ROW_BYTES = 256 << 20  # a row is a clip or a frame; cleaning makes a few copies of it
NPY_MAGIC = b"\x93NUMPY"


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns everything a damaged file can raise into one sentence."""
    try:
        yield
    except UserError:
        raise
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, ValueError, NotImplementedError, RuntimeError) as error:
        raise UserError(
            f"{path} cannot be read, it may be cut short or damaged ({str(error) or type(error).__name__})"
        ) from error


class ArrayStream:
    """One array: `shape` and `dtype` from its header, then its rows in order, once.

    Raises UserError for object arrays (loading one could run code), Fortran order and content that is cut short.
    """

    def __init__(self, path: Path, member: str | None = None) -> None:
        self.path = path
        self.name = f"{path}" if member is None else f"'{member}' in {path}"
        with readable(path):
            if member is None:
                self._file: IO[bytes] = open(path, "rb")  # noqa: SIM115 (lives as long as the stream)
                size = os.path.getsize(path)
            else:
                archive = zipfile.ZipFile(path)
                self._file = archive.open(f"{member}.npy")
                size = archive.getinfo(f"{member}.npy").file_size
            self.shape, self.dtype, header = _read_header(self._file, self.name)
        if self.dtype.hasobject:
            raise UserError(f"{self.name} holds Python objects, which could run code when loaded: save a plain array")
        if self.dtype.names or self.dtype.subdtype:
            raise UserError(f"{self.name} is a structured array: save it as a plain array")
        if size != header + self.nbytes:
            raise UserError(
                f"{self.name} is cut short or damaged: it has {size} bytes, its header promises {header + self.nbytes}"
            )

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def chunks(self) -> Iterator[np.ndarray]:
        """Consecutive groups of rows (first axis) of about CHUNK_BYTES; at least one row each."""
        if not self.shape:
            raise UserError(f"{self.name} is a single number, not an array")
        row_bytes = self.row_bytes
        if row_bytes > MAX_ROW_BYTES:
            raise UserError(
                f"{self.name} of shape {self.shape} takes {row_bytes >> 20} MB a row: cut it into shorter clips"
            )
        rows = max(1, CHUNK_BYTES // max(1, row_bytes))
        with self._file:
            for first in range(0, self.shape[0], rows):
                count = min(rows, self.shape[0] - first)
                with readable(self.path):
                    data = self._file.read(count * row_bytes)
                if len(data) != count * row_bytes:
                    raise UserError(f"{self.name} is cut short: {first} of {self.shape[0]} rows could be read")
                yield np.frombuffer(data, self.dtype).reshape(count, *self.shape[1:])

    def whole(self, limit: int = MAX_ROW_BYTES) -> np.ndarray:
        """All of it, if not larger than `limit` bytes."""
        if self.nbytes > limit:
            raise UserError(f"{self.name} takes {self.nbytes >> 20} MB; at most {limit >> 20} MB was expected")
        with self._file, readable(self.path):
            data = self._file.read(self.nbytes)
        if len(data) != self.nbytes:
            raise UserError(f"{self.name} is cut short")
        return np.frombuffer(data, self.dtype).reshape(self.shape)


def _read_header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype, int]:
    start = file.tell()
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise UserError(f"{name} has .npy version {version}: save it again as a plain array")
    if fortran and sum(size > 1 for size in shape) > 1:
        raise UserError(
            f"{name} is stored in Fortran order and cannot be read in pieces: save "
            "numpy.ascontiguousarray(array) instead"
        )
    return shape, dtype, file.tell() - start


def npz_members(path: Path) -> list[str]:
    """Names of the arrays in an npz, in their order; empty when it is no npz. A damaged one raises UserError."""
    if not path.is_file() or not starts_with(path, b"PK"):
        return []
    with readable(path), zipfile.ZipFile(path) as archive:
        return [name[:-4] for name in archive.namelist() if name.endswith(".npy")]


def starts_with(path: Path, magic: bytes) -> bool:
    """Whether a file begins with these bytes."""
    with readable(path), open(path, "rb") as file:
        return file.read(len(magic)) == magic


def read_member(path: Path, members: list[str], *names: str) -> np.ndarray | None:
    """The first of `names` that the npz has, whole; None if it has none."""
    name = next((name for name in names if name in members), None)
    return None if name is None else ArrayStream(path, name).whole()

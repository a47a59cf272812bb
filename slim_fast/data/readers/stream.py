"""Arrays of .npy files and npz members, read in chunks: constant memory, and no unpickling."""

import math
import os
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from slim_fast.errors import UserError, describe_os_error

CHUNK_BYTES = 16 << 20
MAX_ROW_BYTES = 256 << 20  # a row is a clip or a frame; cleaning makes a few copies of it
NPY_MAGIC = b"\x93NUMPY"


@contextmanager
def explain_damage(path: Path, remedy: str = "") -> Iterator[None]:
    """Turn whatever reading a damaged file raises into a UserError, with what helps behind it."""
    try:
        yield
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(f"{describe_os_error(error)}: mend its permissions") from error
    except Exception as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{path} cannot be read, it may be cut short or damaged ({cause}){remedy}"
        ) from error


def is_valid_text(text: np.ndarray) -> bool:
    """Whether all characters of an array of text exist; numpy raises obscure errors for others."""
    codes = (
        np.ascontiguousarray(text)
        .reshape(-1)
        .view(np.dtype("u4").newbyteorder(text.dtype.byteorder))
    )
    return bool(codes.max(initial=0) <= sys.maxunicode)


class ArrayStream:
    """An array in a file: `shape` and `dtype` from its header, then its rows in order, once.

    Raises: UserError for arrays of objects, which could run code when loaded, for Fortran order,
    and for content that is cut short.
    """

    def __init__(self, path: Path, member: str | None = None) -> None:
        self.path, self.member = path, member
        self.name = f"{path}" if member is None else f"'{member}' in {path}"
        with explain_damage(path):
            if member is None:
                self._file: IO[bytes] = open(path, "rb")  # noqa: SIM115 (lives as long as the stream)
                size = os.path.getsize(path)
            else:
                archive = zipfile.ZipFile(path)
                self._file = archive.open(f"{member}.npy")
                size = archive.getinfo(f"{member}.npy").file_size
            self.shape, self.dtype, header = _read_header(self._file, self.name)
        if self.dtype.hasobject:
            raise UserError(
                f"{self.name} holds Python objects, which could run code when loaded: save a "
                "plain array"
            )
        if self.dtype.names or self.dtype.subdtype or not self.dtype.itemsize:
            raise UserError(
                f"{self.name} is a structured array, or of an empty type: save it as a plain array"
            )
        if min(self.shape, default=0) < 0:
            raise UserError(f"{self.name} is damaged: its header promises the shape {self.shape}")
        if size != header + self.nbytes:
            raise UserError(
                f"{self.name} is cut short or damaged: it has {size} bytes, its header promises "
                f"{header + self.nbytes}"
            )

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def read_chunks(self) -> Iterator[np.ndarray]:
        """Read groups of rows (first axis) of about CHUNK_BYTES, at least one row each."""
        if not self.shape:
            raise UserError(f"{self.name} is a single number, not an array")
        row_bytes = self.row_bytes
        if row_bytes > MAX_ROW_BYTES:
            raise UserError(
                f"{self.name} of shape {self.shape} takes {row_bytes >> 20} MB a row: cut it into "
                "shorter clips"
            )
        rows = max(1, CHUNK_BYTES // max(1, row_bytes))
        with self._file:
            for first in range(0, self.shape[0], rows):
                count = min(rows, self.shape[0] - first)
                with explain_damage(self.path):
                    data = self._file.read(count * row_bytes)
                if len(data) != count * row_bytes:
                    raise UserError(
                        f"{self.name} is cut short: {first} of {self.shape[0]} rows could be read"
                    )
                yield np.frombuffer(data, self.dtype).reshape(count, *self.shape[1:])

    def read_all(self, limit: int = MAX_ROW_BYTES) -> np.ndarray:
        """Read the whole array. Raises: UserError when it is larger than `limit` bytes."""
        if self.nbytes > limit:
            raise UserError(
                f"{self.name} takes {self.nbytes >> 20} MB; at most {limit >> 20} MB was expected"
            )
        with self._file, explain_damage(self.path):
            data = self._file.read(self.nbytes)
        if len(data) != self.nbytes:
            raise UserError(f"{self.name} is cut short")
        array = np.frombuffer(data, self.dtype).reshape(self.shape)
        if self.dtype.kind == "U" and not is_valid_text(array):
            raise UserError(f"{self.name} is damaged: it has characters that do not exist")
        return array


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


def peek_rows(stream: ArrayStream) -> np.ndarray:
    """The first chunk of `stream`, or no rows when it is empty; `stream` does not advance."""
    with explain_damage(stream.path):
        empty = np.empty((0, *stream.shape[1:]), stream.dtype)
        return next(ArrayStream(stream.path, stream.member).read_chunks(), empty)


def list_npz_members(path: Path) -> list[str]:
    """Names of the arrays in an npz, [] for other files. Raises: UserError for a damaged one."""
    if not path.is_file() or not starts_with(path, b"PK"):
        return []
    with explain_damage(path), zipfile.ZipFile(path) as archive:
        return [name[:-4] for name in archive.namelist() if name.endswith(".npy")]


def starts_with(path: Path, magic: bytes) -> bool:
    """Whether a file begins with these bytes."""
    with explain_damage(path), open(path, "rb") as file:
        return file.read(len(magic)) == magic

"""What `unpickle.load_pickle` gives: arrays read on demand, and plain values by kind."""

import math
import re
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from slim_fast.data.readers.stream import is_valid_text
from slim_fast.errors import UserError

PLAIN_DTYPE = re.compile(r"[<>=|]?(b1|\?|[iuf]\d+|[SU]\d*)")


class Spill:
    """A temporary file, which is closed, and so deleted, with the last of the bytes in it."""

    def __init__(self, folder: Path | None) -> None:
        self.file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        weakref.finalize(self, self.file.close)


@dataclass(frozen=True)
class SpilledBytes:
    """Bytes in the temporary file of an unpickler."""

    spill: Spill
    offset: int
    size: int

    def read(self) -> bytes:
        """Read the bytes."""
        self.spill.file.seek(self.offset)
        return self.spill.file.read(self.size)


class LazyArray:
    """A pickled numpy array, which `read` reads anew each time."""

    __slots__ = ("axes", "data", "dtype", "order", "shape")

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = (0,)
        self.dtype = np.dtype("u1")
        self.order, self.axes = "C", None  # type: str, tuple[int, ...] | None
        self.data: bytes | bytearray | SpilledBytes = b""

    def fill(self, shape: Any, dtype: Any, order: str, data: Any, axes: Any = None) -> "LazyArray":
        """Set the state that the pickle gives. Raises: ValueError when it contradicts itself."""
        if not isinstance(dtype, PickledDtype) or not all(
            isinstance(size, int) and size >= 0 for size in shape
        ):
            raise ValueError("malformed array")
        if isinstance(data, str):  # byte strings of Python 2
            data = data.encode("latin1")
        size = data.size if isinstance(data, SpilledBytes) else len(data)
        if size != math.prod(shape) * dtype.value.itemsize:
            raise ValueError("an array whose bytes do not fit its shape")
        if size == 0 and math.prod(shape):
            raise ValueError("an array of empty strings")  # it could claim any number of them
        np.broadcast_to(np.empty((), dtype.value), shape)  # raises where numpy has no such shape
        if axes is not None and sorted(axes) != list(range(len(shape))):
            raise ValueError("an array whose axes do not fit its shape")
        self.shape = tuple(shape) if axes is None else tuple(shape[axis] for axis in axes)
        self.dtype, self.order, self.axes, self.data = dtype.value, order, axes, data
        if self.dtype.kind == "U" and not is_valid_text(self.read()):
            raise ValueError("text with characters that do not exist")
        return self

    def read(self) -> np.ndarray:
        """Read the array."""
        data = self.data.read() if isinstance(self.data, SpilledBytes) else self.data
        if self.axes is None:
            return np.ndarray(
                self.shape, self.dtype, bytes(data), order="F" if self.order == "F" else "C"
            )
        stored = [self.shape[axis] for axis in np.argsort(self.axes)]
        return np.ndarray(stored, self.dtype, bytes(data)).transpose(self.axes)


class PickledDtype:
    """A dtype of plain numbers or text.

    Pickle memoises a dtype before its byte order arrives, hence a stand-in that can change.
    """

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or not PLAIN_DTYPE.fullmatch(code):
            raise UserError(
                f"it holds an array of type {code!r}; only plain numbers and strings are read"
            )
        self.value = np.dtype(code)


def read_array(value: Any) -> np.ndarray:
    """The numpy array of a LazyArray or a list."""
    return value.read() if isinstance(value, LazyArray) else np.asarray(value)


def parse_list(value: Any) -> list[Any] | None:
    """The items of a list, tuple, set, or array of one row or column; None for other values."""
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    if (
        not isinstance(value, LazyArray)
        or len(value.shape) not in (1, 2)
        or value.shape[1:] not in ((), (1,))
    ):
        return None
    return value.read().reshape(-1).tolist()


def parse_integer(value: Any) -> int | None:
    """A whole number of any type that fits into 64 bits; None for other values."""
    if isinstance(value, LazyArray) and value.shape in ((), (1,)) and value.dtype.kind in "fiu":
        value = value.read().item()
    if (
        not isinstance(value, (int, float))
        or not -(1 << 63) <= value < 1 << 63
        or value != int(value)
    ):
        return None
    return int(value)


def parse_text(value: Any) -> str | None:
    """The text of a str, of bytes, or of a whole number of 64 bits; None for other values."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, int) and abs(value) < 1 << 63:
        return str(value)
    return value if isinstance(value, str) else None

"""Pickles of plain data and numpy arrays, read without running anything they ask for and without holding their arrays.

The standard library's pure-Python machine is used with three changes: names resolve through a fixed table of our own
functions, objects may only be filled (BUILD) when they are ours, and long byte strings go to a temporary file as they
are met, so that its memo keeps an offset and not the bytes.
"""

from __future__ import annotations

import math
import pickle
import re
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from slim_fast.errors import UserError

SPILL_FROM = 256  # bytes; shorter strings stay in memory
SPILL_TEXT_FROM = 1024  # protocols below 3 write bytes as text
COPY_BYTES = 1 << 20
PLAIN_DTYPE = re.compile(r"[<>=|]?(b1|\?|[iuf]\d+|[SU]\d*)")


@dataclass(frozen=True)
class Spilled:
    """Bytes that were put into the temporary file."""

    file: IO[bytes]
    offset: int
    size: int

    def read(self) -> bytes:
        self.file.seek(self.offset)
        return self.file.read(self.size)


class LazyArray:
    """A pickled numpy array; `read` gives it afresh each time. Shared arrays are shared LazyArrays."""

    __slots__ = ("axes", "data", "dtype", "order", "shape")

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = (0,)
        self.dtype = np.dtype("u1")
        self.order, self.axes = "C", None  # type: str, tuple[int, ...] | None
        self.data: bytes | bytearray | Spilled = b""

    def fill(self, shape: Any, dtype: Any, order: str, data: Any, axes: Any = None) -> LazyArray:
        if not isinstance(dtype, _Dtype) or not all(isinstance(size, int) and size >= 0 for size in shape):
            raise ValueError("malformed array")
        if isinstance(data, str):  # text strings of Python 2
            data = data.encode("latin1")
        size = data.size if isinstance(data, Spilled) else len(data)
        if size != math.prod(shape) * dtype.value.itemsize:
            raise ValueError("an array whose bytes do not fit its shape")
        if axes is not None and sorted(axes) != list(range(len(shape))):
            raise ValueError("an array whose axes do not fit its shape")
        self.shape = tuple(shape) if axes is None else tuple(shape[axis] for axis in axes)
        self.dtype, self.order, self.axes, self.data = dtype.value, order, axes, data
        return self

    def read(self) -> np.ndarray:
        data = self.data.read() if isinstance(self.data, Spilled) else self.data
        if self.axes is None:
            return np.ndarray(self.shape, self.dtype, bytes(data), order="F" if self.order == "F" else "C")
        laid = [self.shape[place] for place in np.argsort(self.axes)]
        return np.ndarray(laid, self.dtype, bytes(data)).transpose(self.axes)


class _Dtype:
    # dtypes are memoised before their byte order arrives, so a mutable stand-in takes their place
    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or not PLAIN_DTYPE.fullmatch(code):
            raise UserError(f"it holds an array of type {code!r}; only plain numbers and strings are read")
        self.value = np.dtype(code)


def _reconstruct(*_: Any) -> LazyArray:
    return LazyArray()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: str, axes: Any = None) -> LazyArray:
    return LazyArray().fill(shape, dtype, order, data, axes if order == "K" else None)


def _scalar(dtype: Any, data: bytes | str) -> Any:
    return LazyArray().fill((), dtype, "C", data).read().item()


def _empty_bytes() -> bytes:
    return b""  # what protocol 2 writes for b""; with an argument bytes() could claim any amount of memory


class _Marker:
    """Stands for a class that may be named but is never called."""


def _allowed() -> dict[tuple[str, str], Any]:
    table: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): _Marker(),
        ("numpy", "dtype"): _Dtype,
        ("__builtin__", "bytes"): _empty_bytes,
    }
    for core in ("numpy.core", "numpy._core"):  # numpy 1 and 2
        table |= {
            (f"{core}.multiarray", "_reconstruct"): _reconstruct,
            (f"{core}.multiarray", "scalar"): _scalar,
            (f"{core}.numeric", "_frombuffer"): _from_buffer,
        }
    for plain in (set, frozenset, list, dict, tuple, str, int, float, bool, complex):
        table |= {(module, plain.__name__): plain for module in ("builtins", "__builtin__")}
    return table


ALLOWED = _allowed()


class _Unpickler(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)
    read: Callable[[int], bytes]
    readline: Callable[[], bytes]
    stack: list[Any]

    def __init__(self, file: IO[bytes], spill: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")
        self._spill = spill
        self._spill_end = 0

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self._encode
        if (module, name) not in ALLOWED:
            raise UserError(
                f"its pickle asks for {module}.{name}, and only numpy arrays and plain Python containers "
                "are read (anything else could run code)"
            )
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise UserError("its pickle refers to objects outside it")

    def get_extension(self, code: int) -> Any:
        raise UserError("its pickle uses the extension registry")

    def _encode(self, text: str | Spilled, encoding: str = "latin1") -> bytes | Spilled:
        if encoding not in ("latin1", "latin-1"):
            raise UserError(f"its pickle asks for the encoding {encoding}")
        if isinstance(text, str):
            return text.encode("latin1")
        return self._put(text.read().decode("utf-8", "surrogatepass").encode("latin1"))

    def _put(self, data: bytes) -> Spilled:
        self._spill.seek(self._spill_end)
        self._spill.write(data)
        self._spill_end += len(data)
        return Spilled(self._spill, self._spill_end - len(data), len(data))

    def _take(self, size: int, spill_from: int) -> bytes | Spilled:
        if size < 0:
            raise ValueError("a negative length")
        if size < spill_from:
            data = self.read(size)
            if len(data) != size:
                raise EOFError
            return data
        offset, left = self._spill_end, size
        while left:
            data = self.read(min(left, COPY_BYTES))
            if not data:
                raise EOFError
            self._put(data)
            left -= len(data)
        return Spilled(self._spill, offset, size)

    def _load_bytes(self, size_format: str) -> None:
        (size,) = struct.unpack(size_format, self.read(struct.calcsize(size_format)))
        self.stack.append(self._take(size, SPILL_FROM))

    def _load_text(self, size_format: str) -> None:
        (size,) = struct.unpack(size_format, self.read(struct.calcsize(size_format)))
        data = self._take(size, SPILL_TEXT_FROM)
        self.stack.append(str(data, "utf-8", "surrogatepass") if isinstance(data, bytes) else data)

    def _load_global(self) -> None:
        module, name = self.readline(), self.readline()
        if not name.endswith(b"\n"):
            raise EOFError
        self.stack.append(self.find_class(module[:-1].decode("utf-8"), name[:-1].decode("utf-8")))

    def _load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, LazyArray):
            _, shape, dtype, fortran, data = state
            target.fill(shape, dtype, "F" if fortran else "C", data)
        elif isinstance(target, _Dtype):
            if any(part is not None for part in state[2:5]):
                raise UserError("it holds a structured array; only plain numbers and strings are read")
            target.value = target.value.newbyteorder(state[1])
        else:
            raise UserError(f"its pickle fills an object of type {type(target).__name__}; only arrays are read")

    dispatch[pickle.BINBYTES[0]] = lambda self: self._load_bytes("<I")
    dispatch[pickle.BINBYTES8[0]] = lambda self: self._load_bytes("<Q")
    dispatch[pickle.BYTEARRAY8[0]] = lambda self: self._load_bytes("<Q")
    dispatch[pickle.BINSTRING[0]] = lambda self: self._load_bytes("<i")
    dispatch[pickle.BINUNICODE[0]] = lambda self: self._load_text("<I")
    dispatch[pickle.BINUNICODE8[0]] = lambda self: self._load_text("<Q")
    dispatch[pickle.GLOBAL[0]] = _load_global
    dispatch[pickle.BUILD[0]] = _load_build


def load_pickle(path: Path, scratch: Path | None = None) -> Any:
    """The plain Python data in a pickle (protocols 2 to 5), its arrays as LazyArray.

    `scratch` is the folder of the temporary file that holds the arrays' bytes, gone when the last LazyArray is.
    Raises UserError when the file is cut short, no pickle, or wants anything beyond numpy arrays and plain builtins.
    """
    try:
        spill = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 (lives as long as the arrays)
        with open(path, "rb") as file:
            try:
                return _Unpickler(file, spill).load()
            except UserError as error:
                raise UserError(f"{path} is refused: {error}") from error
            except OSError:
                raise
            except Exception as error:
                if not file.read(1):
                    raise UserError(f"{path} is cut short ({file.tell()} bytes): download it again") from error
                raise UserError(f"{path} is not a readable pickle ({type(error).__name__}: {error})") from error
    except OSError as error:
        raise UserError(f"cannot read {path}, or write its arrays to a temporary file: {error.strerror}") from error


def as_array(value: Any) -> np.ndarray:
    """A LazyArray's content, or a list's."""
    return value.read() if isinstance(value, LazyArray) else np.asarray(value)

"""Safe reading of pickles of plain data and numpy arrays, with the arrays on disk.

This is the standard library's unpickler in pure Python with three changes. Names resolve to our own
functions in a fixed table, so that nothing of the pickle's choice is called. BUILD, which sets an
object's state, is for our own classes alone. Long byte strings are copied to a temporary file as
they are read, so that the unpickler's memo, which keeps every object to the end, holds offsets and
not the bytes.
"""

import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, ClassVar

from slim_fast.data.readers.pickled_values import LazyArray, PickledDtype, Spill, SpilledBytes
from slim_fast.errors import UserError, describe_os_error

SPILL_FROM = 256  # bytes; shorter strings stay in memory
SPILL_TEXT_FROM = 1024  # protocols below 3 write bytes as text
COPY_BYTES = 1 << 20


def _reconstruct(*_: Any) -> LazyArray:
    return LazyArray()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: str, axes: Any = None) -> LazyArray:
    return LazyArray().fill(shape, dtype, order, data, axes if order == "K" else None)


def _scalar(dtype: Any, data: bytes | str) -> Any:
    return LazyArray().fill((), dtype, "C", data).read().item()


def _empty_bytes() -> bytes:
    # protocol 2 writes b"" as bytes(); bytes(n), with an argument, could claim any amount of memory
    return b""


class _Marker:
    """A class that a pickle may name but not call."""


def _make_allowed() -> dict[tuple[str, str], Any]:
    table: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): _Marker(),
        ("numpy", "dtype"): PickledDtype,
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


ALLOWED = _make_allowed()


class _Unpickler(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)
    read: Callable[[int], bytes]
    readline: Callable[[], bytes]
    stack: list[Any]

    def __init__(self, file: IO[bytes], spill: Spill) -> None:
        super().__init__(file, encoding="latin1")
        self._spill = spill
        self._spill_end = 0

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self._encode
        if (module, name) not in ALLOWED:
            raise UserError(
                f"its pickle names {module}.{name}, and only numpy arrays and plain Python "
                "containers are read (anything else could run code)"
            )
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise UserError("its pickle refers to objects outside it")

    def get_extension(self, code: int) -> Any:
        raise UserError("its pickle uses the extension registry")

    def _encode(self, text: str | SpilledBytes, encoding: str = "latin1") -> bytes | SpilledBytes:
        if encoding not in ("latin1", "latin-1"):
            raise UserError(f"its pickle names the encoding {encoding}")
        if isinstance(text, str):
            return text.encode("latin1")
        return self._put(text.read().decode("utf-8", "surrogatepass").encode("latin1"))

    def _put(self, data: bytes) -> SpilledBytes:
        """Append bytes to the temporary file."""
        self._spill.file.seek(self._spill_end)
        self._spill.file.write(data)
        self._spill_end += len(data)
        return SpilledBytes(self._spill, self._spill_end - len(data), len(data))

    def _take(self, size: int, spill_from: int) -> bytes | SpilledBytes:
        """The next bytes of the pickle, in the temporary file when there are so many."""
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
        return SpilledBytes(self._spill, offset, size)

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
        elif isinstance(target, PickledDtype):
            if any(part is not None for part in state[2:5]):
                raise UserError(
                    "it holds a structured array; only plain numbers and strings are read"
                )
            target.value = target.value.newbyteorder(state[1])
        else:
            raise UserError(
                f"its pickle fills an object of type {type(target).__name__}; only arrays are read"
            )

    dispatch[pickle.BINBYTES[0]] = lambda self: self._load_bytes("<I")
    dispatch[pickle.BINBYTES8[0]] = lambda self: self._load_bytes("<Q")
    dispatch[pickle.BYTEARRAY8[0]] = lambda self: self._load_bytes("<Q")
    dispatch[pickle.BINSTRING[0]] = lambda self: self._load_bytes("<i")
    dispatch[pickle.BINUNICODE[0]] = lambda self: self._load_text("<I")
    dispatch[pickle.BINUNICODE8[0]] = lambda self: self._load_text("<Q")
    dispatch[pickle.GLOBAL[0]] = _load_global
    dispatch[pickle.BUILD[0]] = _load_build


def load_pickle(path: Path, scratch: Path | None = None) -> Any:
    """Read the plain data of a pickle (protocols 2 to 5), its arrays as LazyArray.

    Args:
        scratch: folder for the temporary file of the arrays, which is deleted with the last
            LazyArray.

    Raises: UserError when the file is cut short, is no pickle, or needs more than numpy arrays and
    plain builtins.
    """
    try:
        spill = Spill(scratch)
        with open(path, "rb") as file:
            try:
                return _Unpickler(file, spill).load()
            except UserError as error:
                raise UserError(f"{path} is refused: {_one_line(error)}") from error
            except OSError:
                raise
            except Exception as error:
                if not file.read(1):
                    raise UserError(
                        f"{path} is cut short ({file.tell()} bytes): download it again"
                    ) from error
                raise UserError(
                    f"{path} is not a readable pickle ({type(error).__name__}: {_one_line(error)})"
                ) from error
    except OSError as error:
        if error.filename == os.fspath(path):
            raise UserError(f"{describe_os_error(error)}: mend its permissions") from error
        raise UserError(
            f"cannot read {path}, or write its arrays to a temporary file: {error.strerror}"
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())

"""Recordings in MATLAB files, read without scipy.io: there a damaged file can crash the process.

Of MATLAB's MAT-File Format (version 5) it is what arrays of numbers need: elements of a type, a
number of bytes and content, in either byte order, compressed by zlib or not.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from itertools import islice

import numpy as np

from slim_fast.data.readers.files import MAX_FRAMES
from slim_fast.errors import UserError

NUMBERS = dict(enumerate(("i1", "u1", "i2", "u2", "i4", "u4", "f4"), 1))
NUMBERS |= {9: "f8", 12: "i8", 13: "u8"}  # in which an array is stored, whatever its class
MATRIX, COMPRESSED = 14, 15
FLOATS = (6, 7)  # classes: double, single
IS_COMPLEX = 0x800
HEAD_BYTES = 4096  # more than a matrix has before its numbers
DAMAGED = "no file of MATLAB 5 to 7.2, or cut short"


def read_matlab_frames(content: bytes, name: str, joints: int, channels: int) -> np.ndarray:
    """(V, C, T) of the variable `name` in a file of MATLAB 5 to 7.2; others are not looked at.

    Raises: UserError when there is none, or not of real numbers with those joints and channels.
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None:
        raise UserError(DAMAGED)
    if struct.unpack_from(f"{order}H", content, 124)[0] == 0x200:
        raise UserError("a MATLAB 7.3 file: save it with '-v7'")
    try:
        for kind, element in _split(content[128:], order):
            if kind not in (MATRIX, COMPRESSED):
                continue
            head = _split(_inflate(kind, element, HEAD_BYTES), order)
            (_, flags), (_, sizes), (_, called) = islice(head, 3)
            if called != name.encode():
                continue
            (described,) = struct.unpack_from(f"{order}I", flags)
            shape = np.frombuffer(sizes, f"{order}i4").tolist()
            is_real = described & 0xFF in FLOATS and not described & IS_COMPLEX
            if not is_real or len(shape) != 3 or shape[:2] != [joints, channels] or shape[2] < 0:
                break
            if shape[2] > MAX_FRAMES:
                raise UserError(f"more than {MAX_FRAMES} frames: cut it into shorter recordings")
            whole = _inflate(kind, element, HEAD_BYTES + 8 * math.prod(shape))
            _, _, _, (stored, numbers) = islice(_split(whole, order), 4)
            return np.frombuffer(numbers, f"{order}{NUMBERS[stored]}").reshape(shape, order="F")
    except UserError:
        raise
    except (struct.error, ValueError, KeyError, zlib.error) as error:
        raise UserError(DAMAGED) from error
    raise UserError(f"no {name} of shape {joints} x {channels} x frames")


def _inflate(kind: int, element: bytes, most: int) -> bytes:
    """The content of a matrix, at most that many bytes of a compressed one."""
    return zlib.decompressobj().decompress(element, most)[8:] if kind == COMPRESSED else element


def _split(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Elements: type and content. Raises: ValueError, struct.error where one is cut short."""
    place = 0
    while place < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, place)
        begin, end = place + 8, place + 8 + size
        place = end if kind == COMPRESSED else end + -size % 8
        if kind >> 16:  # up to four bytes, in the place of their number
            kind, size = kind & 0xFFFF, kind >> 16
            begin, end, place = begin - 4, begin - 4 + size, begin
        if size != len(element := content[begin:end]):
            raise ValueError("cut short")
        yield kind, element

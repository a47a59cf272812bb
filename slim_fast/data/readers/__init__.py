"""Readers of data sets, one module a format; `open_source` picks one by the content."""

from pathlib import Path

from slim_fast.data.cache import is_cache
from slim_fast.data.readers import (
    agcn,
    clips_npz,
    frames_npz,
    joint_csv,
    mediapipe,
    ntu_raw,
    nucla,
    openpose,
    pku_mmd,
    pyskl,
    sbu,
    train_test_npz,
    utd_mhad,
)
from slim_fast.data.readers.source import Options, Problem, Reader, Source
from slim_fast.data.readers.stream import explain_damage, starts_with
from slim_fast.errors import UserError

__all__ = ["READERS", "Options", "Problem", "Reader", "Source", "detect", "open_source"]

# clips_npz recognises every npz, so it comes last; mediapipe looks into JSON files that others
# know by their names
FORMATS = (
    ntu_raw,
    train_test_npz,
    frames_npz,
    pyskl,
    agcn,
    nucla,
    pku_mmd,
    utd_mhad,
    sbu,
    openpose,
    mediapipe,
    joint_csv,
    clips_npz,
)
ARCHIVES = (b"PK", b"7z\xbc\xaf\x27\x1c", b"Rar!", b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
READERS: tuple[Reader, ...] = tuple(module.READER for module in FORMATS)


def detect_format(path: Path) -> Reader:
    """The reader of a path's format, by content. Raises: UserError that lists known formats."""
    with explain_damage(path):
        exists = path.exists()
    if not exists:
        raise UserError(f"{path} does not exist")
    if is_cache(path):
        raise UserError(f"{path} is a clip cache already: nothing to convert")
    for reader in READERS:
        if reader.recognises(path):
            return reader
    if path.is_file() and any(starts_with(path, magic) for magic in ARCHIVES):
        raise UserError(f"{path} is an archive: unpack it, and give the folder")
    raise UserError(
        f"{path} is in no known format. The known formats are: "
        + "; ".join(reader.description for reader in READERS)
    )


def open_source(path: Path, options: Options | None = None) -> Source:
    """Open a data set of any known format. Raises: UserError when it cannot be read."""
    return detect_format(path).read(path, options or Options())

"""Readers of the field's formats, one module each; `open_source` picks the one that fits the content."""

from __future__ import annotations

from pathlib import Path

from slim_fast.data.cache import is_cache
from slim_fast.data.readers import agcn, clips_npz, frames_npz, ntu_raw, pyskl, train_test_npz
from slim_fast.data.readers.source import Options, Problem, Reader, Source
from slim_fast.errors import UserError

__all__ = ["READERS", "Options", "Problem", "Reader", "Source", "detect", "open_source"]

# the plain npz of clips takes every npz, so it comes last
READERS: tuple[Reader, ...] = (
    ntu_raw.READER,
    train_test_npz.READER,
    frames_npz.READER,
    pyskl.READER,
    agcn.READER,
    clips_npz.READER,
)


def detect(path: Path) -> Reader:
    """The reader whose format `path` has, judged by content. Raises UserError saying what was looked for."""
    if not path.exists():
        raise UserError(f"{path} does not exist")
    if is_cache(path):
        raise UserError(f"{path} is a clip cache already: nothing to convert")
    for reader in READERS:
        if reader.recognises(path):
            return reader
    raise UserError(
        f"{path} is nothing that can be read. Looked for: " + "; ".join(reader.looks_for for reader in READERS)
    )


def open_source(path: Path, options: Options | None = None) -> Source:
    """Open a data set of any known format for reading. Raises UserError."""
    return detect(path).read(path, options or Options())

"""Atomic writes: a file is written completely, or is as it was."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """A temporary sibling to write, flushed to disk and renamed to `path` at the end.

    It has the permissions of any new file of the user's, whatever the writer gave it.
    Raises: OSError, or what the body raises; `path` is then as it was and the temporary file is
    gone.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        with temporary.open("wb") as file:
            mode = os.fstat(file.fileno()).st_mode
        yield temporary
        with temporary.open("rb+") as file:
            if os.fstat(file.fileno()).st_mode != mode:
                temporary.chmod(mode & 0o777)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if hasattr(os, "O_DIRECTORY"):  # the rename itself must survive a power cut
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Call write(file) on a `replace_atomically`. Raises: as it does."""
    with replace_atomically(path) as temporary, temporary.open("wb") as file:
        write(file)


def encode_text(text: str) -> bytes:
    """UTF-8; what it lacks, such as bytes of a file's name in another encoding, as escapes."""
    return text.encode(errors="backslashreplace")

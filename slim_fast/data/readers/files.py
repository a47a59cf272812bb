"""Files of a data set that is a folder."""

import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from stat import S_ISREG
from typing import Any

import numpy as np

from slim_fast.data.readers.source import Problem
from slim_fast.errors import UserError
from slim_fast.reading import parse_json

MAX_FILE_BYTES, MAX_FRAMES = 256 << 20, 100_000  # of a recording
PEEKED = 20  # files whose content is looked at to recognise a format


def find_files(folder: Path, ending: str, problems: list[Problem] | None = None) -> Iterator[Path]:
    """Find the files below `folder` whose names end with `ending`, in capitals or not.

    Links to folders are followed, each folder once, so that circles of links end. Folders that
    cannot be read are added to `problems`.
    """

    def add_problem(error: OSError) -> None:
        if problems is not None:
            name = os.path.relpath(error.filename, folder)
            problems.append(Problem(name, f"a folder, unreadable ({error.strerror})"))

    searched = {os.path.realpath(folder)}
    for parent, folders, names in os.walk(folder, onerror=add_problem, followlinks=True):
        for name in sorted(folders):
            real = os.path.realpath(os.path.join(parent, name))
            if real in searched:
                folders.remove(name)
            searched.add(real)
        yield from (Path(parent, name) for name in names if name.lower().endswith(ending))


def list_files(
    path: Path,
    ending: str,
    problems: list[Problem],
    get_key: Callable[[Path], str | None] = str,
) -> dict[str, Path]:
    """Key -> file, for the file `path` or those below it whose names end with `ending`.

    Each file is there once: of a file and the links to it, the file's own name counts. A second
    file of a key is added to `problems`, a file of the key None is left out.
    """
    found = [path] if path.is_file() else list(find_files(path, ending, problems))
    real = {
        os.path.realpath(file): file
        for file in sorted(found, key=lambda file: (not file.is_symlink(), file))
    }
    files: dict[str, Path] = {}
    for file in sorted(real.values(), key=lambda file: (file.stem, file)):
        key = get_key(file)
        if key in files:
            problems.append(Problem(file.stem, "a second file of the same name"))
        elif key is not None:
            files[key] = file
    return files


def some_file(
    path: Path, ending: str, fits: Callable[[Path], bool], limit: int | None = None
) -> bool:
    """Whether `fits` holds for the file `path`, or for one of those below it with that ending.

    At most `limit` of those in a folder are tried. A file that cannot be read does not fit.
    """
    if path.is_file():
        return path.name.lower().endswith(ending) and _try(fits, path)
    return any(_try(fits, file) for file in islice(find_files(path, ending), limit))


def _try(fits: Callable[[Path], bool], file: Path) -> bool:
    try:
        return fits(file)
    except (OSError, UserError):
        return False


def read_bytes(file: Path) -> bytes:
    """The content of a regular file. Raises: OSError; UserError for a pipe or a huge file."""
    status = file.stat()
    if not S_ISREG(status.st_mode):
        raise UserError("no regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise UserError(f"larger than {MAX_FILE_BYTES >> 20} MB: cut it into shorter recordings")
    return file.read_bytes()


def read_text(file: Path) -> str:
    """The content of a text file, without a BOM. Raises: as `read_bytes`; UserError if no text."""
    try:
        return read_bytes(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError("no text") from error


def read_json(file: Path) -> Any:
    """The content of a JSON file. Raises: as `read_bytes`; UserError for other content."""
    content = read_bytes(file)
    if not content.strip():
        raise UserError("an empty file")
    try:
        return parse_json(content)
    except ValueError as error:
        raise UserError("no JSON, or cut short") from error


def read_table(file: Path, columns: int, delimiter: str | None = None) -> np.ndarray:
    """(T, columns) float64 of a text file with a row of numbers a line.

    Raises: as `read_bytes`; UserError for other content.
    """
    lines = [line for line in read_text(file).splitlines() if line.strip()]
    if not lines:
        raise UserError("an empty file")
    if len(lines) > MAX_FRAMES:
        raise UserError(f"more than {MAX_FRAMES} frames: cut it into shorter recordings")
    try:
        table = np.loadtxt(lines, delimiter=delimiter, ndmin=2, comments=None)
    except ValueError as error:
        raise UserError("no table of numbers, or cut short") from error
    if table.shape[1] != columns:
        raise UserError(f"{table.shape[1]} numbers a line instead of {columns}")
    return table


def to_array(values: Any, *shape: int | None) -> np.ndarray:
    """Nested lists of numbers and nulls as float64 of that shape, None for any size; null is NaN.

    Raises: UserError for other content.
    """
    try:
        array = np.array(values, np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise UserError("coordinates that are not numbers, or not the same for each") from error
    sizes = " x ".join("any" if size is None else str(size) for size in shape)
    if array.ndim != len(shape) or any(
        size not in (None, have) for size, have in zip(shape, array.shape, strict=True)
    ):
        raise UserError(f"coordinates of another shape than {sizes}")
    if len(array) > MAX_FRAMES:
        raise UserError(f"more than {MAX_FRAMES} frames: cut it into shorter recordings")
    return array

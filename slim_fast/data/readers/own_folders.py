"""Labels and splits of your own clips that are files in folders.

They are in labels.csv in the data set's folder: a table with a header, one row a clip, whose column
`name` is the clip's path below that folder, without the file's ending. Other columns are `label`,
`split`, `subject`, `camera`, `setup` or their synonyms (`columns.SYNONYMS`). Without the file, the
folders tell: [train/|test/]CLASS/CLIP.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from slim_fast.data.readers.columns import SYNONYMS
from slim_fast.data.readers.files import read_text
from slim_fast.data.readers.recordings import Recording
from slim_fast.data.readers.source import Problem, find_subset, resolve_subset
from slim_fast.errors import UserError

TABLE = "labels.csv"
COLUMNS = {
    "names": "name",
    "labels": "label",
    "split": "split",
    "subjects": "subject",
    "cameras": "camera",
    "setups": "setup",
}
Row = Mapping[str, str]  # column -> the table's text


@dataclass(frozen=True)
class OwnClips:
    """Recordings with their labels; `classes` is empty when labels are numbers."""

    recordings: list[Recording]
    classes: tuple[str, ...]


def describe_clips(
    root: Path, files: Mapping[str, tuple[Path, ...]], problems: list[Problem]
) -> OwnClips:
    """Find the labels and splits of clips.

    Args:
        root: the data set's folder.
        files: clip's name (its path below `root` with slashes, without the ending) -> its files.
        problems: rows of the table without a clip, and clips without a row, are added.

    Raises: UserError for a table that cannot be read.
    """
    table = root / TABLE
    rows = _read_rows(table) if table.is_file() else {name: _read_folders(name) for name in files}
    if table.is_file():
        unknown = [name for name in rows if name not in files]
        problems += [
            Problem(name, f"in {TABLE}, but no such clip is here", False) for name in unknown
        ]
        bare = [name for name in files if name not in rows]
        problems += [Problem(name, f"without a row in {TABLE}", False) for name in bare]
    words = {row["label"] for name, row in rows.items() if name in files and row.get("label")}
    are_numbers = table.is_file() and all(word.isascii() and word.isdecimal() for word in words)
    classes = () if are_numbers else tuple(sorted(words))
    kinds = {find_subset(row["split"]) for row in rows.values() if row.get("split")}
    recordings = []
    for name, own in files.items():
        row = rows.get(name, {})
        label = row.get("label") or ""
        number = -1 if not label else int(label) if are_numbers else classes.index(label)
        subset = row.get("split") and resolve_subset(find_subset(row["split"]), kinds)
        numbers = {
            column: _to_number(table, row, column) for column in ("subject", "camera", "setup")
        }
        split = {"default": subset} if subset else {}
        recordings.append(Recording(own, name, number, **numbers, split=split))
    return OwnClips(recordings, classes)


def _to_number(table: Path, row: Row, column: str) -> int:
    text = row.get(column) or "-1"
    try:
        return int(text)
    except ValueError as error:
        raise UserError(f"'{text}' in column {column} of {table} is no whole number") from error


def _read_folders(name: str) -> Row:
    folders = PurePosixPath(name).parts[:-1]
    subset = folders[0] if folders and find_subset(folders[0]) else ""
    rest = folders[1:] if subset else folders
    return {"label": rest[0] if rest else "", "split": subset}


def _read_rows(table: Path) -> dict[str, Row]:
    try:
        lines = list(csv.reader(read_text(table).splitlines()))
    except (OSError, UserError, csv.Error) as error:
        raise UserError(f"{table} cannot be read: {error}") from error
    header, *body = [[cell.strip() for cell in line] for line in lines if any(line)] or [[]]
    columns = [_find_column(word) for word in header]
    if "name" not in columns:
        raise UserError(
            f"{table} needs a header with a column 'name', and label, split, subject, camera or "
            "setup"
        )
    rows: dict[str, Row] = {}
    for number, line in enumerate(body, 2):
        if len(line) != len(columns):
            raise UserError(
                f"{table} has {len(line)} cells in row {number}, and {len(columns)} in the header"
            )
        row = {column: cell for column, cell in zip(columns, line, strict=True) if column}
        name = row["name"].replace("\\", "/").removeprefix("./")
        if name in rows:
            raise UserError(f"{table} has two rows for '{name}': remove one")
        if row.get("split") and not find_subset(row["split"]):
            raise UserError(
                f"'{row['split']}' in {table} is no subset of a split: name it train, val or test"
            )
        rows[name] = row
    return rows


def _find_column(word: str) -> str | None:
    return next((COLUMNS[column] for column in COLUMNS if word.lower() in SYNONYMS[column]), None)


def name_below(root: Path, file: Path) -> str:
    """The path of a file below `root`, with slashes and without its ending."""
    return file.relative_to(root).with_suffix("").as_posix()


def group_frames(
    root: Path, frames: Mapping[tuple[Path, str], Sequence[tuple[int, Path]]]
) -> dict[str, tuple[Path, ...]]:
    """Clip's name -> its files in the order of their numbers, for files of one frame each.

    Args:
        frames: (folder, what stands before the number in the files' names) -> (number, file).

    A folder is a clip when no folder has files of two kinds; else every kind is a clip.
    """
    folders = [folder for folder, _ in frames]
    folder_is_clip = len(set(folders)) == len(folders) and root not in folders
    clips: dict[str, tuple[Path, ...]] = {}
    for (folder, word), numbered in sorted(frames.items()):
        own = folder if folder_is_clip else folder / (word.strip(" _-.") or folder.name)
        name = own.relative_to(root).as_posix()
        if name in clips:  # a_1 and a-1
            name = (folder / word).relative_to(root).as_posix()
        clips[name] = tuple(file for _, file in sorted(numbered))
    return clips

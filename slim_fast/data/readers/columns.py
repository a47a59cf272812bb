"""Columns of an npz: members with one value a clip, under their usual names."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from slim_fast.data.readers.source import SUBSETS, find_subset, resolve_subset
from slim_fast.data.readers.stream import ArrayStream
from slim_fast.errors import UserError, suggest

SYNONYMS = {
    "labels": ("labels", "label", "y", "targets", "target", "classes", "class"),
    "subjects": ("subjects", "subject", "performers", "performer"),
    "cameras": ("cameras", "camera", "views", "view"),
    "setups": ("setups", "setup"),
    "split": ("split", "splits", "sets", "set"),
    "names": ("names", "name", "ids", "id"),
    "starts": ("starts", "start"),
    "lengths": ("lengths", "length", "frames", "num_frames", "total_frames"),
}
TEXT_COLUMNS = {"split", "names"}  # the others hold whole numbers; labels may be either


class Columns:
    """The columns of an npz of `count` clips; `found` is the result of `find_columns`."""

    def __init__(self, path: Path, count: int, found: Mapping[str, str]) -> None:
        self.path, self.count, self.found = path, count, found

    def __getitem__(self, name: str) -> np.ndarray | None:
        """(count,) values of a column, None without. Raises: UserError for other shapes, types."""
        if name not in self.found:
            return None
        values = convert_to_integers(
            decode_text(ArrayStream(self.path, self.found[name]).read_all())
        )
        kinds = "U" if name in TEXT_COLUMNS else "iuU" if name == "labels" else "iu"
        if values.shape != (self.count,) or values.dtype.kind not in kinds:
            raise UserError(
                f"'{self.found[name]}' in {self.path} has shape {values.shape} and type "
                f"{values.dtype}; one {'word' if kinds == 'U' else 'whole number'} for each of "
                f"the {self.count} clips is needed"
            )
        if name == "lengths" and values.min(initial=0) < 0:
            raise UserError(f"'{self.found[name]}' in {self.path} has negative numbers")
        return values

    def integers(self, name: str) -> np.ndarray:
        """(count,) int64 of a column of whole numbers, -1 without it. Raises: as `[]`."""
        values = self[name]
        return np.full(self.count, -1) if values is None else values.astype(np.int64)

    def splits(self, name: str) -> list[dict[str, str]]:
        """`Clip.split` of every clip, for one split called `name`; {} without a subset.

        Raises: as `[]`, and UserError for words that are no subset.
        """
        words = self["split"]
        if words is None:
            return [{}] * self.count
        kinds = {word: find_subset(word) for word in map(str, np.unique(words))}
        if unknown := [word for word in kinds if word and kinds[word] is None]:
            raise UserError(
                f"'{unknown[0]}' in '{self.found['split']}' of {self.path} is no subset of a split"
                f"{suggest(unknown[0], SUBSETS)}: name it train, val or test"
            )
        subsets = {word: resolve_subset(kind, kinds.values()) for word, kind in kinds.items()}
        return [{name: subset} if (subset := subsets[str(word)]) else {} for word in words]


def find_columns(path: Path, members: Sequence[str]) -> dict[str, str]:
    """Column of SYNONYMS -> its member, in any case. Raises: UserError where two are the same."""
    found: dict[str, str] = {}
    for column, names in SYNONYMS.items():
        matching = [member for member in members if member.lower() in names]
        if len(matching) > 1:
            raise UserError(
                f"'{matching[0]}' and '{matching[1]}' in {path} mean the same: remove one of them"
            )
        if matching:
            found[column] = matching[0]
    return found


def decode_text(values: np.ndarray) -> np.ndarray:
    """Decode an array of bytes; other arrays stay as they are."""
    if values.dtype.kind != "S":
        return values
    try:
        return np.char.decode(values, "utf-8")
    except UnicodeDecodeError:
        return np.char.decode(values, "latin-1")


def convert_to_integers(values: np.ndarray) -> np.ndarray:
    """Convert whole numbers of any type to int64; arrays with other values stay as they are."""
    if values.dtype.kind not in "fu":
        return values
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int64)
    return whole if (whole == values).all() else values


def encode_labels(values: np.ndarray | None, count: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """(count,) labels and the class names of a column of whole numbers or words; -1 without it."""
    if values is None:
        return np.full(count, -1), ()
    if values.dtype.kind == "U":
        classes, labels = np.unique(values, return_inverse=True)
        return labels, tuple(classes.tolist())
    return values.astype(np.int64), ()


def warn_of_ignored(path: Path, members: Sequence[str], known: Sequence[str | None]) -> list[str]:
    """A warning that names the members of an npz that the reader does not know."""
    unknown = [member for member in members if member not in known]
    if not unknown:
        return []
    names = ", ".join(names[0] for names in SYNONYMS.values())
    return [f"{path} has {', '.join(unknown)}, which was ignored (known columns are {names})"]

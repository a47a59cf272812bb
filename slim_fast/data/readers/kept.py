"""What a conversion has read, kept on disk until the conversion is complete.

A batch is an npz: the positions of its clips, and a JSON text of the rest. Batches lie in a folder
that is named after the fingerprint of the data set's files, so that changed files are read again.
"""

import json
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from slim_fast.data.clips import Clip
from slim_fast.data.readers.source import Problem
from slim_fast.data.readers.stream import is_valid_text
from slim_fast.reading import parse_json
from slim_fast.writing import write_atomically

FINGERPRINT = re.compile("[0-9a-f]{32}")
FACTS = ("name", "label", "subject", "camera", "setup", "split")


class KeptBatches:
    """The batches with this fingerprint in `folder`; those with another one are deleted."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder = folder / fingerprint[:32]
        forget_batches(folder, but=self._folder)

    def path(self, number: int) -> Path:
        """Where batch `number` is kept."""
        return self._folder / f"{number:06d}.npz"

    def load(self, number: int) -> list[Clip | Problem] | None:
        """The content of batch `number`; None when it is not there, or damaged."""
        try:
            with np.load(self.path(number), allow_pickle=False) as archive:
                if not is_valid_text(archive["items"]):
                    return None
                items: list[dict[str, Any]] = parse_json(str(archive["items"]))
                return [
                    Problem(**item)
                    if "reason" in item
                    else Clip(positions=archive[f"positions{i}"], **item)
                    for i, item in enumerate(items)
                ]
        except Exception:  # after a power cut anything may be wrong; then it is read again
            return None


def forget_batches(folder: Path, but: Path | None = None) -> None:
    """Delete what is kept in `folder`, and the folder when nothing else is in it."""
    with suppress(OSError):
        for one in folder.iterdir():
            if one != but and FINGERPRINT.fullmatch(one.name):
                shutil.rmtree(one, ignore_errors=True)
        folder.rmdir()


def write_batch(path: Path, results: list[Clip | Problem]) -> None:
    """Keep a batch, where there is room for it."""
    items: list[dict[str, Any]] = []
    arrays: dict[str, Any] = {}
    for i, result in enumerate(results):
        if isinstance(result, Clip):
            items.append({name: getattr(result, name) for name in FACTS})
            items[-1]["split"] = dict(result.split)
            arrays[f"positions{i}"] = result.positions
        else:
            items.append(result._asdict())
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: np.savez(file, items=json.dumps(items), **arrays))

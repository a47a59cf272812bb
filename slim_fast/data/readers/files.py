"""Files of a data set that is a folder."""

import os
from collections.abc import Iterator
from pathlib import Path

from slim_fast.data.readers.source import Problem


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

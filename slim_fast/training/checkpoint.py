"""Checkpoints that are whole or not there."""

import os
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch

from slim_fast.errors import UserError

CONTENT = {"model", "optimizer", "step", "seconds", "clips"}
_NAME = re.compile(r"step-(\d{8,})\.pt")


def write_atomically(path: Path, write: Any) -> None:
    """Call write(file) on a temporary sibling, flush it to disk, then rename it to `path`.

    Raises: OSError (or what `write` raises); `path` is then as it was and the temporary file is gone.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):  # the rename itself must survive a power cut
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class Checkpoints:
    """The last few checkpoints in a folder, one file a step."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def files(self) -> list[Path]:
        """Checkpoint files, oldest first."""
        return sorted(f for f in self.folder.glob("step-*.pt") if _NAME.fullmatch(f.name))

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}.pt"

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write `state`; drop the oldest beyond `keep`, and any of a later step (they were damaged).

        Raises: UserError when it cannot be written (a full disk); the earlier checkpoints stay.
        """
        path = self.path(step)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, lambda file: torch.save(state, file))
        except (OSError, RuntimeError) as error:
            last = self.files()
            kept = f"the last good one is {last[-1]}" if last else "there is no earlier one"
            raise UserError(
                f"Could not write the checkpoint {path} ({error}); {kept}. Make room and give the same command again."
            ) from error
        files = self.files()
        place = files.index(path) + 1
        for old in files[: max(0, place - self.keep)] + files[place:]:
            old.unlink()
        return path

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The newest checkpoint that can be read, None when there is none. Never executes code from the file.

        A damaged file is named on stderr and passed over.
        Raises: UserError when there are checkpoints but none can be read.
        """
        files = self.files()
        for path in reversed(files):
            try:
                with zipfile.ZipFile(path) as archive:
                    wrong = archive.testzip()  # torch.load reads past wrong checksums
                if wrong is not None:
                    raise ValueError(f"{wrong} has a wrong checksum")
                state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
                missing = CONTENT - state.keys()
                if missing:
                    raise ValueError(f"{', '.join(sorted(missing))} missing")
                return state
            except Exception as error:  # torch.load raises nearly anything on a damaged file
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                print(f"{path} is damaged ({reason[:120]}); trying the one before.", file=sys.stderr)
        if files:
            raise UserError(f"No checkpoint in {self.folder} can be read; choose another --out to start anew.")
        return None

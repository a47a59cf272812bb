"""Checkpoints, each written whole or not at all."""

import os
import re
import sys
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch

from slim_fast.errors import UserError, describe_os_error
from slim_fast.writing import write_atomically

CONTENT = {"model", "optimizer", "step", "seconds", "clips"}
_NAME = re.compile(r"step-(\d{8,})\.pt")


class Checkpoints:
    """The last few checkpoints in a folder, one file a step."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def files(self) -> list[Path]:
        """Checkpoint files, oldest first. Raises: OSError when the folder must not be read."""
        try:
            return sorted(
                self.folder / name for name in os.listdir(self.folder) if _NAME.fullmatch(name)
            )
        except (FileNotFoundError, NotADirectoryError):
            return []

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}.pt"

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write `state`; drop the oldest beyond `keep`, and later ones, which were damaged.

        Raises: UserError when it cannot be written (a full disk); the earlier checkpoints stay.
        """
        path = self.path(step)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # of a process that was killed while it wrote
            for left in self.folder.glob(".step-*.part.pt"):
                left.unlink()
            write_atomically(path, lambda file: torch.save(state, file))
        except (OSError, RuntimeError) as error:
            last = self.files()
            why = str(error).split("\n")[0]
            if isinstance(error, OSError):
                why = describe_os_error(error)
            remaining = f"the last good one is {last[-1]}" if last else "there is no earlier one"
            raise UserError(
                f"Could not write the checkpoint {path} ({why}); {remaining}. Free space or mend "
                "that, and give the same command again."
            ) from error
        files = self.files()
        index = files.index(path) + 1
        for old in files[: max(0, index - self.keep)] + files[index:]:
            with suppress(OSError):  # somebody reads it, on Windows; the next one drops it
                old.unlink()
        return path

    def load(self, device: torch.device | str) -> dict[str, Any] | None:
        """The newest readable checkpoint, None without any; never executes code from the file.

        A damaged file is named on stderr and passed over. The run may write and drop checkpoints
        meanwhile.
        Raises: UserError when there are checkpoints but none can be read; OSError where one must
        not be.
        """
        files = self.files()
        while files:
            path = files.pop()
            try:
                with path.open("rb") as file:
                    return _read(file, device)
            except FileNotFoundError:  # dropped after a newer one was written
                files = self.files()
            except PermissionError:
                raise
            except Exception as error:  # torch.load raises nearly anything on a damaged file
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                print(
                    f"{path} is damaged ({reason[:120]}); trying the one before.", file=sys.stderr
                )
        if self.files():
            raise UserError(
                f"No checkpoint in {self.folder} can be read; choose another --out to start anew."
            )
        return None


def _read(file: BinaryIO, device: torch.device | str) -> dict[str, Any]:
    with zipfile.ZipFile(file) as archive:
        wrong = archive.testzip()  # torch.load reads past wrong checksums
    if wrong is not None:
        raise ValueError(f"{wrong} has a wrong checksum")
    file.seek(0)
    state: dict[str, Any] = torch.load(file, map_location=device, weights_only=True)
    if missing := CONTENT - state.keys():
        raise ValueError(f"{', '.join(sorted(missing))} missing")
    if not isinstance(state["step"], int):
        raise ValueError("step is no number")
    return state

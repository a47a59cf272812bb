"""One process at a time in a run folder."""

import json
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from slim_fast.errors import UserError
from slim_fast.reading import parse_json

NAME = "lock"
_TRIES = 20  # at a file that its holder removes meanwhile
_SETTLING_SECONDS = 0.5  # without the system's locks: whoever wrote last holds
_LOCKED_BYTE = 1 << 30  # Windows keeps others from reading the bytes that are locked
_open_files: set[int] = set()

if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> bool | None:
        """Whether the system's lock on an open file is ours now; None: it has none here."""
        os.lseek(file, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _lock(file: int) -> bool | None:
        """Whether the system's lock on an open file is ours now; None: it has none here."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return None
        return True


def _close_in_child() -> None:
    for file in _open_files:
        os.close(file)  # the parent's lock stays; it would outlive the parent in this copy
    _open_files.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


class RunLock:
    """Context manager that reserves a folder for this process, named in its file `lock`.

    The system's own lock on that file ends with the process, however it ends, so a file that it
    left is taken over, with a word. Only what another computer left has to be deleted by hand: its
    locks may not be seen from here. Without locks of the system, the name in the file and whether
    that process is alive must do.
    Raises: UserError, naming the process, when the folder is another's; OSError when it cannot be
    written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._file, self._process = -1, 0

    def __enter__(self) -> "RunLock":
        for _ in range(_TRIES):
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                ours = _lock(file)
                if ours is not False and not _is_at(file, self.path):
                    continue  # its holder removed it meanwhile
                holder = _read(file)
                if ours is False or (holder and not _has_ended(holder, bool(ours))):
                    raise UserError(self._refusal(holder))
                me = _describe_process()
                _write(file, me)
                if not ours:
                    time.sleep(_SETTLING_SECONDS)
                    if (winner := _read(file)) != me:
                        raise UserError(self._refusal(winner))
                self._file, self._process = file, os.getpid()
                _open_files.add(file)
            finally:
                if self._file != file:
                    os.close(file)
            if holder:
                print(
                    f"Taking over from {_describe(holder)}, which has ended.",
                    file=sys.stderr,
                )
            return self
        raise UserError(self._refusal({}))

    def __exit__(self, *_: object) -> None:
        file, self._file = self._file, -1
        if os.getpid() != self._process:
            return  # a forked copy, which holds nothing
        _open_files.discard(file)
        with suppress(OSError):
            mine = _is_at(file, self.path)
            os.ftruncate(file, 0)
            if mine and sys.platform != "win32":
                self.path.unlink()  # before the lock ends: afterwards it may be another's
        os.close(file)
        if sys.platform == "win32":
            with suppress(OSError):
                self.path.unlink()

    def _refusal(self, holder: dict[str, Any]) -> str:
        away = holder.get("host") != socket.gethostname()
        remedy = f"if it has ended, delete {self.path}; " if holder and away else ""
        return (
            f"{self.path.parent} is in use by {_describe(holder)}; {remedy}wait for it, stop it, "
            "or choose another --out."
        )


def _describe_process() -> dict[str, Any]:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "boot": _boot_id(),
        "since": since,
    }


def _boot_id() -> str:
    """The id of the kernel's current boot, whose locks are shared; Linux only."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _describe(holder: dict[str, Any]) -> str:
    if not holder:
        return "another process"
    return f"process {holder.get('process')} on {holder.get('host')} (since {holder.get('since')})"


def _has_ended(holder: dict[str, Any], locked: bool) -> bool:
    """Whether the process in a lock file has ended. locked: this one has the system's lock."""
    here = holder.get("host") == socket.gethostname()
    boots = {holder.get("boot"), _boot_id()}
    if locked:  # containers share a kernel and its locks under names of their own
        return here or (len(boots) == 1 and any(boots))
    restarted = len(boots) == 2 and all(boots)
    return here and (restarted or not _is_alive(holder.get("process")))


def _is_alive(process: Any) -> bool:
    # there, asking would end it
    if not isinstance(process, int) or process < 1 or sys.platform == "win32":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _read(file: int) -> dict[str, Any]:
    """What a lock file says; nothing where it was left empty or half-written."""
    os.lseek(file, 0, os.SEEK_SET)
    try:
        holder = parse_json(os.read(file, 4096))
    except ValueError:
        return {}
    fields = holder.items() if isinstance(holder, dict) else ()
    return {name: value for name, value in fields if isinstance(value, str | int)}


def _write(file: int, holder: dict[str, Any]) -> None:
    os.lseek(file, 0, os.SEEK_SET)
    os.ftruncate(file, 0)
    os.write(file, json.dumps(holder).encode())

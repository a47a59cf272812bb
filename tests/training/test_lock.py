"""One process at a time in a run folder, whatever became of the one before."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slim_fast.errors import UserError
from slim_fast.training import lock
from slim_fast.training.lock import RunLock

HERE = socket.gethostname()


def left(folder: Path, **changes: Any) -> Path:
    """A lock file as a process that is gone left it."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    fields = {
        "host": HERE,
        "process": ended.pid,
        "boot": lock._boot_id(),
        "since": "yesterday",
        **changes,
    }
    path = folder / "lock"
    path.write_text(json.dumps(fields))
    return path


def wait_for(file: Path) -> None:
    limit = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < limit
        time.sleep(0.005)


@pytest.fixture
def no_system_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_lock", lambda file: None)
    monkeypatch.setattr(lock, "_SETTLING_SECONDS", 0.0)


def test_another_process_is_named_and_its_run_let_alone(
    start: Callable[..., "subprocess.Popen[str]"],
    run: Callable[..., int],
    refused: Callable[..., str],
    tmp_path: Path,
    uninterrupted: dict[str, Any],
    outcome: Callable[[Path], dict[str, Any]],
    same: Callable[[Any, Any], bool],
) -> None:
    process = start(hold=4)
    wait_for(tmp_path / "holding")
    for changes in ({}, {"steps": 12}, {"batch": 2}):
        sentence = refused(**changes)
        assert f"{tmp_path / 'run'} is in use by process {process.pid} on {HERE}" in sentence
        assert "--out" in sentence
    (tmp_path / "go").touch()
    assert process.wait(60) == 0
    assert same(outcome(tmp_path / "run"), uninterrupted)
    assert not (tmp_path / "run" / "lock").exists()


def test_killed_one_is_taken_over_with_a_word(
    start: Callable[..., "subprocess.Popen[str]"],
    run: Callable[..., int],
    tmp_path: Path,
    uninterrupted: dict[str, Any],
    outcome: Callable[[Path], dict[str, Any]],
    same: Callable[[Any, Any], bool],
    capsys: pytest.CaptureFixture[str],
) -> None:
    process = start(hold=4)
    wait_for(tmp_path / "holding")
    os.kill(process.pid, signal.SIGKILL)
    process.wait(60)
    assert run() == 0
    said = capsys.readouterr().err.splitlines()[0]
    assert said.startswith(f"Taking over from process {process.pid} on {HERE}")
    assert same(outcome(tmp_path / "run"), uninterrupted)


def test_two_that_start_together(
    start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    both = [start(hold=0), start(hold=0)]
    wait_for(tmp_path / "holding")
    limit = time.monotonic() + 60
    while all(process.poll() is None for process in both):
        assert time.monotonic() < limit
        time.sleep(0.01)
    (tmp_path / "go").touch()
    winner, loser = sorted(both, key=lambda process: process.wait(60))
    assert (winner.returncode, loser.returncode) == (0, 2)
    assert f"process {winner.pid}" in loser.communicate()[1]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"host": "a',
        b"[1]",
        b"\xff\xfe",
        b'{"host": 5, "process": "x"}'[:-1],
        b'{"boot": [1]}',
        b"[" * 3000,
    ],
)
def test_half_written_one_is_taken_over(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lock").write_bytes(content)
    with RunLock(tmp_path):
        holder = json.loads((tmp_path / "lock").read_text())
        assert (holder["host"], holder["process"]) == (HERE, os.getpid())
        with pytest.raises(UserError, match=f"process {os.getpid()} on"), RunLock(tmp_path):
            pass
    assert not (tmp_path / "lock").exists()
    assert capsys.readouterr().err == ""


def test_other_computers_have_to_be_asked(tmp_path: Path) -> None:
    path = left(tmp_path, host="elsewhere", boot="another")
    before = path.read_text()
    with pytest.raises(
        UserError, match=rf"on elsewhere .*; if it has ended, delete {path}; .*--out"
    ):
        RunLock(tmp_path).__enter__()
    assert path.read_text() == before
    path.unlink()
    with RunLock(tmp_path):
        pass


def test_container_of_another_name_under_the_same_kernel(tmp_path: Path) -> None:
    if not lock._boot_id():
        pytest.skip("this system does not name its boot")
    left(tmp_path, host="elsewhere", process=os.getpid())
    with RunLock(tmp_path):
        pass


def test_this_computer_before_it_was_restarted(tmp_path: Path) -> None:
    left(tmp_path, process=os.getpid(), boot="earlier")
    with RunLock(tmp_path):
        pass


@pytest.mark.usefixtures("no_system_locks")
def test_names_alone_must_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left(tmp_path)
    with RunLock(tmp_path), pytest.raises(UserError, match=f"process {os.getpid()} on"):
        RunLock(tmp_path).__enter__()
    assert not (tmp_path / "lock").exists()
    if lock._boot_id():
        left(tmp_path, process=os.getpid(), boot="earlier")
        with RunLock(tmp_path):
            pass
    # perhaps a container under this kernel: its processes cannot be seen
    left(tmp_path, host="elsewhere")
    with pytest.raises(UserError, match="on elsewhere"):
        RunLock(tmp_path).__enter__()
    (tmp_path / "lock").unlink()
    # started at the same moment
    monkeypatch.setattr(time, "sleep", lambda _: left(tmp_path, process=123))
    with pytest.raises(UserError, match="process 123"):
        RunLock(tmp_path).__enter__()


def test_forked_child_neither_keeps_nor_frees_it(tmp_path: Path) -> None:
    program = f"""
import os, time
from pathlib import Path
from slim_fast.training.lock import RunLock
folder = Path({str(tmp_path)!r})
with RunLock(folder):
    if os.fork() == 0:
        raise SystemExit
    assert os.wait()[1] == 0
    assert (folder / "lock").exists()
    child = os.fork()
    if child == 0:
        (folder / "child").write_text(str(os.getpid()))
        time.sleep(60)
    while not (folder / "child").exists() or not (folder / "child").read_text():
        time.sleep(0.01)
    os._exit(0)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    try:
        with RunLock(tmp_path):
            pass
    finally:
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def test_deleted_and_taken_meanwhile(tmp_path: Path) -> None:
    first = RunLock(tmp_path)
    first.__enter__()
    (tmp_path / "lock").unlink()  # by hand
    with RunLock(tmp_path):
        first.__exit__()
        assert (tmp_path / "lock").exists()


def test_folder_that_cannot_be_locked(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "run" / "lock").mkdir(parents=True)
    assert f"{tmp_path / 'run' / 'lock'}: Is a directory" in refused()

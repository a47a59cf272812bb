"""Checkpoints are whole or not there, and never executed."""

import errno
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from slim_fast.errors import UserError
from slim_fast.training.checkpoint import CONTENT, Checkpoints, write_atomically

CPU = torch.device("cpu")


def state(value: float) -> dict[str, Any]:
    return {**dict.fromkeys(CONTENT), "model": {"weight": torch.full((50, 50), value)}, "step": int(value)}


def names(checkpoints: Checkpoints) -> list[int]:
    return [int(file.stem.removeprefix("step-")) for file in checkpoints.files()]


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Files opened from now on take so many bytes and no more."""

    def fill(room: int) -> None:
        opened = Path.open

        def open_(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            return Cramped(self, mode, room) if "w" in mode else opened(self, mode, *arguments, **options)

        monkeypatch.setattr(Path, "open", open_)

    return fill


class Cramped(io.FileIO):
    """A file on a disk with little room."""

    def __init__(self, path: Path, mode: str, room: int) -> None:
        super().__init__(path, mode.replace("b", ""))
        self.room = room

    def write(self, data: Any) -> int:
        self.room -= memoryview(data).nbytes
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_last_few_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c", keep=3)
    assert checkpoints.load(CPU) is None
    for step in range(1, 6):
        assert checkpoints.save(step, state(step)) == tmp_path / "c" / f"step-{step:08d}.pt"
        assert names(checkpoints) == list(range(max(1, step - 2), step + 1))
    loaded = checkpoints.load(CPU)
    assert loaded is not None
    assert torch.equal(loaded["model"]["weight"], torch.full((50, 50), 5.0))


def test_other_files_are_let_alone(tmp_path: Path) -> None:
    (tmp_path / "step-best.pt").write_text("mine")
    checkpoints = Checkpoints(tmp_path, keep=1)
    for step in (1, 2):
        checkpoints.save(step, state(step))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["step-00000002.pt", "step-best.pt"]


def test_write_is_all_or_nothing(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_atomically(file, lambda opened: opened.write(b"first"))

    def interrupted(opened: Any) -> None:
        opened.write(b"sec")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(file, interrupted)
    assert file.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [file]


def test_bytes_reach_the_disk_before_the_name_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happened = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (happened.append("fsync"), fsync(number))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (happened.append("rename"), replace(a, b))[1])
    write_atomically(tmp_path / "file", lambda opened: opened.write(b"x"))
    assert happened[:2] == ["fsync", "rename"]


@pytest.mark.parametrize("room", [0, 200, 5000])
def test_full_disk_leaves_the_earlier_ones(tmp_path: Path, full_disk: Callable[[int], None], room: int) -> None:
    checkpoints = Checkpoints(tmp_path / "c", keep=1)
    checkpoints.save(1, state(1))
    full_disk(room)
    with pytest.raises(UserError) as raised:
        checkpoints.save(2, state(2))
    sentence = str(raised.value)
    assert "\n" not in sentence
    assert f"the last good one is {tmp_path / 'c' / 'step-00000001.pt'}" in sentence
    assert [file.name for file in (tmp_path / "c").iterdir()] == ["step-00000001.pt"]
    loaded = checkpoints.load(CPU)
    assert loaded is not None
    assert loaded["step"] == 1


def test_full_disk_at_the_first_one(tmp_path: Path, full_disk: Callable[[int], None]) -> None:
    full_disk(100)
    with pytest.raises(UserError, match="there is no earlier one"):
        Checkpoints(tmp_path / "c", keep=1).save(1, state(1))
    assert not list((tmp_path / "c").iterdir())


def test_file_size_limit_in_a_process(
    start: Callable[..., Any],
    run: Callable[..., int],
    tmp_path: Path,
    uninterrupted: dict[str, Any],
    outcome: Callable[[Path], dict[str, Any]],
    same: Callable[[Any, Any], bool],
) -> None:
    """The kernel itself refuses to write the third checkpoint; with room again the run goes on as if nothing was."""
    code = """
import resource
from slim_fast.training.checkpoint import Checkpoints
save = Checkpoints.save
def limited(self, step, state):
    if step > 4:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    return save(self, step, state)
Checkpoints.save = limited
"""
    process = start(code)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert "Traceback" not in error
    folder = tmp_path / "run" / "checkpoints"
    assert error.splitlines()[-1].startswith(f"error: Could not write the checkpoint {folder / 'step-00000006.pt'}")
    assert f"the last good one is {folder / 'step-00000004.pt'}" in error.splitlines()[-1]
    assert sorted(file.name for file in folder.iterdir()) == ["step-00000002.pt", "step-00000004.pt"]
    assert run() == 0
    assert same(outcome(tmp_path / "run"), uninterrupted)


def test_disk_full_for_everything_else(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("slim_fast.training.monitor.Monitor.write", write)
    assert "No space left on device" in refused()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        weights = archive.read(largest)
    content = bytearray(file.read_bytes())
    content[content.index(weights) + len(weights) // 2] ^= 0x40
    file.write_bytes(content)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def other(file: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, file)


@pytest.mark.parametrize("damage", [cut, flip, empty, other])
def test_damaged_one_is_passed_over(
    damage: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=5)
    for step in (1, 2, 3):
        checkpoints.save(step, state(step))
    damage(checkpoints.path(3))
    loaded = checkpoints.load(CPU)
    assert loaded is not None
    assert loaded["step"] == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{checkpoints.path(3)} is damaged (")
    assert len(said.splitlines()) == 1
    damage(checkpoints.path(2))
    damage(checkpoints.path(1))
    with pytest.raises(UserError, match=r"No checkpoint in .* can be read; choose another --out"):
        checkpoints.load(CPU)


@pytest.mark.parametrize("keep", [1, 2])
def test_new_ones_outlive_a_damaged_later_one(tmp_path: Path, keep: int) -> None:
    """A run that goes on before a damaged checkpoint must not count it among the ones to keep."""
    checkpoints = Checkpoints(tmp_path, keep)
    for step in (10, 20, 30):
        checkpoints.save(step, state(step))
    cut(checkpoints.path(30))
    checkpoints.save(25, state(25))  # stopped on the way
    assert names(checkpoints) == [20, 25][-keep:]
    loaded = checkpoints.load(CPU)
    assert loaded is not None
    assert loaded["step"] == 25


def test_run_goes_on_from_the_one_before(
    unfinished: Path,
    run: Callable[..., int],
    uninterrupted: dict[str, Any],
    outcome: Callable[[Path], dict[str, Any]],
    same: Callable[[Any, Any], bool],
    capsys: pytest.CaptureFixture[str],
) -> None:
    cut(unfinished / "checkpoints" / "step-00000008.pt")
    assert run() == 0
    printed = capsys.readouterr()
    assert "step-00000008.pt is damaged" in printed.err
    assert "Resuming at step 6 of 8." in printed.out
    assert same(outcome(unfinished), uninterrupted)


def test_run_without_a_readable_one(
    unfinished: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = unfinished / "checkpoints"
    for file in folder.iterdir():
        cut(file)
    assert run() == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == f"error: No checkpoint in {folder} can be read; choose another --out to start anew."


class Malicious:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.proof),)


def test_code_in_a_checkpoint_is_not_executed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints = Checkpoints(tmp_path / "c", keep=5)
    checkpoints.save(1, state(1))
    torch.save({**state(2), "model": Malicious(tmp_path / "proof")}, checkpoints.path(2))
    torch.save(
        {**state(3), "extra": Malicious(tmp_path / "proof")}, checkpoints.path(3), _use_new_zipfile_serialization=False
    )
    loaded = checkpoints.load(CPU)
    assert loaded is not None
    assert loaded["step"] == 1
    assert capsys.readouterr().err.count("is damaged") == 2
    assert not (tmp_path / "proof").exists()
    with pytest.raises(FileNotFoundError):  # the trap does work
        (tmp_path / "proof").rmdir()
    torch.load(checkpoints.path(2), weights_only=False)
    assert (tmp_path / "proof").exists()

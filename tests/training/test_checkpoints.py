"""Checkpoints are whole or not there, and never executed."""

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from slim_fast import SLiMClassifier
from slim_fast.data.cache import ClipCache
from slim_fast.errors import UserError
from slim_fast.training.checkpoint import CONTENT, Checkpoints
from slim_fast.writing import write_atomically

CPU = torch.device("cpu")


def state(value: float) -> dict[str, Any]:
    return {
        **dict.fromkeys(CONTENT),
        "model": {"weight": torch.full((50, 50), value)},
        "step": int(value),
    }


def names(checkpoints: Checkpoints) -> list[int]:
    return [int(file.stem.removeprefix("step-")) for file in checkpoints.files()]


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Files opened from now on take so many bytes and no more."""

    def fill(room: int) -> None:
        opened = Path.open

        def open_(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            return (
                Cramped(self, mode, room)
                if "w" in mode
                else opened(self, mode, *arguments, **options)
            )

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


def test_bytes_reach_the_disk_before_the_name_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (happened.append("fsync"), fsync(number))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (happened.append("rename"), replace(a, b))[1])
    write_atomically(tmp_path / "file", lambda opened: opened.write(b"x"))
    assert happened[:2] == ["fsync", "rename"]


@pytest.mark.parametrize("room", [0, 200, 5000])
def test_full_disk_leaves_the_earlier_ones(
    tmp_path: Path, full_disk: Callable[[int], None], room: int
) -> None:
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
    """The kernel itself refuses to write the third checkpoint; with room again the run goes on as
    if nothing was.
    """
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
    assert error.splitlines()[-1].startswith(
        f"error: Could not write the checkpoint {folder / 'step-00000006.pt'}"
    )
    assert f"the last good one is {folder / 'step-00000004.pt'}" in error.splitlines()[-1]
    assert sorted(file.name for file in folder.iterdir()) == [
        "step-00000002.pt",
        "step-00000004.pt",
    ]
    assert run() == 0
    assert same(outcome(tmp_path / "run"), uninterrupted)


def test_disk_full_for_everything_else(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("slim_fast.training.monitor.Monitor.write", write)
    assert "No space left on device" in refused()


@pytest.mark.parametrize(
    ("minutes", "steps"), [(1e-9, list(range(1, 9))), (0, [2, 4, 6, 8]), (15, [2, 4, 6, 8])]
)
def test_clock_writes_them_too_and_changes_nothing(
    minutes: float,
    steps: list[int],
    run: Callable[..., int],
    tmp_path: Path,
    uninterrupted: dict[str, Any],
    outcome: Callable[[Path], dict[str, Any]],
    same: Callable[[Any, Any], bool],
) -> None:
    assert run(log__checkpoint_minutes=minutes) == 0
    assert names(Checkpoints(tmp_path / "run" / "checkpoints", 8)) == steps
    assert same(outcome(tmp_path / "run"), uninterrupted)


def test_one_that_vanishes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run goes on beside the reader and keeps one: after the list was made, what it names is
    gone.
    """
    checkpoints = Checkpoints(tmp_path / "c", keep=1)
    checkpoints.save(1, state(1))
    opened = Path.open

    def slow(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.name == "step-00000001.pt":
            monkeypatch.undo()
            checkpoints.save(2, state(2))
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", slow)
    loaded = Checkpoints(tmp_path / "c", keep=1).load(CPU)
    assert loaded is not None
    assert loaded["step"] == 2


@pytest.mark.parametrize("closed", ["step-00000008.pt", "checkpoints"])
def test_one_that_must_not_be_read_is_not_damaged(
    closed: str,
    unfinished: Path,
    refused: Callable[..., str],
    must_not_be_read: Callable[[str], None],
) -> None:
    """Nor is a folder that must not be read empty: nothing is begun anew."""
    must_not_be_read(closed)
    sentence = refused(log__keep=1)
    assert f"{closed}: Permission denied" in sentence
    assert "damaged" not in sentence
    assert len(os.listdir(os.fsencode(unfinished / "checkpoints"))) == 4


def test_a_runs_encoder_knows_the_classes_of_its_recordings(
    finished: Path, cache_path: Path
) -> None:
    classes = ClipCache.open(cache_path).classes
    with pytest.warns(
        UserWarning, match=f"that of {len(classes)} classes, those of its recordings, is new"
    ):
        classifier = SLiMClassifier.from_pretrained(finished)
    assert classifier.class_names == tuple(classes)

"""Damaged checkpoints are passed over, malicious ones execute nothing."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from slim_fast.errors import UserError
from slim_fast.training.checkpoint import CONTENT, Checkpoints

CPU = torch.device("cpu")


def state(value: float) -> dict[str, Any]:
    return {
        **dict.fromkeys(CONTENT),
        "model": {"weight": torch.full((50, 50), value)},
        "step": int(value),
    }


def names(checkpoints: Checkpoints) -> list[int]:
    return [int(file.stem.removeprefix("step-")) for file in checkpoints.files()]


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
    assert (
        said[-1]
        == f"error: No checkpoint in {folder} can be read; choose another --out to start anew."
    )


class Malicious:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.proof),)


def test_code_in_a_checkpoint_is_not_executed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = Checkpoints(tmp_path / "c", keep=5)
    checkpoints.save(1, state(1))
    torch.save({**state(2), "model": Malicious(tmp_path / "proof")}, checkpoints.path(2))
    torch.save(
        {**state(3), "extra": Malicious(tmp_path / "proof")},
        checkpoints.path(3),
        _use_new_zipfile_serialization=False,
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

"""A run that is stopped, however, and resumed is bit for bit the run that never was."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slim_fast.evaluation.probe import compute_online_knn
from slim_fast.training.trainer import Trainer
from tests.training.processes import wait_for

Outcome = Callable[[Path], dict[str, Any]]
Same = Callable[[Any, Any], bool]


@pytest.fixture
def signal_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, signal.Signals]], None]:
    """Make a run receive a signal while it does the given steps (counted from 1), each once."""

    def arrange(signals: dict[int, signal.Signals]) -> None:
        original, left = Trainer.step, dict(signals)

        def step(self: Trainer, number: int) -> Any:
            if number + 1 in left:
                os.kill(os.getpid(), left.pop(number + 1))
            return original(self, number)

        monkeypatch.setattr(Trainer, "step", step)

    return arrange


def steps_of(folder: Path, field: str) -> list[int]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [record["step"] for record in records if field in record]


def test_state_restored_between_any_two_steps_changes_nothing(
    tiny_trainer: Callable[..., Trainer], same: Same
) -> None:
    whole = tiny_trainer()
    losses = [whole.step(step)[0] for step in range(6)]
    trainer = tiny_trainer()
    for step in range(6):
        fresh = tiny_trainer()
        fresh.load_state_dict(trainer.state_dict())
        assert same(fresh.step(step)[0], losses[step])
        trainer = fresh
    assert same(trainer.state_dict(), whole.state_dict())


def test_another_seed_is_another_run(
    run: Callable[..., int],
    tmp_path: Path,
    uninterrupted: dict[str, Any],
    outcome: Outcome,
    same: Same,
) -> None:
    """The oracle of this file can tell runs apart; the same seed in another folder gives the same
    run.
    """
    assert run(out=tmp_path / "again") == 0
    assert run(out=tmp_path / "other", seed=1) == 0
    assert same(outcome(tmp_path / "again"), uninterrupted)
    other = outcome(tmp_path / "other")
    assert not any(same(other[part], uninterrupted[part]) for part in uninterrupted)


# Step 3 lies between checkpoints, 4 has a checkpoint and a k-NN evaluation, 8 is the last.
@pytest.mark.parametrize("stops", [(1,), (3, 4), (4, 7), (2, 5, 8)])
def test_stopping_and_resuming_changes_nothing(
    stops: tuple[int, ...],
    run: Callable[..., int],
    signal_after: Callable[..., None],
    tmp_path: Path,
    uninterrupted: dict[str, Any],
    outcome: Outcome,
    same: Same,
    capsys: pytest.CaptureFixture[str],
) -> None:
    signal_after(dict.fromkeys(stops, signal.SIGTERM))
    for stop in stops:
        assert run() == 143
        said = capsys.readouterr().err.splitlines()[-1]
        saved = tmp_path / "run" / "checkpoints" / f"step-{stop:08d}.pt"
        assert (
            said
            == f"Stopped by SIGTERM after step {stop}; {saved} is saved. The same command resumes "
            "the run."
        )
        assert saved.exists()
        assert not (tmp_path / "run" / "summary.json").exists()
    assert run() == 0
    assert f"Resuming at step {stops[-1]} of 8." in capsys.readouterr().out
    assert same(outcome(tmp_path / "run"), uninterrupted)
    assert steps_of(tmp_path / "run", "loss") == list(range(1, 9))
    assert steps_of(tmp_path / "run", "knn_top1") == [4, 8]


@pytest.mark.parametrize("evaluation", [1, 2])
def test_signal_during_an_evaluation(
    evaluation: int,
    run: Callable[..., int],
    tmp_path: Path,
    uninterrupted: dict[str, Any],
    outcome: Outcome,
    same: Same,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls = 0

    def evaluate(*arguments: Any) -> float:
        nonlocal calls
        calls += 1
        if calls == evaluation:
            os.kill(os.getpid(), signal.SIGTERM)
        return compute_online_knn(*arguments)

    monkeypatch.setattr("slim_fast.training.loop.compute_online_knn", evaluate)
    assert run() == 143
    assert f"after step {4 * evaluation};" in capsys.readouterr().err.splitlines()[-1]
    assert run() == 0
    assert calls == 2
    assert same(outcome(tmp_path / "run"), uninterrupted)


def test_kill_9_in_the_middle(
    start: Callable[..., "subprocess.Popen[str]"],
    tmp_path: Path,
    uninterrupted: dict[str, Any],
    outcome: Outcome,
    same: Same,
) -> None:
    process = start(hold=3)
    wait_for(tmp_path / "holding", process)
    assert (tmp_path / "run" / "checkpoints" / "step-00000002.pt").exists()
    assert steps_of(tmp_path / "run", "loss") == [1, 2, 3]  # one more than the checkpoint holds
    os.kill(process.pid, signal.SIGKILL)
    process.wait(60)
    assert not (tmp_path / "run" / "summary.json").exists()
    again = start()
    output, error = again.communicate(timeout=120)
    assert again.returncode == 0, error
    assert "Resuming at step 2 of 8." in output
    assert same(outcome(tmp_path / "run"), uninterrupted)
    assert steps_of(tmp_path / "run", "loss") == list(range(1, 9))
    assert not list((tmp_path / "run").rglob("*.tmp"))


def test_killed_while_writing_a_checkpoint(
    start: Callable[..., "subprocess.Popen[str]"],
    run: Callable[..., int],
    tmp_path: Path,
    uninterrupted: dict[str, Any],
    outcome: Outcome,
    same: Same,
) -> None:
    code = """
import os, signal
from slim_fast import writing
replace = os.replace
def dying(source, target):
    if "step-00000004" in str(source):
        open(source, "r+b").truncate(1000)
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
writing.os.replace = dying
"""
    process = start(code)
    assert process.wait(60) == -signal.SIGKILL
    assert [f.name for f in (tmp_path / "run" / "checkpoints").iterdir() if ".part" in f.name]
    assert run() == 0
    assert same(outcome(tmp_path / "run"), uninterrupted)
    assert not list((tmp_path / "run").rglob("*.part*"))


def test_metrics_of_a_lost_stretch_are_forgotten(
    unfinished: Path,
    run: Callable[..., int],
    outcome: Outcome,
    same: Same,
    uninterrupted: dict[str, Any],
) -> None:
    """As after a power cut: the last checkpoints are lost, the metrics hold a cut line."""
    for step in (6, 8):
        (unfinished / "checkpoints" / f"step-{step:08d}.pt").unlink()
    with (unfinished / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "lo')
    assert run() == 0
    assert same(outcome(unfinished), uninterrupted)

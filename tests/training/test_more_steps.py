"""A run that goes on to more steps, and what else may change when a run is resumed."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from slim_fast.data.cache import ClipCache
from slim_fast.model.files import load_encoder
from slim_fast.training.clips import select_training_clips
from slim_fast.training.config import PretrainConfig
from slim_fast.training.trainer import Trainer
from slim_fast.views.store import FrameStore

Outcome = Callable[[Path], dict[str, Any]]
Same = Callable[[Any, Any], bool]


def state_at(folder: Path, step: int) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / f"step-{step:08d}.pt", weights_only=True)


def files_of(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def arrange(last: int) -> None:
        original, left = Trainer.step, [last - 1]

        def step(self: Trainer, number: int) -> Any:
            if number in left:
                left.remove(number)
                os.kill(os.getpid(), signal.SIGTERM)
            return original(self, number)

        monkeypatch.setattr(Trainer, "step", step)

    return arrange


@pytest.mark.parametrize("begun", [8, 3])
def test_it_follows_the_longer_runs_schedules_from_there_on(
    begun: int,
    run: Callable[..., int],
    stop_after: Callable[[int], None],
    tiny_config: Callable[..., PretrainConfig],
    cache_path: Path,
    tmp_path: Path,
    same: Same,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """begun: steps of 8 that are done, all or some of them."""
    if begun < 8:
        stop_after(begun)
    assert run() == (0 if begun == 8 else 143)
    capsys.readouterr()
    assert run(steps=12) == 0
    printed = capsys.readouterr().out
    assert f"Resuming at step {begun} of 12." in printed
    assert "from here on they are those of a run of 12" in printed
    assert f"steps 8 -> 12 at step {begun}" in printed

    cache, config = ClipCache.open(cache_path), tiny_config(steps=12)
    trainer = Trainer(
        config, FrameStore(cache, select_training_clips(cache, None), people=config.views.people)
    )
    trainer.load_state_dict(state_at(tmp_path / "run", begun))
    rates = [trainer.step(step)[1].learning_rate for step in range(begun, 12)]
    assert same(state_at(tmp_path / "run", 12)["model"], dict(trainer.model.state_dict()))
    records = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    losses = [record for record in records if "loss" in record]
    assert [record["step"] for record in losses] == list(range(1, 13))
    assert [record["learning_rate"] for record in losses[begun:]] == rates

    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["steps"], summary["samples"]) == (12, 48)
    assert summary["changes"] == [{"step": begun, "changed": {"steps": [8, 12]}}]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["steps"] == 12
    written = load_encoder(tmp_path / "run" / "encoder").state_dict()
    assert same(dict(written), dict(trainer.model.teacher.encoder.state_dict()))


@pytest.mark.usefixtures("finished")
def test_stopped_on_the_way_it_is_the_same(
    run: Callable[..., int],
    finished: Path,
    tmp_path: Path,
    stop_after: Callable[[int], None],
    outcome: Outcome,
    same: Same,
) -> None:
    shutil.copytree(finished, tmp_path / "beside")
    assert run(out=tmp_path / "beside", steps=12) == 0
    stop_after(10)
    assert run(steps=12) == 143
    assert not (finished / "summary.json").exists()
    assert not (finished / "encoder").exists()  # the one of step 8 must not pass for this run's
    assert run(steps=12) == 0
    assert same(outcome(finished), outcome(tmp_path / "beside"))


@pytest.mark.parametrize("state", ["finished", "unfinished"])
@pytest.mark.parametrize("changes", [{"steps": 7}, {"steps": 4, "threads": 2}])
def test_fewer_are_refused(
    state: str, changes: dict[str, Any], request: pytest.FixtureRequest, refused: Callable[..., str]
) -> None:
    folder = request.getfixturevalue(state)
    before = files_of(folder)
    sentence = refused(**changes)
    assert f"--steps {changes['steps']}" in sentence
    assert "of 8 steps" in sentence
    assert "--out" in sentence
    assert files_of(folder) == before


def test_the_old_number_is_fewer_once_it_is_raised(
    finished: Path, run: Callable[..., int], refused: Callable[..., str]
) -> None:
    assert run(steps=9) == 0
    assert "is one of 9 steps" in refused()


def test_without_its_checkpoints_it_cannot_go_on(
    finished: Path, refused: Callable[..., str], run: Callable[..., int]
) -> None:
    shutil.rmtree(finished / "checkpoints")
    before = files_of(finished)
    assert f"--init {finished}" in refused(steps=12)
    assert "batch: 4 -> 8" in refused(batch=8)
    assert run() == 0
    assert files_of(finished) == before


def test_what_cannot_go_on_keeps_its_results(
    finished: Path, refused: Callable[..., str], tmp_path: Path, run: Callable[..., int]
) -> None:
    before = files_of(finished)
    assert "not a clip cache" in refused(steps=12, data=tmp_path / "nowhere")
    assert files_of(finished) == before


def test_threads_that_change_are_recorded(
    run: Callable[..., int],
    stop_after: Callable[[int], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stop_after(3)
    assert run() == 143
    capsys.readouterr()
    stop_after(3 + 1)
    assert run(threads=2) == 143  # and lost: as if the machine went down
    (tmp_path / "run" / "checkpoints" / "step-00000004.pt").unlink()
    assert "from here on: threads 1 -> 2" in capsys.readouterr().out
    assert run(threads=2) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["threads"] == 2
    assert summary["changes"] == [{"step": 3, "changed": {"threads": [1, 2]}}]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["threads"] == 2
    records = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert {"step": 3, "changed": {"threads": [1, 2]}} in records
    assert "Resumed with other settings: threads 1 -> 2 at step 3." in capsys.readouterr().out
    assert run(threads=2) == 0  # the finished run says so again
    assert "threads 1 -> 2 at step 3" in capsys.readouterr().out


def test_a_change_that_was_lost_is_not_recorded(
    run: Callable[..., int],
    stop_after: Callable[[int], None],
    tmp_path: Path,
    uninterrupted: dict[str, Any],
    outcome: Outcome,
    same: Same,
) -> None:
    stop_after(4)
    assert run() == 143
    stop_after(5)
    assert run(threads=2) == 143
    (tmp_path / "run" / "checkpoints" / "step-00000005.pt").unlink()
    assert run() == 0
    assert same(outcome(tmp_path / "run"), uninterrupted)


def test_settings_that_change_no_result_may_change(
    run: Callable[..., int],
    stop_after: Callable[[int], None],
    tmp_path: Path,
    uninterrupted: dict[str, Any],
    outcome: Outcome,
    same: Same,
) -> None:
    stop_after(4)
    assert run() == 143
    shutil.move(tmp_path / "run", tmp_path / "moved")
    assert (
        run(out=tmp_path / "moved", log__checkpoint_every=3, log__keep=1, log__checkpoint_minutes=1)
        == 0
    )
    begun = json.loads((tmp_path / "moved" / "config.json").read_text())
    assert (begun["out"], begun["log"]["keep"]) == (str(tmp_path / "moved"), 1)
    assert same(outcome(tmp_path / "moved"), uninterrupted)


def test_fields_that_an_older_version_did_not_have_count_as_their_defaults(
    run: Callable[..., int], finished: Path, refused: Callable[..., str]
) -> None:
    config = json.loads((finished / "config.json").read_text())
    del config["model"]["encoder"]["patch_init"]
    (finished / "config.json").write_text(json.dumps(config))
    assert run() == 0
    assert "model.encoder.patch_init: 'normal' -> 'conv'" in refused(
        model__encoder__patch_init="conv"
    )

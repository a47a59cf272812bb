"""slim_fast.train is the command, called from Python."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import slim_fast
from slim_fast.training.config import PretrainConfig
from slim_fast.training.trainer import Trainer
from slim_fast.views.pipeline import LocalViewConfig


@pytest.fixture
def train(
    cache_path: Path, tmp_path: Path, tiny_fields: dict[str, Any]
) -> Callable[..., slim_fast.TrainingResult]:
    """The smallest run."""
    return lambda **changes: slim_fast.train(
        cache_path, out=tmp_path / "run", **{**tiny_fields, **changes}
    )


def test_it_is_the_run_of_the_command(
    train: Callable[..., slim_fast.TrainingResult],
    uninterrupted: dict[str, Any],
    outcome: Callable[[Path], dict[str, Any]],
    same: Callable[[Any, Any], bool],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    threads = torch.get_num_threads()
    result = train()
    assert capfd.readouterr() == ("", "")
    assert torch.get_num_threads() == threads
    assert result.folder == tmp_path / "run"
    assert same(outcome(result.folder), uninterrupted)
    assert 0 <= result.summary["knn_top1"] <= 1
    assert [record["step"] for record in result.metrics if "loss" in record] == list(range(1, 9))
    encoder = slim_fast.SLiMEncoder.from_pretrained(result.encoder)
    assert encoder.config.width == 16
    again = train(progress=True)
    assert again.summary == result.summary
    assert "holds a finished run" in capfd.readouterr().out
    (result.folder / "summary.json").unlink()
    train(progress=True)
    assert "Evaluating the encoder" in capfd.readouterr().out


def test_what_is_left_out_at_the_end_is_progress(
    train: Callable[..., slim_fast.TrainingResult],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise slim_fast.UserError("nothing is labelled")

    monkeypatch.setattr("slim_fast.training.summary.probe", fail)
    assert train().summary["knn_top1"] is None
    assert capfd.readouterr() == ("", "")
    (tmp_path / "run" / "summary.json").unlink()
    train(progress=True)
    assert "No accuracies: nothing is labelled" in capfd.readouterr().out


def test_fields_of_fields(train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[PretrainConfig] = []
    monkeypatch.setattr("slim_fast.pretrain.pretrain", lambda config, _: seen.append(config) or {})
    local = [LocalViewConfig(8, 3, (0.2, 0.4))]
    changes = {"optim": {"clip": 2.5}, "views.local": local, "split": None, "log.plots": True}
    train(**changes)
    (config,) = seen
    assert (config.optim.clip, config.views.local, config.split) == (2.5, local, None)
    assert config.log.plots
    assert config.model.encoder.width == 16


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"preset": "dmo"}, "did you mean demo?"),
        ({"stepz": 3}, r"train() has no argument 'stepz' (did you mean steps?)"),
        ({"optim": {"clp": 3}}, "no argument 'optim.clp' (did you mean optim.clip?)"),
        ({"precision": "fp64"}, "See the fields of slim_fast.training.config.PretrainConfig."),
        ({"steps": 0}, "steps=0: must be at least 1"),
        ({"optim": {"clip": -1.0}}, "optim.clip=-1.0: must be greater than 0"),
        ({"split": "nosuch"}, "nosuch"),
    ],
)
def test_what_cannot_work(
    changes: dict[str, Any], named: str, train: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(slim_fast.UserError, match=re.escape(named)):
        train(**changes)


def test_ctrl_c_saves_and_the_same_call_resumes(
    train: Callable[..., slim_fast.TrainingResult],
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: dict[str, Any],
    outcome: Callable[[Path], dict[str, Any]],
    same: Callable[[Any, Any], bool],
) -> None:
    step = Trainer.step

    def pressed(self: Trainer, number: int) -> Any:
        if number == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", pressed)
        with pytest.raises(KeyboardInterrupt, match="Stopped by SIGINT after step 4"):
            train()
    assert same(outcome(train().folder), uninterrupted)


def test_importing_the_package_imports_no_torch() -> None:
    program = "import slim_fast, sys; assert not {'torch', 'jsonargparse'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", program], check=True)

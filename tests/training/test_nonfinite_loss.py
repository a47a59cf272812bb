"""A loss that is not finite ends the run with its clips named, and the weights as they were."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slim_fast.data.clips import Clip
from slim_fast.model.slim import SLiM
from slim_fast.training.trainer import Trainer

Refused = Callable[..., str]


def test_clips_with_nan_in_a_damaged_cache(
    refused: Refused, write_cache: Callable[..., Path], clips: list[Clip], tmp_path: Path
) -> None:
    path = write_cache(clips)
    positions = np.load(path / "positions.npy", mmap_mode="r+")
    positions[:20] = np.nan  # the first clip
    positions.flush()
    sentence = refused(data=path, batch=8)  # every training clip
    assert "not finite at step 0" in sentence
    assert "and 4 more" in sentence
    listed = tmp_path / "run" / "nonfinite-step-0.txt"
    assert str(listed) in sentence
    assert sorted(listed.read_text().split()) == [f"clip{n:02d}" for n in range(12) if n % 3 != 2]
    assert "none" in sentence.partition("last good checkpoint")[2]


def test_nan_after_a_checkpoint(
    run: Callable[..., int],
    refused: Refused,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: dict[str, Any],
    outcome: Callable[[Path], dict[str, Any]],
    same: Callable[[Any, Any], bool],
) -> None:
    step = Trainer.step

    def poisoned(self: Trainer, number: int) -> Any:
        if number == 5:
            with torch.no_grad():
                self.model.student.encoder.norm.weight[0] = float("nan")
        return step(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", poisoned)
        sentence = refused()
    assert "at step 5" in sentence
    batch = (tmp_path / "run" / "nonfinite-step-5.txt").read_text().split()
    assert len(batch) == 4
    assert all(name in sentence for name in batch)
    good = tmp_path / "run" / "checkpoints" / "step-00000004.pt"
    assert str(good) in sentence
    assert sorted((tmp_path / "run" / "checkpoints").iterdir())[-1] == good
    assert run() == 0
    assert same(outcome(tmp_path / "run"), uninterrupted)


def test_learning_rate_beyond_all_bounds(refused: Refused) -> None:
    sentence = refused(steps=40, **{"optim.learning_rate": 1e20, "log.checkpoint_every": 1})
    assert "is not finite at step" in sentence
    assert "clip0" in sentence or "clip1" in sentence
    assert "optim.learning_rate" in sentence


@pytest.mark.parametrize("culprit", ["loss", "gradient"])
def test_non_finite_step_leaves_the_weights(
    culprit: str,
    tiny_trainer: Callable[..., Trainer],
    same: Callable[[Any, Any], bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = tiny_trainer()
    trainer.step(0)
    trainer.step(1)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    forward = type(trainer.model).forward

    def infinite(self: Any, *arguments: Any, **options: Any) -> Any:
        losses = forward(self, *arguments, **options)
        if culprit == "loss":
            return {**losses, "loss": losses["loss"] * float("inf")}
        return {
            **losses,
            "loss": losses["loss"] + (0 * self.student.encoder.norm.weight.sum()).sqrt(),
        }

    monkeypatch.setattr(type(trainer.model), "forward", infinite)
    with pytest.raises(ValueError, match="not finite at step 2"):
        trainer.step(2)
    assert same(trainer.model.state_dict(), before)
    assert all(parameter.grad is None for parameter in trainer.model.parameters())
    monkeypatch.undo()
    fresh = tiny_trainer()
    for step in range(3):
        fresh.step(step)
    trainer.step(2)
    assert same(trainer.state_dict(), fresh.state_dict())


def test_a_run_that_does_not_watch_its_steps_saves_nothing_bad(
    run: Callable[..., int],
    refused: Refused,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    outcome: Callable[[Path], dict[str, Any]],
    same: Callable[[Any, Any], bool],
) -> None:
    """As on a GPU: whether the losses were finite is read before metrics and checkpoints."""
    often = {"log.metrics_every": 8, "log.checkpoint_every": 3, "log.knn_every": 8}
    watched = Trainer.__init__

    def unwatched(self: Trainer, config: Any, store: Any, ranks: Any = None) -> None:
        watched(self, config, store, ranks, unwatched=True)

    monkeypatch.setattr(Trainer, "__init__", unwatched)
    losses = SLiM.losses

    def poisoned(self: SLiM, views: Any, *others: Any) -> Any:
        values = losses(self, views, *others)
        factor = torch.where(torch.as_tensor(views.step) == 4, torch.nan, 1.0)
        return {**values, "loss": values["loss"] * factor}

    with monkeypatch.context() as patch:
        patch.setattr(SLiM, "losses", poisoned)
        sentence = refused(**often)
    assert "at step 4" in sentence
    assert str(tmp_path / "run" / "nonfinite-step-4.txt") in sentence
    saved = tmp_path / "run" / "checkpoints" / "step-00000003.pt"
    assert sorted((tmp_path / "run" / "checkpoints").iterdir()) == [saved]
    assert not (tmp_path / "run" / "metrics.jsonl").read_text()
    assert run(**often) == 0
    assert run(out=tmp_path / "whole", **often) == 0
    ours, theirs = (outcome(tmp_path / name) for name in ("run", "whole"))
    assert same(ours["state"], theirs["state"])
    assert ours["encoder"] == theirs["encoder"]

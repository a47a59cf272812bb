"""A step that the host does not watch is the ordinary one, and waits with what was not finite."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from slim_fast.training.trainer import NonFiniteLoss, Trainer
from tests.training.test_mae import MAE

Same = Callable[[Any, Any], bool]
TEMPERATURE = {"optim__teacher_temperature": [0.05, 0.05]}


def run(trainer: Trainer, steps: int) -> list[dict[str, float]]:
    return [{k: v.item() for k, v in trainer.step(s)[0].items()} for s in range(steps)]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("kind", ["tube", "random", "motion"])
def test_it_is_the_watched_step_bit_for_bit(kind, accumulate, tiny_trainer, same: Same):
    """With a temperature that stays, and no rows that only fill up sizes."""
    changes = {**TEMPERATURE, "views__mask__kind": kind, "accumulate": accumulate}
    watched, unwatched = tiny_trainer(**changes), tiny_trainer(unwatched=True, **changes)
    unwatched.model.fixed_shapes = False
    assert run(watched, 8) == run(unwatched, 8)
    assert same(watched.state_dict(), unwatched.state_dict())


@pytest.mark.parametrize(
    "changes", [{}, {"model__encoder__attention": "visible"}, MAE], ids=["all", "visible", "mae"]
)
def test_fixed_shapes_change_it_by_rounding(changes, tiny_trainer):
    changes = changes | {"optim__learning_rate": 1e-3}
    watched, unwatched = (tiny_trainer(unwatched=on, **changes) for on in (False, True))
    assert unwatched.model.fixed_shapes
    for a, b in zip(run(watched, 6), run(unwatched, 6), strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-6)
    for name, value in watched.model.state_dict().items():
        other = unwatched.model.state_dict()[name]
        torch.testing.assert_close(value, other, rtol=1e-3, atol=1e-4)


def poison(trainer: Trainer, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The loss of one step is infinite."""
    losses = type(trainer.model).losses

    def infinite(self: Any, views: Any, *others: Any) -> Any:
        values = losses(self, views, *others)
        factor = torch.where(torch.as_tensor(views.step) == step, torch.inf, 1.0)
        return {**values, "loss": values["loss"] * factor}

    monkeypatch.setattr(type(trainer.model), "losses", infinite)


def test_nothing_moves_after_a_step_that_was_not_finite(tiny_trainer, same: Same, monkeypatch):
    trainer, fresh = tiny_trainer(unwatched=True), tiny_trainer(unwatched=True)
    run(fresh, 3)
    poison(trainer, monkeypatch, 3)
    for step in range(6):
        trainer.step(step)
    with pytest.raises(NonFiniteLoss, match="not finite at step 3") as raised:
        trainer.check_finite()
    assert len(raised.value.clips) == trainer.config.batch
    assert same(trainer.model.state_dict(), fresh.model.state_dict())
    ours, theirs = (t.state_dict()["optimizer"]["state"] for t in (trainer, fresh))
    assert same(ours, theirs)
    monkeypatch.undo()
    for t in (trainer, fresh):  # what was saved then is a state like any other
        t.step(3)
        t.check_finite()
    assert same(trainer.state_dict(), fresh.state_dict())


def test_steps_before_it_count(tiny_trainer, monkeypatch):
    trainer = tiny_trainer(unwatched=True)
    poison(trainer, monkeypatch, 0)
    trainer.step(0)
    with pytest.raises(NonFiniteLoss, match="step 0"):
        trainer.check_finite()
    trainer.check_finite()


def test_its_state_is_taken_up_by_a_watched_run_and_back(tiny_trainer, same: Same):
    whole, first, second = (
        tiny_trainer(unwatched=on, **TEMPERATURE) for on in (False, True, False)
    )
    first.model.fixed_shapes = False
    run(whole, 6)
    run(first, 3)
    second.load_state_dict(first.state_dict())
    second.step(3)
    first.load_state_dict(second.state_dict())
    for step in (4, 5):
        first.step(step)
    assert same(first.state_dict(), whole.state_dict())

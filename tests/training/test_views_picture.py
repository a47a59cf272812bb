"""The clip whose views a run draws, and what is said of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slim_fast import drawing
from slim_fast.skeletons import get_topology
from slim_fast.training.summary import axis_name, choose_clip, draw_views, zeroed_axes
from slim_fast.training.trainer import Trainer

FRAMES, JOINTS = 16, 5


def views(*motion, channels=3):
    """Two global views each of clips whose joints swing so far, and masks: (B, 2, w, V, C), (B, 2,
    w / 8, V).
    """
    rng = np.random.default_rng(0)
    clips = rng.normal(1, 0.1, (len(motion), 2, 1, JOINTS, channels)).repeat(FRAMES, 2)
    swing = np.linspace(-1, 1, FRAMES)[:, None, None] * rng.normal(size=(JOINTS, channels))
    clips += np.array(motion)[:, None, None, None, None] * swing
    masks = np.zeros((len(motion), 2, FRAMES // 8, JOINTS), bool)
    masks[:, 1, 0, :2] = True
    return clips, masks


def test_the_clip_that_moves_most_is_chosen_of_those_with_a_masked_view():
    clips, masks = views(0.2, 0.9, 0.5, 0.1)
    assert choose_clip(clips, masks, "xyz") == 1
    masks[1] = False
    assert choose_clip(clips, masks, "xyz") == 2
    masks[:] = False
    assert choose_clip(clips, masks, "xyz") == 1


def test_a_flattened_view_is_chosen_only_if_there_is_none_other():
    clips, masks = views(0.2, 0.9, 0.5)
    clips[1, 1, ..., 2] = 0
    assert choose_clip(clips, masks, "xyz") == 2
    masks[2] = False
    assert choose_clip(clips, masks, "xyz") == 0
    clips[0, 1, ..., 0] = 0
    assert choose_clip(clips, masks, "xyz") == 1


def test_walking_noise_and_undetected_joints_are_no_motion():
    clips, masks = views(0.3, 0, 0, 0)
    clips[1] += np.linspace(0, 50, FRAMES)[:, None, None]
    clips[2] += np.tile([0.05, -0.05], FRAMES // 2)[:, None, None] * np.arange(JOINTS)[:, None]
    clips[3, :, ::3, 1] = 0
    clips[3, :, :, 2] = 0
    assert choose_clip(clips, masks, "xyz") == 0


@pytest.mark.parametrize(("channels", "dims"), [("xyz", 3), ("xy", 2), ("xyc", 2)])
def test_zeroed_axes_are_found_but_no_undetected_joint_or_confidence(channels, dims):
    view = np.random.default_rng(0).normal(1, 0.1, (FRAMES, JOINTS, len(channels)))
    view[3:5, 2] = 0
    assert zeroed_axes(view, channels) == []
    for axis in range(dims):
        flat = view.copy()
        flat[..., axis] = 0
        assert zeroed_axes(flat, channels) == [axis]
    view[..., dims:] = 0
    assert zeroed_axes(view, channels) == []
    assert zeroed_axes(0 * view, channels) == []


def test_axes_are_called_what_they_mean():
    assert [axis_name(axis, get_topology("ntu-25")) for axis in range(3)] == [
        "x",
        "height",
        "depth",
    ]
    assert [axis_name(axis, get_topology("coco-17")) for axis in range(2)] == ["x", "height"]


def test_a_run_s_views_say_what_was_done_to_them(
    tiny_trainer: Callable[..., Trainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, Any] = {}
    names = ("views", "masks", "topology", "titles", "path", "channels")
    monkeypatch.setattr(
        drawing, "draw_views", lambda *given: drawn.update(zip(names, given, strict=True))
    )
    draw_views(tiny_trainer(views__augment__flatten=1.0), tmp_path / "views.png")
    assert [title.split("\n")[0] for title in drawn["titles"]] == ["global, 16 frames"] * 2 + [
        "local, 8 frames"
    ] * 2
    assert any(mask is not None for mask in drawn["masks"][:2])
    for view, mask, title in zip(drawn["views"], drawn["masks"], drawn["titles"], strict=True):
        assert ("unmasked" in title) == (mask is None)
        flat = [
            axis_name(axis, drawn["topology"]) for axis in range(3) if not view[..., axis].any()
        ]
        assert ("zeroed" in title) == bool(flat)
        assert all(f"{name} zeroed" in title for name in flat)
    assert "zeroed" in drawn["titles"][1]

"""Augmented clips: bones keep their ratios, people their places, zeros stay zeros."""

import numpy as np
import pytest
import torch

from slim_fast.evaluation.augmented import CAREFUL, PUBLISHED, AugmentedClips
from slim_fast.evaluation.features import load_evaluation_clips
from slim_fast.views.augment import AugmentConfig

NONE = AugmentConfig(mirror=0, scale=0, rotate=0)
TURNED = AugmentConfig(mirror=0, scale=0, rotate=1)


def test_they_are_pure_functions_of_seed_step_and_clip(make_cache, crowd):
    cache = make_cache([crowd(90, 1 + i % 2, i) for i in range(3)])
    draw = AugmentedClips(cache, PUBLISHED, 5)
    first = draw(np.array([0, 1, 2]), 3)
    assert first.shape == (3, 2, 64, 25, 3)
    torch.testing.assert_close(draw(np.array([2, 1]), 3), first[[2, 1]], rtol=1e-5, atol=1e-5)
    assert not torch.equal(draw(np.array([0, 1, 2]), 4), first)
    assert not torch.equal(AugmentedClips(cache, PUBLISHED, 6)(np.array([0, 1, 2]), 3), first)


def test_without_augmentation_the_whole_of_a_short_clip_is_the_evaluation_clip(make_cache, crowd):
    cache = make_cache([crowd(40, 2, i) for i in range(2)])
    got = AugmentedClips(cache, NONE, 0, interval=(1.0, 1.0))(np.arange(2), 0)
    torch.testing.assert_close(got, load_evaluation_clips(cache, np.arange(2)))


def test_crops_are_of_the_share_of_frames_that_was_asked_for(make_cache):
    """A clip whose coordinates count its frames."""
    clip = np.zeros((100, 25, 3, 1), np.float32)
    clip[:, 5, 0, 0] = np.arange(100)
    clip[:, :, 1] = np.arange(1, 26)[:, None]
    cache = make_cache([clip])
    draw = AugmentedClips(cache, NONE, 0, interval=(0.5, 0.6))
    spans = []
    for step in range(50):
        frames = draw(np.array([0]), step)[0, 0, :, 5, 0]
        assert (frames.diff() >= 0).all()
        spans.append(float(frames[-1] - frames[0]))
    assert 47 <= min(spans) <= max(spans) <= 60


def test_all_people_turn_together(make_cache, crowd):
    cache = make_cache([crowd(64, 2, 1)])
    plain = AugmentedClips(cache, NONE, 0)(np.array([0]), 7)
    turned = AugmentedClips(cache, TURNED, 0)(np.array([0]), 7)
    assert (plain - turned).abs().max() > 0.05
    # distances within and between people stay
    for views in (plain, turned):
        views[0] = views[0] - views[0, 0, 0, 0]
    torch.testing.assert_close(plain[0].norm(dim=-1), turned[0].norm(dim=-1), rtol=1e-3, atol=1e-3)


def test_undetected_joints_and_absent_people_stay_zero(make_cache, crowd):
    lost = crowd(80, 2, 2)
    lost[:, 9] = 0
    lost[20:30, 4, :, 0] = 0
    cache = make_cache([lost, crowd(80, 1, 3)])
    config = AugmentConfig(mirror=0, scale=1, rotate=1)
    got = AugmentedClips(cache, config, 0)(np.arange(2), 0)
    assert not got[0, :, :, 9].any()
    assert not got[1, 1].any()
    assert got[0, 1].any()
    assert (got[0, :, :, 4] == 0).all(-1).any()


@pytest.mark.parametrize(("topology", "channels"), [("coco-17", "xy"), ("coco-17", "xyc")])
def test_pictures(make_cache, crowd, topology, channels):
    clip = np.abs(crowd(50, 1, 0, 17, len(channels)))
    got = AugmentedClips(make_cache([clip], topology, channels), PUBLISHED, 0)(np.array([0]), 0)
    assert got.shape == (1, 1, 64, 17, len(channels))
    assert got.isfinite().all()


def test_careful_augmentation_never_swaps_left_and_right():
    assert CAREFUL.mirror == 0
    assert CAREFUL.turn < 1 < PUBLISHED.turn

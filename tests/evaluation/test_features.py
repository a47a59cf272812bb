"""Frozen features against the encoder asked for one person at a time."""

import numpy as np
import pytest
import torch
from torch import Tensor

from slim_fast import SLiMEncoder
from slim_fast.errors import UserError
from slim_fast.evaluation.features import encode_clips, extract_features, load_evaluation_clips
from slim_fast.model.encoder import EncoderConfig
from slim_fast.model.frozen import freeze


def one_by_one(encoder, cache, i: int) -> tuple[Tensor, Tensor]:
    """(CLS and mean patch) of every person slot of clip i: two (M, D), zeros where nobody is."""
    cls, mean = [], []
    for person in load_evaluation_clips(cache, np.array([i]))[0]:
        with torch.no_grad():
            ((patches, token),) = encoder.encode_last_blocks(person[None], None, 1)
        there = float(person.any())
        cls.append(token[0] * there)
        mean.append(patches[0].mean(0) * there)
    return torch.stack(cls), torch.stack(mean)


@pytest.fixture
def cache(make_cache, crowd):
    clips = [crowd(70, 1 + i % 2, i) for i in range(5)]
    clips[3][:, ..., 1] *= 0
    clips[3][0, ..., 1] = 1  # there in the first frame only, outside the centred 95 %
    return make_cache(clips)


@pytest.mark.parametrize("batch", [1, 2, 5, 128])
def test_features_of_all_people_and_their_order(batch, cache, encoder):
    got = extract_features(encoder, cache, np.arange(5), batch=batch)
    assert got.retrieval.shape == (5, 4 * 16)
    assert got.pooled.shape == (5, 2 * 16)
    for i in range(5):
        cls, mean = one_by_one(encoder, cache, i)
        retrieval = torch.cat([cls.flatten(), mean.flatten()])
        torch.testing.assert_close(got.retrieval[i], retrieval, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            got.pooled[i], torch.cat([cls.sum(0), mean.sum(0)]), rtol=1e-4, atol=1e-5
        )


def test_empty_people_give_zeros(cache, encoder):
    # CLS and mean patch, people
    retrieval = extract_features(encoder, cache, np.arange(5)).retrieval.view(5, 2, 2, 16)
    empty = ~retrieval.any(-1)
    assert empty.tolist() == [[[False, second]] * 2 for second in (True, False, True, True, True)]


def test_a_clip_in_which_nobody_is_seen_gives_zeros(make_cache, crowd, encoder):
    """Of three people the two who are there longer are read, and these are gone from the frames
    that are.
    """
    clip = crowd(1000, 3)
    read = np.isin(np.arange(1000), [25 + i * 950 // 64 for i in range(64)])
    clip[read, ..., :2] = 0
    clip[~read, ..., 2] = 0
    got = extract_features(encoder, make_cache([clip]), np.arange(1), batch=1)
    assert not got.retrieval.any()
    assert not got.pooled.any()
    both = extract_features(encoder, make_cache([clip, crowd(70)]), np.arange(2))
    assert both.pooled.any(1).tolist() == [False, True]


def test_encoding_leaves_the_encoder_as_it_was(cache, encoder):
    for training in (True, False):
        encoder.train(training)
        features = extract_features(encoder, cache, np.arange(2))
        assert encoder.training == training
        assert not features.pooled.requires_grad
    assert all(p.grad is None for p in encoder.parameters())


def test_progress_sees_every_batch(cache, encoder):
    seen: list[int] = []

    def progress(steps):
        for step in steps:
            seen.append(step)
            yield step

    extract_features(encoder, cache, np.arange(5), batch=2, progress=progress)
    assert seen == [0, 2, 4]


def test_products_may_be_in_bfloat16(cache, encoder):
    exact = extract_features(encoder, cache, np.arange(5)).pooled
    got = extract_features(encoder, cache, np.arange(5), dtype=torch.bfloat16).pooled
    assert got.dtype == torch.float32
    assert 0 < (got - exact).norm() / exact.norm() < 0.03


def test_clips_have_the_frames_that_the_encoder_was_trained_with(make_cache, crowd, tmp_path):
    """An encoder keeps its window in config.json's img_size, and is evaluated at it."""
    config = EncoderConfig(width=16, depth=1, heads=2, window=24)
    SLiMEncoder("ntu-25", config=config).save_pretrained(tmp_path / "short")
    short = SLiMEncoder.from_pretrained(tmp_path / "short")
    cache, clips = make_cache([crowd(70, 2, i) for i in range(3)]), np.arange(3)
    views = load_evaluation_clips(cache, clips, 24)
    assert views.shape[2] == 24
    expected = encode_clips(freeze(short), views)
    got = extract_features(short, cache, clips)
    assert torch.equal(got.retrieval, expected.retrieval)
    assert torch.equal(got.pooled, expected.pooled)


def test_a_window_of_no_whole_patches_is_refused():
    with pytest.raises(UserError, match="window=20: must be a positive multiple of patch_frames"):
        EncoderConfig(window=20)

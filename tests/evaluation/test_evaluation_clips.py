"""Evaluation clips against a reading of the protocol clip by clip in numpy."""

import numpy as np
import pytest
import torch

from slim_fast.evaluation.features import coordinates, evaluation_clips


def read(clip: np.ndarray, centre: int, dims: int, slots: int) -> np.ndarray:
    """(T, V, C, M) -> (slots, 64, V, C): 64 frames of the centred 95 %, the first person's first pose at the origin."""
    total = len(clip)
    length = max(1, int(total * 0.95))
    start = (total - length) // 2
    if length < 64:
        position = np.clip((np.arange(64) + 0.5) * length / 64 - 0.5, 0, length - 1)
    else:
        position = np.floor((np.arange(64) + 0.5) * length / 64)
    here = clip.any(axis=(1, 2))  # (T, M)
    first = int(np.argmax(here[:, 0]))
    origin = np.zeros(clip.shape[2])
    origin[:dims] = clip[first, centre, :dims, 0]
    out = np.zeros((slots, 64, *clip.shape[1:3]))
    for person in range(min(slots, clip.shape[3])):
        for slot, where in enumerate(position):
            below = start + int(where)
            above = min(below + 1, total - 1)
            share = where - int(where)
            if not here[below, person]:
                continue
            frame = clip[below, ..., person].astype(np.float64)
            if share and here[above, person]:
                frame = frame * (1 - share) + clip[above, ..., person] * share
            out[person, slot] = frame - origin
    return out


def assert_read(cache, clips: list[np.ndarray], slots: int) -> torch.Tensor:
    dims = len(cache.channels.rstrip("c"))
    got = evaluation_clips(cache, np.arange(len(clips)))
    assert got.shape == (len(clips), slots, 64, cache.topology.num_joints, len(cache.channels))
    assert got.dtype == torch.float32
    for i, clip in enumerate(clips):
        expected = read(clip, cache.topology.centre, dims, slots)
        np.testing.assert_allclose(got[i].numpy(), expected, atol=2e-5, err_msg=f"clip {i} of {len(clip)} frames")
    return got


def test_clips_of_every_length(make_cache, crowd):
    clips = [crowd(frames, seed=frames) for frames in (1, 2, 3, 20, 63, 64, 66, 67, 68, 69, 100, 135, 300)]
    assert_read(make_cache(clips), clips, 1)


def test_one_and_two_people(make_cache, crowd):
    clips = [crowd(80, 1), crowd(80, 2, 1), crowd(30, 2, 2), crowd(30, 1, 3)]
    got = assert_read(make_cache(clips), clips, 2)
    assert not got[0, 1].any()
    assert not got[3, 1].any()
    assert got[1, 1].any()


def test_of_more_people_the_first_two(make_cache, crowd):
    clips = [crowd(80, 4), crowd(10, 3, 1)]
    assert_read(make_cache(clips), clips, 2)


def test_a_person_absent_in_the_middle_at_the_end_or_at_first(make_cache, crowd):
    clips = [crowd(frames, 2, frames) for frames in (30, 40, 90, 200, 210)]
    clips[0][10:20, ..., 1] = 0
    clips[1][25:, ..., 0] = 0
    clips[2][:30, ..., 1] = 0
    clips[3][:50, ..., 0] = 0  # the first person himself comes later
    clips[4][100:, ..., 1] = 0
    got = assert_read(make_cache(clips), clips, 2)
    gone = ~got.flatten(3).any(3)
    assert gone[0, 1].any()
    assert not gone[0, 1].all()
    assert got[3, 0].abs().max() < 3  # centred all the same


def test_people_keep_their_distance(make_cache, crowd):
    clip = crowd(100, 2)
    clip[..., 1] = clip[..., 0] + 1
    got = evaluation_clips(make_cache([clip]), np.arange(1))
    torch.testing.assert_close(got[0, 1] - got[0, 0], torch.ones(64, 25, 3), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", ["xy", "xyc", "xyzc"])
def test_other_channels(channels, make_cache, crowd):
    clips = [crowd(50, 2, joints=17, channels=len(channels)), crowd(90, 1, 1, 17, len(channels))]
    clips[0][10:30, ..., 1] = 0
    assert_read(make_cache(clips, "coco-17", channels), clips, 2)


def test_any_choice_of_clips_in_any_order(make_cache, crowd):
    clips = [crowd(40 + 10 * i, 1 + i % 2, i) for i in range(6)]
    cache = make_cache(clips)
    whole = evaluation_clips(cache, np.arange(6))
    some = np.array([5, 0, 5, 2])
    assert torch.equal(evaluation_clips(cache, some), whole[some])


def test_the_cache_is_not_written_to(make_cache, crowd):
    clip = crowd(70)
    cache = make_cache([clip])
    evaluation_clips(cache, np.arange(1))
    assert np.array_equal(cache.clip(0), clip)


def test_coordinates_are_the_clips_laid_flat(make_cache, crowd):
    cache = make_cache([crowd(70, 2), crowd(20, 1, 1)])
    flat = coordinates(cache, np.arange(2))
    assert flat.shape == (2, 2 * 64 * 25 * 3)
    assert torch.equal(flat.view(2, 2, 64, 25, 3), evaluation_clips(cache, np.arange(2)))

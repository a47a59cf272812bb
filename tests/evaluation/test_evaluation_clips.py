"""Evaluation clips against a reading of the protocol clip by clip in numpy."""

import numpy as np
import pytest
import torch

from slim_fast.evaluation.features import load_coordinates, load_evaluation_clips


def read(clip: np.ndarray, centre: int, dims: int, slots: int) -> np.ndarray:
    """(T, V, C, M) -> (slots, 64, V, C): 64 frames of the released protocol, the first person's
    first pose at the origin, joints that were not detected zeros.
    """
    total = len(clip)
    length = total if total <= 64 else max(int(0.95 * total), 64)
    start = int(0.05 * total / 2) if total > 64 else 0
    if length < 64:
        position = np.clip((np.arange(64) + 0.5) * length / 64 - 0.5, 0, length - 1)
    else:
        position = np.array([i * length // 64 for i in range(64)])
    first = clip[..., 0]
    origin = np.zeros(clip.shape[2])
    centred = [frame for frame in first if frame[centre, :dims].any()]
    there = next((frame for frame in first if frame[:, :dims].any()), first[0])
    if centred:
        origin[:dims] = centred[0][centre, :dims]
    elif there[:, :dims].any():
        origin[:dims] = there[there[:, :dims].any(1), :dims].mean(0)
    out = np.zeros((slots, 64, *clip.shape[1:3]))
    for person in range(min(slots, clip.shape[3])):
        for slot, where in enumerate(position):
            below = start + int(where)
            above = min(below + 1, total - 1)
            share = where - int(where)
            for joint in range(clip.shape[1]):
                here, then = (clip[t, joint, :, person].astype(np.float64) for t in (below, above))
                if here[:dims].any():
                    mixed = here * (1 - share) + then * share if then[:dims].any() else here
                    out[person, slot, joint] = mixed - origin
    return out


def assert_read(cache, clips: list[np.ndarray], slots: int) -> torch.Tensor:
    dims = len(cache.channels.rstrip("c"))
    got = load_evaluation_clips(cache, np.arange(len(clips)), people=slots)
    assert got.shape == (len(clips), slots, 64, cache.topology.num_joints, len(cache.channels))
    assert got.dtype == torch.float32
    for i, clip in enumerate(clips):
        # the same people
        assert sorted(x.tobytes() for x in clip.T) == sorted(x.tobytes() for x in cache.clip(i).T)
        expected = read(cache.clip(i), cache.topology.centre, dims, slots)
        np.testing.assert_allclose(
            got[i].numpy(), expected, atol=2e-5, err_msg=f"clip {i} of {len(clip)} frames"
        )
    return got


def test_clips_of_every_length(make_cache, crowd):
    clips = [
        crowd(frames, seed=frames)
        for frames in (1, 2, 3, 20, 63, 64, 66, 67, 68, 69, 100, 135, 300)
    ]
    assert_read(make_cache(clips), clips, 1)


def test_one_and_two_people(make_cache, crowd):
    clips = [crowd(80, 1), crowd(80, 2, 1), crowd(30, 2, 2), crowd(30, 1, 3)]
    got = assert_read(make_cache(clips), clips, 2)
    assert not got[0, 1].any()
    assert not got[3, 1].any()
    assert got[1, 1].any()


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_of_more_people_the_first_as_ranked(make_cache, crowd, slots):
    clips = [crowd(80, 4), crowd(10, 3, 1)]
    assert_read(make_cache(clips), clips, slots)


def test_people_are_two_unless_told_otherwise(make_cache, crowd):
    cache = make_cache([crowd(80, 4), crowd(70)])
    assert load_evaluation_clips(cache, np.arange(2)).shape[1] == 2
    assert torch.equal(
        load_evaluation_clips(cache, np.arange(2), people=4)[:, :2],
        load_evaluation_clips(cache, np.arange(2)),
    )
    assert load_evaluation_clips(cache, np.arange(2), people=9).shape[1] == 4


@pytest.mark.parametrize(
    ("topology", "channels"), [("ntu-25", "xyz"), ("coco-17", "xy"), ("coco-17", "xyc")]
)
def test_undetected_joints_stay_zero_wherever_the_person_stands(
    make_cache, crowd, topology, channels
):
    """The same movements here and elsewhere: joints lost for a while, joints never seen, the centre
    among them.
    """
    joints = {"ntu-25": 25, "coco-17": 17}[topology]
    here = [crowd(frames, 2, frames, joints, len(channels)) for frames in (30, 70, 100, 40)]
    centre = {"ntu-25": 1, "coco-17": 0}[topology]
    lost = [np.zeros(clip[:, :, 0].shape, dtype=bool) for clip in here]
    lost[0][:, 9] = True
    lost[1][10:25, 3:6] = True
    lost[2][:4, centre] = True
    lost[3][:, centre] = True
    there = [clip.copy() for clip in here]
    for moved, first, gone in zip(there, here, lost, strict=True):
        moved[:, :, : len(channels.rstrip("c"))] += 5
        for clip in (first, moved):
            np.moveaxis(clip, 2, -1)[gone] = 0
    cache = make_cache(here + there, topology, channels)
    got = assert_read(cache, here + there, 2)
    torch.testing.assert_close(got[:4], got[4:], rtol=1e-4, atol=1e-5)
    assert not got[0, :, :, 9].any()
    assert not got[3, :, :, centre].any()
    assert got[3].abs().max() < 4  # centred all the same


def test_clips_centred_before_stay_as_they_are(make_cache, crowd):
    """Coordinates that count from the centre joint: its zeros are a place, not a joint that was not
    detected.
    """
    raw = crowd(80) + np.float32(2)
    raw[:, 1] = raw[:, [0, 2, 20]].mean(1)  # the centre lies between its neighbours
    first, every = raw - raw[:1, 1:2], raw - raw[:, 1:2]
    got = load_evaluation_clips(make_cache([raw, first, every]), np.arange(3))
    torch.testing.assert_close(got[0], got[1], rtol=1e-4, atol=1e-5)
    position = [80 * 19 // 20 * i // 64 + 2 for i in range(64)]
    np.testing.assert_allclose(got[2, 0].numpy(), every[position, ..., 0], atol=1e-5)


def test_a_person_absent_in_the_middle_at_the_end_or_at_first(make_cache, crowd):
    clips = [crowd(frames, 2, frames) for frames in (30, 40, 90, 200, 210)]
    clips[0][10:20, ..., 1] = 0
    clips[1][25:, ..., 0] = 0
    clips[2][:30, ..., 1] = 0
    clips[3][:5, ..., 0] = 0  # the first person, who moves more, comes later
    clips[3][10:, ..., 0] += np.linspace(0, 1, 190, dtype=np.float32)[:, None, None]
    clips[4][100:, ..., 1] = 0
    got = assert_read(make_cache(clips), clips, 2)
    gone = ~got.flatten(3).any(3)
    assert gone[0, 1].any()
    assert not gone[0, 1].all()
    assert got[3, 0].abs().max() < 4  # centred all the same


def test_people_keep_their_distance(make_cache, crowd):
    clip = crowd(100, 2)
    clip[..., 1] = clip[..., 0] + 1
    got = load_evaluation_clips(make_cache([clip]), np.arange(1))
    torch.testing.assert_close(
        (got[0, 1] - got[0, 0]).abs(), torch.ones(64, 25, 3), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("channels", ["xy", "xyc", "xyzc"])
def test_other_channels(channels, make_cache, crowd):
    clips = [crowd(50, 2, joints=17, channels=len(channels)), crowd(90, 1, 1, 17, len(channels))]
    clips[0][10:30, ..., 1] = 0
    assert_read(make_cache(clips, "coco-17", channels), clips, 2)


def test_any_choice_of_clips_in_any_order(make_cache, crowd):
    clips = [crowd(40 + 10 * i, 1 + i % 2, i) for i in range(6)]
    cache = make_cache(clips)
    whole = load_evaluation_clips(cache, np.arange(6))
    some = np.array([5, 0, 5, 2])
    assert torch.equal(load_evaluation_clips(cache, some), whole[some])


def test_the_cache_is_not_written_to(make_cache, crowd):
    clip = crowd(70)
    cache = make_cache([clip])
    load_evaluation_clips(cache, np.arange(1))
    assert np.array_equal(cache.clip(0), clip)


def test_coordinates_are_the_clips_laid_flat(make_cache, crowd):
    cache = make_cache([crowd(70, 2), crowd(20, 1, 1)])
    flat = load_coordinates(cache, np.arange(2))
    assert flat.shape == (2, 2 * 64 * 25 * 3)
    assert torch.equal(flat.view(2, 2, 64, 25, 3), load_evaluation_clips(cache, np.arange(2)))

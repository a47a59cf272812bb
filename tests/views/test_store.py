"""FrameStore: a track is one person and just the frames in which that person is there."""

import numpy as np
import pytest
import torch

from slim_fast.errors import UserError
from slim_fast.views.store import FrameStore


def everything(store: FrameStore, clip: int, person_draw: float) -> np.ndarray:
    """All frames (T, V, C) of the person that `person_draw` picks."""
    track = store.tracks(torch.tensor([clip]), torch.tensor([person_draw]))
    count = int(store.frames(track))
    return store.gather(track.expand(count), torch.arange(count)).numpy()


def test_tracks_hold_every_persons_frames(make_store, walker):
    store = make_store(
        [walker(7), walker(1, seed=1), walker(20, people=2, seed=2), walker(5, people=3, seed=3)],
        people=3,
    )
    assert len(store) == 4
    for number in range(4):
        positions = store.cache.clip(number)
        people = positions.shape[3]
        for person in range(people):
            seen = everything(store, number, (person + 0.5) / people)
            assert np.array_equal(seen, positions[..., person])


def test_frames_without_the_person_are_left_out(make_store, walker):
    positions = walker(30, people=2)
    positions[10:20, ..., 1] = 0
    positions[:5, ..., 0] = 0
    store = make_store([walker(3, seed=9), positions])
    assert np.array_equal(everything(store, 1, 0.0), positions[5:, ..., 0])
    assert np.array_equal(everything(store, 1, 0.9), positions[np.r_[:10, 20:30], ..., 1])


def test_a_joint_at_the_origin_is_no_absence(make_store, walker):
    positions = walker(6)
    positions[:, :24] = 0
    assert len(everything(make_store([positions]), 0, 0.0)) == 6


def test_people_are_chosen_evenly(make_store, walker, surprise):
    store = make_store([walker(2, people=3)], people=3)
    u = torch.arange(3000) / 3000
    tracks = store.tracks(torch.zeros(3000, dtype=torch.int64), u)
    assert torch.equal(tracks, torch.arange(3).repeat_interleave(1000))
    top = torch.tensor([1 - 2.0**-24])
    assert store.tracks(torch.tensor([0]), top).item() == 2


def test_the_first_people_of_the_cache_are_shown(make_store, walker):
    clips = [walker(9, people=3, seed=1), walker(9, seed=2), walker(9, people=5, seed=3)]
    for most in (1, 2, 4):
        store = make_store(clips, people=most)
        for number in (0, 2):
            ranked = store.cache.clip(number)
            shown = min(most, ranked.shape[3])
            for person in range(shown):
                assert np.array_equal(
                    everything(store, number, (person + 0.5) / shown), ranked[..., person]
                )


def test_a_person_is_centred_where_the_centre_is_first_seen(make_store, walker):
    late, never = walker(9, people=2, seed=1), walker(9, seed=2)
    late[:3, 1, :, 0] = 0
    never[:, 1] = 0
    never[0, 4:9] = 0
    store = make_store([late, walker(9), never])
    assert not store.is_complete
    ranked = store.cache.clip(0)
    whole = int(np.argmax(ranked[0, 1].any(0)))  # the person who was never lost
    origins = [
        store.origins(store.tracks(torch.tensor([0]), torch.tensor([u])))[0].numpy()
        for u in (0.1, 0.9)
    ]
    assert np.array_equal(origins[1 - whole], ranked[3, 1, :, 1 - whole])
    assert np.array_equal(origins[whole], ranked[0, 1, :, whole])
    seen = np.r_[0, 2:4, 9:25]
    mean = store.origins(store.tracks(torch.tensor([2]), torch.tensor([0.5])))[0].numpy()
    np.testing.assert_allclose(mean, never[0, seen, :, 0].mean(0), rtol=1e-5)


def test_a_part_of_the_clips_counts_within_itself(make_store, walker):
    clips = [walker(3 + i, seed=i) for i in range(5)]
    whole = make_store(clips)
    some = FrameStore(whole.cache, np.array([4, 1]))
    assert len(some) == 2
    assert some.clips.tolist() == [4, 1]
    assert np.array_equal(everything(some, 0, 0.0), clips[4][..., 0])
    assert np.array_equal(everything(some, 1, 0.0), clips[1][..., 0])


def test_gather_broadcasts(make_store, walker):
    clips = [walker(9), walker(9, seed=1)]
    store = make_store(clips)
    track = store.tracks(torch.arange(2), torch.zeros(2))
    frames = torch.tensor([[[0, 3], [8, 8]], [[1, 1], [2, 5]]])
    got = store.gather(track[:, None, None], frames)
    assert got.shape == (2, 2, 2, 25, 3)
    assert np.array_equal(got[1, 1, 1].numpy(), clips[1][5, ..., 0])


def test_positions_on_disk_serve_the_same_frames(make_store, walker):
    mapped = make_store([walker(40)], memory="mapped")
    assert np.array_equal(everything(mapped, 0, 0.0), walker(40)[..., 0])


def test_no_clips_are_refused(make_store, walker):
    store = make_store([walker(4)])
    with pytest.raises(UserError, match="No clips to read"):
        FrameStore(store.cache, [])


def test_a_clip_that_holds_nobody_is_named(make_store, walker):
    cache = make_store([walker(4), walker(4, seed=1)]).cache
    positions = np.load(cache.path / "positions.npy", mmap_mode="r+")
    positions[4:] = 0
    positions.flush()
    with pytest.raises(UserError, match="clip-1"):
        FrameStore(cache)

"""The views of the numpy baseline are the recipe's: otherwise being faster would mean nothing."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.baselines import numpy_views
from slim_fast.skeletons import get_topology, topology_names
from tests.benchmarks.baselines.conftest import walk

WINDOWS = (64, 32, 16, 8)


COUNTS = (2, 2, 4, 2)


def bone_vectors(view, topology):
    return np.stack([view[:, child] - view[:, parent] for child, parent in topology.bones], axis=1)


@pytest.mark.parametrize("name", topology_names())
def test_views_have_the_recipes_shapes(name):
    topology = get_topology(name)
    clips = [walk(topology, frames, frames) for frames in (1, 40, 300)]
    views = numpy_views.sample_batch(clips, topology, np.random.default_rng(0))
    for window, count, view, mask in zip(WINDOWS, COUNTS, views.clips, views.masks, strict=True):
        assert view.shape == (3, count, window, topology.num_joints, 3)
        assert view.dtype == np.float32
        assert mask.shape == (3, count, window // 8, topology.num_joints)
        assert mask.dtype == bool
        assert np.isfinite(view).all()


def test_one_sample_is_reproducible_and_seeds_differ():
    topology = get_topology("ntu-25")
    clip = walk(topology)
    first, again, other = (
        numpy_views.sample_views(clip, topology, np.random.default_rng(s)) for s in (3, 3, 4)
    )
    assert all(
        np.array_equal(a, b)
        for a, b in zip(first.clips + first.masks, again.clips + again.masks, strict=True)
    )
    assert not np.array_equal(first.clips[0], other.clips[0])


@pytest.mark.parametrize("name", topology_names())
def test_mirroring_twice_is_the_identity(name):
    topology = get_topology(name)
    view = walk(topology)
    once = numpy_views.mirror(view, topology)
    assert np.array_equal(numpy_views.mirror(once, topology), view)
    assert np.array_equal(once[:, topology.mirror[0], 0], -view[:, 0, 0])


@pytest.mark.parametrize("name", topology_names())
def test_rotation_keeps_bone_lengths(name):
    topology = get_topology(name)
    view = walk(topology)
    rotated = numpy_views.rotate(view, topology, np.random.default_rng(1))
    before, after = (np.linalg.norm(bone_vectors(x, topology), axis=-1) for x in (view, rotated))
    np.testing.assert_allclose(after, before, atol=1e-5)
    assert np.abs(rotated - view).max() > 0.01


@pytest.mark.parametrize("name", topology_names())
def test_bone_scaling_keeps_directions_and_the_root(name):
    topology = get_topology(name)
    view = walk(topology).astype(np.float64)
    scaled = numpy_views.scale_bones(view, topology, np.random.default_rng(2))
    assert np.array_equal(scaled[:, topology.root], view[:, topology.root])
    before, after = bone_vectors(view, topology), bone_vectors(scaled, topology)
    factor = np.linalg.norm(after, axis=-1) / np.linalg.norm(before, axis=-1)
    np.testing.assert_allclose(after, before * factor[..., None], atol=1e-6)
    np.testing.assert_allclose(factor, np.broadcast_to(factor[:1], factor.shape), rtol=1e-4)
    assert 0.849 < factor.min() < factor.max() < 1.151
    assert np.ptp(factor[0]) > 0.01
    mirrored = {joint: f for (joint, _), f in zip(topology.bones, factor[0], strict=True)}
    assert all(
        mirrored[joint] == pytest.approx(mirrored[topology.mirror[joint]]) for joint in mirrored
    )


def test_crops_lie_inside_and_have_the_right_length():
    rng = np.random.default_rng(0)
    for _ in range(300):
        length = int(rng.integers(1, 400))
        start, cropped = numpy_views.crop(7, length, 16, (0.15, 0.4), rng)
        assert 7 <= start <= 7 + length - cropped
        assert min(16, length) <= cropped <= max(0.4 * length, min(16, length))


@pytest.mark.parametrize("length", [1, 5, 16, 20, 31, 32, 33, 150])
def test_resampling_goes_forward_in_time_and_covers_the_crop(length):
    rng = np.random.default_rng(0)
    ramp = np.arange(length, dtype=np.float32)[:, None, None]
    times = np.stack(
        [
            numpy_views.frames_at(ramp, numpy_views.window_positions(length, 16, rng))[:, 0, 0]
            for _ in range(200)
        ]
    )
    if length < 16:
        expected = F.interpolate(
            torch.from_numpy(ramp[:, 0, 0])[None, None], 16, mode="linear", align_corners=False
        )
        np.testing.assert_allclose(
            times, np.broadcast_to(expected[0].numpy(), times.shape), atol=1e-5
        )
    else:
        assert (np.diff(times, axis=1) > 0).all()
        assert set(times.ravel()) == set(range(length))


def test_short_clips_go_back_and_forth():
    long = numpy_views.lengthen(np.arange(40, dtype=np.float32).reshape(40, 1, 1))[:, 0, 0]
    assert len(long) == 160
    assert np.abs(np.diff(long)).max() == 1
    assert np.array_equal(long[:40], long[79:39:-1])


def test_views_of_a_clip_long_enough_for_a_crop_go_forwards_only():
    topology = get_topology("ntu-25")
    for length, forwards in ((15, False), (16, True), (80, True)):
        ramp = np.broadcast_to(np.arange(length, dtype=np.float32)[:, None, None], (length, 25, 3))
        global_views = []
        for seed in range(20):
            views = numpy_views.sample_views(
                ramp,
                topology,
                np.random.default_rng(seed),
                windows={16: numpy_views.Window(1, (0.5, 1), 2)},
            )
            global_views += [np.diff(np.abs(v[:, 0]).mean(-1)) for v in views.clips[0]]
        assert (np.mean([(steps > -0.2).all() for steps in global_views]) > 0.8) == forwards


def test_a_view_is_centred_on_the_first_frame():
    topology = get_topology("ntu-25")
    still = np.broadcast_to(walk(topology, 1), (200, 25, 3))
    views = numpy_views.sample_views(still, topology, np.random.default_rng(0))
    assert all(np.abs(v[:, :, topology.centre]).max() < 0.5 for v in views.clips)


@pytest.mark.parametrize(("tokens", "min_area"), [(8, 8), (4, 4), (2, 2), (1, 1)])
def test_tube_masks_meet_their_budget(tokens, min_area):
    topology = get_topology("ntu-25")
    rng = np.random.default_rng(0)
    missing = []
    for ratio in np.linspace(0.5, 0.9, 100):
        mask = numpy_views.tube_mask(tokens, topology, ratio, min_area, 100, rng)
        budget = int(ratio * mask.size)
        assert mask.sum() <= budget
        missing.append((budget - mask.sum()) / mask.size)
    assert np.mean(missing) < 0.03
    assert not numpy_views.tube_mask(tokens, topology, 0.0, min_area, 100, rng).any()


def test_masks_of_a_batch_are_stratified_and_shuffled():
    topology = get_topology("ntu-25")
    clips = [walk(topology, 30)] * 16
    masks = [
        numpy_views.sample_batch(clips, topology, np.random.default_rng(s)).masks for s in range(2)
    ]
    fractions = [m.mean(axis=(2, 3)) for m in masks[0]]
    assert (fractions[0] > 0).sum() == 16
    for fraction, window in zip(fractions, WINDOWS, strict=True):
        ordered = np.sort(fraction[fraction > 0])
        strata = 0.5 + 0.4 * np.arange(len(ordered)) / len(ordered)
        cells = window // 8 * 25
        assert np.mean(np.abs(ordered - strata)) < 0.05 + 1 / cells
    assert not np.array_equal(masks[0][0].any(axis=(2, 3)), masks[1][0].any(axis=(2, 3)))
    ratios = numpy_views.stratified_ratios(32, np.random.default_rng(0))
    assert np.array_equal(np.sort((ratios - 0.5) / 0.4 * 32).astype(int), np.arange(32))
    assert not np.array_equal(ratios, np.sort(ratios))

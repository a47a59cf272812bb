"""The views of a batch: which frames, which person, which masks, and that a batch is a function of
its key.
"""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import slim_fast.views.pipeline as pipeline
from slim_fast.skeletons import get_topology, topology_names
from slim_fast.views.pipeline import LocalViewConfig, ViewBatch, ViewSampler, ViewsConfig
from tests.views.batches import PLAIN, STILL, numbered, sample

WINDOWS, COUNTS = (64, 32, 16, 8), (2, 2, 4, 2)


def equal(a: ViewBatch, b: ViewBatch, masks: bool = True) -> bool:
    return all(
        torch.equal(x.clips, y.clips) and (not masks or torch.equal(x.mask, y.mask))
        for x, y in zip(a.groups, b.groups, strict=True)
    )


@pytest.mark.parametrize("channels", ["xyz", "xy", "xyzc", "xyc"])
@pytest.mark.parametrize("name", topology_names())
def test_shapes_of_the_recipe_on_every_topology(name, channels, make_store, walker):
    v, c = get_topology(name).num_joints, len(channels)
    store = make_store(
        [walker(frames, v, c, seed=frames) for frames in (1, 30, 200)], name, channels
    )
    batch = sample(store, ViewsConfig())
    assert [group.window for group in batch.groups] == list(WINDOWS)
    for group, window, count in zip(batch.groups, WINDOWS, COUNTS, strict=True):
        assert group.clips.shape == (3, count, window, v, c)
        assert group.clips.dtype == torch.float32
        assert group.clips.isfinite().all()
        assert group.mask.shape == (3, count, window // 8, v)
        assert group.mask.dtype == torch.bool


def test_a_batch_is_a_function_of_seed_step_and_clips(make_store, walker):
    store = make_store([walker(90 + i, people=1 + i % 2, seed=i) for i in range(6)])
    clips = torch.tensor([5, 0, 3])
    sampler = ViewSampler(store, ViewsConfig(), 7)
    first = sampler(clips, 4)
    sampler(torch.arange(6), 5)
    torch.rand(3)
    assert equal(first, sampler(clips, 4))
    assert equal(first, ViewSampler(store, ViewsConfig(), 7)(clips.clone(), 4))
    for other in (sampler(clips, 3), ViewSampler(store, ViewsConfig(), 8)(clips, 4)):
        for x, y in zip(first.groups, other.groups, strict=True):
            assert not torch.equal(x.clips, y.clips)
            assert not torch.equal(x.mask, y.mask)


def test_the_clips_of_a_part_of_the_batch_come_out_alike(make_store, walker):
    """Frames, people and augmentation belong to the clip; only the masks' ratios are dealt out over
    the batch.
    """
    store = make_store([walker(60 + 50 * i, people=1 + i % 3, seed=i) for i in range(6)])
    whole = sample(store, ViewsConfig(), clips=torch.arange(6))
    some = torch.tensor([4, 1, 5])
    part = sample(store, ViewsConfig(), clips=some)
    for x, y in zip(whole.groups, part.groups, strict=True):
        torch.testing.assert_close(x.clips[some], y.clips, rtol=1e-5, atol=1e-6)


def test_views_of_one_sample_differ(make_store, walker):
    store = make_store([walker(300)])
    for group in sample(store, ViewsConfig()).groups:
        for a, b in itertools.combinations(range(group.clips.shape[1]), 2):
            assert not torch.equal(group.clips[0, a], group.clips[0, b])


def test_long_clips_are_sampled_at_their_own_frames(make_store):
    """Whole frame numbers in the order of time, from crops of half to all of the clip."""
    batch = sample(make_store([numbered(400)] * 50))
    view = batch.groups[0].clips
    assert torch.equal(view, view[..., :1, :1].expand_as(view))
    frame = view[..., 0, 0]
    assert torch.equal(frame, frame.round())
    assert (frame.diff() > 0).all()
    assert 0 <= frame.min() < 20
    assert 380 < frame.max() < 400
    span = frame[..., -1] - frame[..., 0]
    assert 200 * 62 / 64 - 2 < span.min() < 215
    assert 370 < span.max() < 400
    assert batch.clip.tolist() == list(range(50))


def test_local_views_lie_inside_their_global_views_range(make_store, monkeypatch):
    crops = []

    def recorded(*arguments: object) -> tuple[Tensor, Tensor]:
        crops.append(crop(*arguments))
        return crops[-1]

    crop = pipeline.crop
    monkeypatch.setattr(pipeline, "crop", recorded)
    batch = sample(make_store([numbered(150 + 5 * i) for i in range(60)]))
    start, length = crops[0]  # (60, 2) of the globals
    intervals = {32: (0.35, 0.7), 16: (0.15, 0.4), 8: (0.05, 0.2)}
    for group in batch.groups:
        of = torch.arange(2).repeat_interleave(group.clips.shape[1] // 2)
        frame = group.clips[..., 0, 0]
        assert (frame >= start[:, of, None]).all()
        assert (frame <= (start + length)[:, of, None] - 1).all()
        assert (frame.diff() >= 0).all()
        if group.window in intervals:
            low, high = intervals[group.window]
            span = frame.amax(-1) - frame.amin(-1)
            longest = (length[:, of] * high).clamp_min(min(16, max(8, group.window)))
            assert (span <= longest - 1).all()
            # Of a crop, window bins show all but the ends, and a short one is shown whole.
            assert (span >= length[:, of] * low * (1 - 2 / group.window) - 3).all()
    # Both globals have local views of their own: the ranges of A's and B's differ.
    assert (start[:, 0] != start[:, 1]).any()
    first, last = batch.groups[3].clips[:, 0, :, 0, 0], batch.groups[3].clips[:, 1, :, 0, 0]
    centre_of_globals = (start + length / 2).diff(dim=1)[:, 0]
    assert (
        torch.corrcoef(torch.stack([last.mean(1) - first.mean(1), centre_of_globals]))[0, 1] > 0.3
    )


def test_short_crops_are_interpolated_between_frames(make_store):
    """A 32-frame view of fewer frames is F.interpolate of a run of frames."""
    config = replace(PLAIN, local=[LocalViewConfig(32, 1, (0.1, 0.3))])
    group = sample(make_store([numbered(150)] * 40), config).groups[1]
    frame = group.clips[..., 0, 0].flatten(0, 1)
    fractional = frame[(frame != frame.round()).any(1)]
    assert len(fractional) > 40
    for row in fractional:
        first, last = row[0].round(), row[-1].round()
        run = torch.arange(float(first), float(last) + 1)
        assert 16 <= len(run) < 32
        expected = F.interpolate(run[None, None], 32, mode="linear", align_corners=False)[0, 0]
        torch.testing.assert_close(row, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("frames", [16, 80, 149])
def test_clips_long_enough_for_a_crop_only_go_forwards(frames, make_store):
    """Crops of half to all of the clip, none of reversed motion; the longest is one frame short, as
    p stays below 1.
    """
    batch = sample(make_store([numbered(frames)] * 200))
    for group in batch.groups:
        frame = group.clips[..., 0, 0]
        assert (frame.diff() >= 0).all()
        assert 0 <= frame.min() <= frame.max() <= frames - 1
    frame = batch.groups[0].clips[..., 0, 0]
    span = frame[..., -1] - frame[..., 0] + 1
    assert span.min() >= max(16, frames // 2 - 1)
    assert span.max() >= 0.9 * frames


@pytest.mark.parametrize("frames", [2, 10, 15])
def test_short_clips_go_back_and_forth(frames, make_store):
    batch = sample(make_store([numbered(frames)] * 20))
    for group in batch.groups:
        frame = group.clips[..., 0, 0]
        assert frame.min() >= 0
        assert frame.max() <= frames - 1
        assert frame.diff().abs().max() <= 2 * math.ceil(300 / group.window)
    frame = batch.groups[0].clips[..., 0, 0]
    assert (frame.diff() > 0).any()
    assert (frame.diff() < 0).any()


def test_a_clip_of_one_frame_is_the_same_pose_throughout(make_store, walker):
    clip = walker(1)
    for group in sample(make_store([clip])).groups:
        pose = torch.from_numpy(clip[0, ..., 0] - clip[0, 1, :, 0])
        torch.testing.assert_close(group.clips, pose.expand_as(group.clips))


def test_views_show_the_person_and_are_centred_on_his_first_frame(make_store):
    """Two people who stand still in different poses: every view is one of the two, about its own
    centre.
    """
    poses = np.random.default_rng(0).normal(size=(25, 3, 2)).astype(np.float32) + 5
    store = make_store([np.broadcast_to(poses, (160, 25, 3, 2))] * 400)
    centred = torch.from_numpy(poses - poses[1]).permute(2, 0, 1)  # (2, V, 3)
    batch = sample(store)
    shown = []
    for group in batch.groups:
        distance = (group.clips[:, :, :, None] - centred).abs().amax((-1, -2))  # (B, n, w, 2)
        shown.append(distance.flatten(1, 2).amax(1) < 1e-5)
    assert all(torch.equal(shown[0], other) for other in shown[1:])
    assert (shown[0].sum(1) == 1).all()
    assert abs(shown[0][:, 0].sum() - 200) < 5 * math.sqrt(400 / 4)


def test_a_person_absent_in_the_middle_is_seen_only_while_there(make_store):
    clip = numbered(300, people=2)
    clip[100:200, ..., 1] = 0
    batch = sample(make_store([clip] * 40))
    frame = batch.groups[0].clips[..., 0, 0].flatten(0, 1)  # (80, 64)
    holes = ((frame > 99) & (frame < 200)).any(1).view(40, 2)
    assert holes.any()  # the first person, who is always there
    second = ~holes.any(1)
    assert second.any()
    assert (frame.view(40, -1)[second].amax(1) >= 200).any()
    assert (frame >= 0).all()  # an absent frame, centred, would be negative


def test_the_centre_is_the_persons_own_first_frame(make_store):
    clip = numbered(300, people=2)
    clip[:50, ..., 1] = 0  # comes later
    frame = sample(make_store([clip] * 30)).groups[0].clips[..., 0, 0]
    assert (frame >= 0).all()
    assert frame.max() < 300


@pytest.mark.parametrize("channels", ["xyc", "xyzc"])
def test_confidence_is_neither_centred_nor_turned_nor_noisy(channels, make_store, walker):
    clip = walker(200, channels=len(channels))
    clip[:, :, -1] = 0.625
    for group in sample(make_store([clip] * 8, channels=channels), ViewsConfig()).groups:
        assert (group.clips[..., -1] == 0.625).all()
        assert (group.clips[..., :-1].abs() < 10).all()


def test_only_global_views(make_store, walker):
    batch = sample(make_store([walker(100)] * 3), ViewsConfig(local=[]))
    assert [group.clips.shape[1] for group in batch.groups] == [2]


def test_other_windows_and_counts(make_store, walker):
    config = ViewsConfig(
        window=24, local=[LocalViewConfig(16, 3, (0.2, 0.5)), LocalViewConfig(8, 0, (0.1, 0.2))]
    )
    batch = sample(make_store([walker(100)] * 3), config)
    assert [tuple(group.clips.shape[1:3]) for group in batch.groups] == [(2, 24), (6, 16), (0, 8)]
    assert [tuple(group.mask.shape[1:]) for group in batch.groups] == [
        (2, 3, 25),
        (6, 2, 25),
        (0, 1, 25),
    ]


def test_noise_follows_the_views_kind(make_store):
    """A person at rest: what remains is the noise, always on the first global view, on half of the
    local ones.
    """
    still = np.broadcast_to(numbered(1), (160, 25, 3, 1))
    batch = sample(
        make_store([still] * 200),
        ViewsConfig(augment=replace(STILL, noise_probability=(1.0, 0.1, 0.5))),
    )
    spread = [group.clips.std((2, 3, 4)) for group in batch.groups]
    assert ((spread[0][:, 0] - 0.01).abs() < 0.001).all()
    second = spread[0][:, 1]
    assert 5 < (second > 0).sum() < 45
    assert ((second[second > 0] - 0.05).abs() < 0.005).all()
    for local in spread[1:]:
        noisy = local[local > 0]
        assert abs(len(noisy) / local.numel() - 0.5) < 5 * 0.5 / math.sqrt(local.numel())
        assert ((noisy - 0.01).abs() < 0.002).all()


@pytest.mark.parametrize("kind", ["tube", "random", "motion"])
def test_parts_of_a_batch_are_those_of_the_whole(kind, make_store, walker):
    """Masks exactly, and coordinates but for the last bit of a vectorised function."""
    store = make_store([walker(90 + i, seed=i) for i in range(6)])
    config = replace(ViewsConfig(), mask=replace(ViewsConfig().mask, kind=kind))
    clips, sampler = torch.tensor([5, 0, 3, 3, 1, 2]), ViewSampler(store, config, 7)
    whole = sampler(clips, 4)
    for part in (slice(0, 2), slice(2, 4), slice(4, 6)):
        views = sampler(clips, 4, part)
        assert torch.equal(views.clip, clips[part])
        assert views.max_masked <= whole.max_masked
        assert int(views.groups[0].mask.sum()) <= views.max_masked
        for ours, theirs in zip(views.groups, whole.groups, strict=True):
            assert torch.equal(ours.mask, theirs.mask[part])
            torch.testing.assert_close(ours.clips, theirs.clips[part], rtol=0, atol=1e-6)

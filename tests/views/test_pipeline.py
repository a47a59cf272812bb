"""The views of a batch: which frames, which person, which masks, and that a batch is a function of its key."""

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
from slim_fast.views.augment import AugmentConfig
from slim_fast.views.masks import MaskConfig
from slim_fast.views.pipeline import LocalViewConfig, ViewBatch, ViewSampler, ViewsConfig

STILL = AugmentConfig(mirror=0.0, scale=0.0, rotate=0.0, noise_probability=(0.0, 0.0, 0.0), flatten=0.0)
PLAIN = ViewsConfig(augment=STILL)
WINDOWS, COUNTS = (64, 32, 16, 8), (2, 2, 4, 2)


def numbered(frames: int, people: int = 1) -> np.ndarray:
    """A clip whose coordinates are 1 + 1000 × person + frame number, everywhere. After centring: the frame number."""
    code = 1 + 1000 * np.arange(people) + np.arange(frames)[:, None]
    return np.broadcast_to(code[:, None, None, :], (frames, 25, 3, people)).astype(np.float32)


def sample(store, config: ViewsConfig = PLAIN, step: int = 0, seed: int = 0, clips: Tensor | None = None) -> ViewBatch:
    return ViewSampler(store, config, seed)(torch.arange(len(store)) if clips is None else clips, step)


def equal(a: ViewBatch, b: ViewBatch, masks: bool = True) -> bool:
    return all(
        torch.equal(x.clips, y.clips) and (not masks or torch.equal(x.mask, y.mask))
        for x, y in zip(a.groups, b.groups, strict=True)
    )


@pytest.mark.parametrize("channels", ["xyz", "xy", "xyzc", "xyc"])
@pytest.mark.parametrize("name", topology_names())
def test_shapes_of_the_recipe_on_every_topology(name, channels, make_store, walker):
    v, c = get_topology(name).num_joints, len(channels)
    store = make_store([walker(frames, v, c, seed=frames) for frames in (1, 30, 200)], name, channels)
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
    """Frames, people and augmentation belong to the clip; only the masks' ratios are dealt out over the batch."""
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
    assert torch.corrcoef(torch.stack([last.mean(1) - first.mean(1), centre_of_globals]))[0, 1] > 0.3


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


@pytest.mark.parametrize("frames", [2, 10, 75, 149])
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
    """Two people who stand still in different poses: every view is one of the two, about its own centre."""
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


def test_half_of_the_global_views_and_all_local_views_are_masked(make_store, walker):
    store = make_store([walker(150, seed=i) for i in range(16)])
    patterns = set()
    for step in range(6):
        masked = [group.mask.any(-1).any(-1) for group in sample(store, step=step).groups]
        assert masked[0].sum() == 16
        assert all(local.all() for local in masked[1:])
        patterns.add(tuple(masked[0].flatten().tolist()))
    assert len(patterns) == 6


@pytest.mark.parametrize("kind", ["random", "motion"])
def test_ratios_are_stratified_over_the_batch(kind, make_store, walker):
    """These kinds meet their budgets exactly, which shows the ratios to within a cell."""
    store = make_store([walker(150, seed=i) for i in range(12)])
    config = replace(PLAIN, mask=MaskConfig(kind=kind))
    for group in sample(store, config).groups:
        cells = group.mask.shape[2] * 25
        counts = group.mask.sum((2, 3)).flatten().sort().values
        counts = counts[counts > 0]
        edges = 0.5 + 0.4 * torch.arange(len(counts) + 1) / len(counts)
        assert len(counts) == {64: 12, 32: 24, 16: 48, 8: 24}[group.window]
        assert (counts >= (edges[:-1] * cells - 1e-3).floor()).all()
        assert (counts <= edges[1:] * cells + 1e-3).all()


def test_a_samples_place_does_not_fix_its_ratio(make_store, walker):
    """Shuffled by default, globals and locals; in order, as released, on request."""
    store = make_store([walker(150, seed=i) for i in range(12)])
    for shuffled in (True, False):
        config = replace(PLAIN, mask=MaskConfig(kind="random", shuffle_local=shuffled))
        mean = torch.zeros(4, 12)
        for step in range(30):
            for g, group in enumerate(sample(store, config, step).groups):
                mean[g] += group.mask.double().mean((1, 2, 3)) / 30
        ascending = [(row.diff() > 0).all().item() for row in mean]
        assert ascending == [False, *[not shuffled] * 3]
        assert mean[0].std() < 0.1


def test_tube_masks_stay_within_their_ratios(make_store, walker):
    store = make_store([walker(150, seed=i) for i in range(12)])
    for group in sample(store, replace(PLAIN, mask=MaskConfig(ratio=(0.6, 0.6)))).groups:
        cells = group.mask.shape[2] * 25
        counts = group.mask.sum((2, 3)).flatten()
        assert counts.max() <= int(0.6 * cells + 1e-3)
        assert counts[counts > 0].double().mean() > 0.55 * cells


@pytest.mark.parametrize(("share", "masked"), [(0.0, 0), (0.25, 6), (1.0, 24)])
def test_the_masked_share_of_the_globals_and_masks_on_locals_are_options(share, masked, make_store, walker):
    store = make_store([walker(150, seed=i) for i in range(12)])
    batch = sample(store, replace(PLAIN, mask=MaskConfig(global_share=share, local=False)))
    assert batch.groups[0].mask.any(-1).any(-1).sum() == masked
    assert not any(group.mask.any() for group in batch.groups[1:])


def test_masks_do_not_depend_on_what_the_views_show(make_store, walker):
    a, b = (make_store([walker(150, seed=i + s) for i in range(4)]) for s in (0, 50))
    for x, y in zip(sample(a).groups, sample(b).groups, strict=True):
        assert torch.equal(x.mask, y.mask)


def test_masks_of_a_samples_views_are_drawn_apart(make_store, walker):
    store = make_store([walker(150, seed=i) for i in range(200)])
    mask = sample(store).groups[3].mask[:, :, 0].float()  # two views of 25 cells
    a, b = (mask[:, i] - mask[:, i].mean(1, keepdim=True) for i in range(2))
    agreement = (a * b).sum() / (a.norm() * b.norm())
    assert abs(agreement) < 0.1


def test_only_global_views(make_store, walker):
    batch = sample(make_store([walker(100)] * 3), ViewsConfig(local=[]))
    assert [group.clips.shape[1] for group in batch.groups] == [2]


def test_other_windows_and_counts(make_store, walker):
    config = ViewsConfig(window=24, local=[LocalViewConfig(16, 3, (0.2, 0.5)), LocalViewConfig(8, 0, (0.1, 0.2))])
    batch = sample(make_store([walker(100)] * 3), config)
    assert [tuple(group.clips.shape[1:3]) for group in batch.groups] == [(2, 24), (6, 16), (0, 8)]
    assert [tuple(group.mask.shape[1:]) for group in batch.groups] == [(2, 3, 25), (6, 2, 25), (0, 1, 25)]


def test_noise_follows_the_views_kind(make_store):
    """A person at rest: what remains is the noise, always on the first global view, on half of the local ones."""
    still = np.broadcast_to(numbered(1), (160, 25, 3, 1))
    batch = sample(make_store([still] * 200), ViewsConfig(augment=replace(STILL, noise_probability=(1.0, 0.1, 0.5))))
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
@pytest.mark.parametrize("ratio", [(0.5, 0.9), (0.3, 0.3), (0.0, 1.0)])
def test_the_most_that_can_be_masked_is_known_beforehand(kind, ratio, make_store, walker):
    """A bound, and a close one: kinds that meet their budgets come within a stratum's width of it."""
    store = make_store([walker(150, seed=i) for i in range(10)])
    config = replace(PLAIN, mask=MaskConfig(kind=kind, ratio=ratio))
    for step in range(5):
        views = sample(store, config, step)
        masked, bound = int(views.groups[0].mask.sum()), views.most_masked
        assert bound is not None
        assert masked <= bound <= views.groups[0].mask.numel()
        if kind != "tube":
            assert masked >= bound - 200 * (ratio[1] - ratio[0]) - 10 - 1
    nothing = replace(PLAIN, mask=MaskConfig(global_share=0.0))
    assert sample(store, nothing).most_masked == 0

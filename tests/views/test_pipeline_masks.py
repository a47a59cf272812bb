"""Masks of a batch of views, and joints that were not detected in them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from slim_fast.skeletons import get_topology
from slim_fast.views.augment import AugmentConfig
from slim_fast.views.masks import MaskConfig
from slim_fast.views.pipeline import ViewsConfig
from tests.views.batches import PLAIN, STILL, numbered, sample


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
def test_the_masked_share_of_the_globals_and_masks_on_locals_are_options(
    share, masked, make_store, walker
):
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


@pytest.mark.parametrize("kind", ["tube", "random", "motion"])
@pytest.mark.parametrize("ratio", [(0.5, 0.9), (0.3, 0.3), (0.0, 1.0)])
def test_the_most_that_can_be_masked_is_known_beforehand(kind, ratio, make_store, walker):
    """A bound, and a close one: kinds that meet their budgets come within a stratum of it."""
    store = make_store([walker(150, seed=i) for i in range(10)])
    config = replace(PLAIN, mask=MaskConfig(kind=kind, ratio=ratio))
    for step in range(5):
        views = sample(store, config, step)
        masked, bound = int(views.groups[0].mask.sum()), views.max_masked
        assert bound is not None
        assert masked <= bound <= views.groups[0].mask.numel()
        if kind != "tube":
            assert masked >= bound - 200 * (ratio[1] - ratio[0]) - 10 - 1
    nothing = replace(PLAIN, mask=MaskConfig(global_share=0.0))
    assert sample(store, nothing).max_masked == 0


@pytest.mark.parametrize(
    ("name", "channels"), [("coco-17", "xy"), ("coco-17", "xyc"), ("ntu-25", "xyz")]
)
def test_undetected_joints_stay_zero_and_views_do_not_depend_on_where_one_stands(
    name, channels, make_store, walker
):
    """With everything drawn (mirrors, scales, turns, noise): the same joints are zeros, and the
    same pose elsewhere gives the same views.
    """
    topology, dims = get_topology(name), len(channels.rstrip("c"))
    here = [walker(120, topology.num_joints, len(channels), seed=i) for i in range(20)]
    for number, clip in enumerate(here):
        # never seen; of one clip that is the centre, of one the root
        clip[:, number % topology.num_joints] = 0
        clip[: number + 1, topology.centre] = 0
        clip[40:60, -1] = 0
    there = [np.where(clip != 0, clip + np.float32(7), 0) for clip in here]
    for moved, clip in zip(there, here, strict=True):
        moved[:, :, dims:] = clip[:, :, dims:]
    always = ViewsConfig(
        augment=AugmentConfig(mirror=1.0, scale=1.0, rotate=1.0, noise_probability=(1.0, 1.0, 1.0))
    )
    batches = [sample(make_store(clips, name, channels), always).groups for clips in (here, there)]
    for one, other in zip(*batches, strict=True):
        torch.testing.assert_close(one.clips, other.clips, rtol=1e-4, atol=2e-5)
        for number in range(20):
            joint = topology.mirror[number % topology.num_joints]
            assert not one.clips[number, :, :, joint].any()
        # nobody was thrown where the origin was
        assert one.clips[..., :dims].norm(dim=-1).max() < 8


def test_what_is_undetected_does_not_bend_the_others(make_store, walker):
    """Scaled by one factor for all kinds of bones, the detected joints are where they are when all
    is detected.
    """
    whole = walker(100)
    config = replace(PLAIN, augment=replace(STILL, scale=1.0, scale_range=(1.1, 1.1)))
    lost = whole.copy()
    gone = [5, 9, 12, 22]
    lost[:, gone] = 0
    full, part = (sample(make_store([clip]), config).groups for clip in (whole, lost))
    others = [joint for joint in range(25) if joint not in gone]
    for a, b in zip(full, part, strict=True):
        torch.testing.assert_close(
            a.clips[..., others, :], b.clips[..., others, :], rtol=1e-4, atol=1e-5
        )


def test_a_joint_is_not_interpolated_with_its_absence(make_store):
    """A crop of 16 frames stretched over 64: a joint lost in every other frame is nowhere between
    place and zero.
    """
    clip = numbered(16) + np.float32(40)
    clip[::2, 7] = 0
    config = replace(PLAIN, interval=(1.0, 1.0), local=[])
    view = sample(make_store([clip]), config).groups[0].clips[0, :, :, 7]
    assert (view == 0).any()
    assert ((view == 0) | (view == view.round())).all()
    assert view[view != 0].min() >= 1

"""Mirroring, bone scaling, rotation and noise: what each keeps and what it changes, on every
topology.
"""

import itertools
import math
import re

import numpy as np
import pytest
import torch
from torch import Tensor

from slim_fast.skeletons import Topology, get_topology, topology_names
from slim_fast.views.augment import AugmentConfig, SkeletonAugmenter
from slim_fast.views.random_stream import RandomStream

OFF = {
    "mirror": 0.0,
    "scale": 0.0,
    "rotate": 0.0,
    "noise_probability": (0.0, 0.0, 0.0),
    "flatten": 0.0,
}
NTU = get_topology("ntu-25")


def augmenter(topology: Topology, channels: str = "xyz", **changes: object) -> SkeletonAugmenter:
    return SkeletonAugmenter(topology, channels, AugmentConfig(**{**OFF, **changes}))  # type: ignore[arg-type]


def views(topology: Topology, channels: int = 3, count: int = 6, window: int = 4) -> Tensor:
    return torch.randn(count, window, topology.num_joints, channels) + 1


def streams(count: int) -> RandomStream:
    return RandomStream.of(0, torch.arange(count))


def bones(clips: Tensor, topology: Topology) -> Tensor:
    child, parent = (list(joints) for joints in zip(*topology.bones, strict=True))
    return clips[..., child, :] - clips[..., parent, :]


@pytest.fixture(params=topology_names())
def topology(request) -> Topology:
    return get_topology(request.param)


@pytest.mark.parametrize("channels", ["xyz", "xy", "xyzc", "xyc"])
def test_mirroring_swaps_sides_and_negates_x_and_twice_is_the_identity(topology, channels):
    clips = views(topology, len(channels))
    mirror = augmenter(topology, channels, mirror=1.0)
    once = mirror(clips, streams(6))
    expected = clips[:, :, list(topology.mirror)].clone()
    expected[..., 0] *= -1
    assert torch.equal(once, expected)
    assert torch.equal(mirror(once, streams(6)), clips)


def test_nothing_drawn_changes_nothing(topology):
    clips = views(topology)
    assert torch.equal(augmenter(topology)(clips, streams(6)), clips)
    assert torch.equal(
        augmenter(topology, scale=1.0, scale_range=(1.0, 1.0))(clips, streams(6)), clips
    )


@pytest.mark.parametrize("channels", ["xyz", "xy"])
def test_rotation_keeps_bone_lengths_and_distances_from_the_origin(topology, channels):
    clips = views(topology, len(channels))
    turned = augmenter(topology, channels, rotate=1.0)(clips, streams(6))
    torch.testing.assert_close(
        bones(turned, topology).norm(dim=-1), bones(clips, topology).norm(dim=-1)
    )
    torch.testing.assert_close(turned.norm(dim=-1), clips.norm(dim=-1))
    assert (turned - clips).abs().amax((1, 2, 3)).min() > 1e-3
    assert torch.equal(augmenter(topology, channels, rotate=1.0)(clips, streams(6)), turned)


def test_rotation_is_rigid_and_no_mirror(topology):
    matrix = augmenter(topology, rotate=1.0, tilt=0.8, turn=3.0).rotations(streams(50)).double()
    identity = torch.eye(3, dtype=torch.float64).expand(50, 3, 3)
    torch.testing.assert_close(matrix @ matrix.mT, identity, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        torch.linalg.det(matrix), torch.ones(50, dtype=torch.float64), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("up", ["y", "-y", "z", "-z"])
def test_the_turn_is_about_the_vertical_and_uniform(up, surprise):
    fields = NTU.to_dict() | {"up": up}
    topology = Topology.from_dict(fields)
    matrix = augmenter(topology, rotate=1.0, tilt=0.0, turn=0.3).rotations(streams(20_000))
    vertical = "xyz".index(up[-1])
    level = [axis for axis in range(3) if axis != vertical]
    assert torch.equal(matrix[:, vertical], torch.eye(3)[vertical].expand(20_000, 3))
    angle = torch.atan2(matrix[:, level[0], level[1]], matrix[:, level[0], level[0]])
    assert angle.abs().max() <= 0.3 + 1e-6
    assert surprise(torch.histc(angle, 50, -0.3, 0.3)) < 5


@pytest.mark.parametrize("up", ["y", "-y", "z", "-z"])
def test_the_tilt_is_about_both_level_axes_and_uniform(up, surprise):
    topology = Topology.from_dict(NTU.to_dict() | {"up": up})
    many = 20_000
    matrix = (
        augmenter(topology, rotate=1.0, tilt=0.3, turn=0.0)
        .rotations(streams(many))
        .double()
        .numpy()
    )
    vertical = "xyz".index(up[-1])
    level = 3 - vertical
    # Row vectors turn about x first, which leaves e_x to the second turn: its angle, undone, leaves
    # a turn about x.
    second = np.arctan2(matrix[:, 0, vertical], matrix[:, 0, 0])
    undo = np.zeros((many, 3, 3))
    undo[:, level, level] = 1
    undo[:, 0, 0] = undo[:, vertical, vertical] = np.cos(second)
    undo[:, 0, vertical], undo[:, vertical, 0] = -np.sin(second), np.sin(second)
    rest = matrix @ undo
    np.testing.assert_allclose(rest[:, 0], np.broadcast_to([1, 0, 0], (many, 3)), atol=1e-6)
    first = np.arctan2(rest[:, level, vertical], rest[:, level, level])
    for angle in (first, second):
        assert np.abs(angle).max() <= 0.3 + 1e-6
        assert surprise(torch.histc(torch.from_numpy(angle), 50, -0.3, 0.3)) < 5
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / math.sqrt(many)


def test_in_an_image_rotation_stays_within_the_tilt(topology, surprise):
    matrix = augmenter(topology, "xy", rotate=1.0, tilt=0.2, turn=3.0).rotations(streams(5000))
    angle = torch.atan2(matrix[:, 0, 1], matrix[:, 0, 0])
    assert matrix.shape == (5000, 2, 2)
    assert angle.abs().max() <= 0.2 + 1e-6
    assert surprise(torch.histc(angle, 20, -0.2, 0.2)) < 5


@pytest.mark.parametrize("channels", ["xyz", "xy"])
def test_bone_scaling_keeps_directions_sides_and_the_root(topology, channels):
    clips = views(topology, len(channels), count=40)
    for child, parent in topology.bones:  # bones of 0.5 to 1.5, in any direction
        direction = torch.nn.functional.normalize(clips[:, :, child], dim=-1)
        clips[:, :, child] = clips[:, :, parent] + direction * (0.5 + torch.rand(40, 4, 1))
    scaled = augmenter(topology, channels, scale=1.0)(clips, streams(40))
    torch.testing.assert_close(
        scaled[:, :, topology.root], clips[:, :, topology.root], rtol=1e-6, atol=1e-6
    )
    before, after = bones(clips, topology), bones(scaled, topology)
    factor = after.norm(dim=-1) / before.norm(dim=-1)
    # no bone turns
    torch.testing.assert_close(after, before * factor[..., None], rtol=1e-4, atol=1e-5)
    # nor changes in time
    torch.testing.assert_close(factor, factor[:, :1].expand_as(factor), rtol=1e-4, atol=1e-4)
    assert factor.min() > 0.85 - 1e-4
    assert factor.max() < 1.15 + 1e-4
    number = {child: i for i, (child, _) in enumerate(topology.bones)}
    for child, i in number.items():
        torch.testing.assert_close(
            factor[:, 0, i], factor[:, 0, number[topology.mirror[child]]], rtol=1e-4, atol=1e-4
        )
    kinds = {re.sub("^(left|right)_", "", part): joints for part, joints in topology.parts.items()}
    for kind, joints in kinds.items():
        inside = factor[:, 0, [number[joint] for joint in joints if joint in number]]
        assert (inside - inside[:, :1]).abs().max() < 1e-3, f"bones of the {kind} differ"
    assert factor[:, 0].std(0).min() > 0.04  # of the uniform distribution: 0.087


def test_scaling_factors_are_uniform_and_independent(surprise):
    many = 20_000
    matrix, _ = augmenter(NTU, scale=1.0).joint_matrices(streams(many))
    # The diagonal holds the factor of the bone that ends at the joint.
    trunk, arm, leg = (matrix[:, joint, joint] for joint in (1, 5, 13))
    for factor in (trunk, arm, leg):
        assert 0.85 <= factor.min() < factor.max() <= 1.15
        assert surprise(torch.histc(factor, 50, 0.85, 1.15)) < 5
    for a, b in itertools.combinations((trunk, arm, leg), 2):
        assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 5 / math.sqrt(many)


def test_each_is_drawn_half_of_the_time_independently_and_anew_for_every_view(surprise):
    stream = RandomStream.of(0, torch.arange(4000)[:, None]).fold_in(torch.arange(5))
    both = SkeletonAugmenter(NTU, "xyz", AugmentConfig())
    matrix, side = both.joint_matrices(stream)
    scaled = (matrix - matrix.round()).abs().amax((-1, -2)) > 1e-4
    rotated = (both.rotations(stream) - torch.eye(3)).abs().amax((-1, -2)) > 0
    combination = (side < 0) * 4 + scaled * 2 + rotated * 1
    assert surprise(torch.bincount(combination.flatten(), minlength=8)) < 5
    for drawn in (side < 0, scaled, rotated):
        agree = (drawn[:, 1:] == drawn[:, :-1]).float().mean()
        assert abs(agree - 0.5) < 5 * 0.5 / math.sqrt(16_000)


@pytest.mark.parametrize("channels", ["xyz", "xyzc", "xy", "xyc"])
def test_mirroring_comes_first_then_scaling_then_rotation(topology, channels):
    clips = views(topology, len(channels))
    step_by_step = clips
    for one in ("mirror", "scale", "rotate"):
        step_by_step = augmenter(topology, channels, **{one: 1.0})(step_by_step, streams(6))
    at_once = augmenter(topology, channels, mirror=1.0, scale=1.0, rotate=1.0)(clips, streams(6))
    torch.testing.assert_close(at_once, step_by_step, rtol=1e-4, atol=1e-5)
    if channels.endswith("c"):
        assert torch.equal(at_once[..., -1], clips[:, :, list(topology.mirror), -1])


def test_a_view_is_augmented_alike_in_any_company():
    config = AugmentConfig(noise_probability=(1.0, 1.0, 1.0))
    augment, stream = (
        SkeletonAugmenter(NTU, "xyz", config),
        RandomStream.of(0, torch.arange(30)).fold_in(1),
    )
    clips, kind = views(NTU, count=30), torch.arange(30) % 3
    together = augment.add_noise(augment(clips, stream), kind, stream)
    some = torch.tensor([17, 3])
    alone = augment.add_noise(augment(clips[some], stream[some]), kind[some], stream[some])
    torch.testing.assert_close(alone, together[some], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "sigma", "probability"), [(0, 0.01, 1.0), (1, 0.05, 0.1), (2, 0.01, 0.5)]
)
def test_noise_has_the_configured_strength_and_frequency(kind, sigma, probability):
    many = 4000
    augment = SkeletonAugmenter(NTU, "xyz", AugmentConfig(flatten=0.0))
    clean = torch.zeros(many, 8, 25, 3)
    noise = augment.add_noise(clean, torch.full((many,), kind), streams(many))
    noisy = noise.abs().amax((1, 2, 3)) > 0
    spread = math.sqrt(probability * (1 - probability) / many)
    assert abs(noisy.double().mean() - probability) <= 5 * spread
    drawn = noise[noisy].double()
    count = drawn.numel()
    assert abs(drawn.mean()) < 5 * sigma / math.sqrt(count)
    assert abs(drawn.std() / sigma - 1) < 5 / math.sqrt(2 * count)
    # frames, joints, axes
    for shifted in (drawn.roll(1, 1), drawn.roll(1, 2), drawn.roll(1, 3), drawn.roll(1, 0)):
        assert abs((drawn * shifted).mean() / sigma**2) < 5 / math.sqrt(count)


def test_one_axis_of_second_global_views_is_zeroed_now_and_then(surprise):
    many = 6000
    augment = augmenter(NTU, "xyzc", flatten=0.2)
    kind = torch.arange(3 * many) % 3
    flat = augment.add_noise(torch.ones(3 * many, 2, 25, 4), kind, streams(3 * many))
    zeroed = (flat == 0).all(1).all(1)  # (N, C)
    assert not zeroed[kind != 1].any()
    assert not zeroed[:, 3].any()  # the confidence is no axis
    assert zeroed.sum(1).max() == 1
    assert abs(zeroed[kind == 1].any(1).double().mean() - 0.2) < 5 * math.sqrt(0.16 / many)
    assert surprise(zeroed[kind == 1][:, :3].sum(0)) < 5
    assert ((flat == 1) | (flat == 0)).all()


@pytest.mark.parametrize("channels", ["xyc", "xyzc"])
def test_noise_leaves_the_confidence_alone(channels):
    clips = torch.rand(20, 4, 25, len(channels))
    augment, kind = (
        SkeletonAugmenter(NTU, channels, AugmentConfig()),
        torch.zeros(20, dtype=torch.int64),
    )
    noisy = augment.add_noise(clips, kind, streams(20))
    assert torch.equal(noisy[..., -1], clips[..., -1])
    assert ((noisy[..., :-1] - clips[..., :-1]).abs().amax((1, 2)) > 0).all()


def test_noise_neither_touches_its_input_nor_needs_it_contiguous():
    # (2, 10, w, V, C), the views not last to vary
    clips = torch.rand(4, 25, 10, 2, 3).permute(3, 2, 0, 1, 4)
    before = clips.clone()
    augment, stream = (
        SkeletonAugmenter(NTU, "xyz", AugmentConfig()),
        RandomStream.of(0, torch.arange(20).view(2, 10)),
    )
    kind = (torch.arange(20) % 3).view(2, 10)
    noisy = augment.add_noise(clips, kind, stream)
    assert torch.equal(clips, before)
    assert torch.equal(noisy, augment.add_noise(before, kind, stream))
    assert ((noisy - before).abs().amax((2, 3, 4)) > 0)[kind == 0].all()


def test_an_axis_that_is_zeroed_holds_no_noise():
    clips = torch.rand(50, 4, 25, 3)
    augment = augmenter(NTU, noise_probability=(1.0, 1.0, 1.0), flatten=1.0)
    noisy = augment.add_noise(clips, torch.ones(50, dtype=torch.int64), streams(50))
    assert ((noisy == 0).all(1).all(1).sum(1) == 1).all()

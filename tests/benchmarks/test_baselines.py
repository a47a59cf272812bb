"""The baselines compute the recipe: otherwise being faster than they are would mean nothing."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.baselines import numpy_views
from benchmarks.baselines.eager_encoder import Encoder
from benchmarks.baselines.eager_slim import (
    EagerConfig,
    EagerSLiM,
    cross_entropy,
    koleo,
    make_optimizer,
    sinkhorn,
)
from slim_fast.skeletons import get_topology, topology_names

PARITY = Path(os.environ.get("SLIM_FAST_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "parity"
WINDOWS = (64, 32, 16, 8)
COUNTS = (2, 2, 4, 2)
SMALL = EagerConfig(joints=17, width=16, depth=2, heads=2, registers=2, head_hidden=32, head_width=16, prototypes=24)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def walk(topology, frames=90, seed=0):
    """A moving random skeleton (T, V, 3)."""
    rng = np.random.default_rng(seed)
    bones = rng.normal(0, 0.2, (1, topology.num_joints, 3)) + rng.normal(0, 0.03, (frames, topology.num_joints, 3))
    path = np.cumsum(rng.normal(0, 0.02, (frames, 1, 3)), axis=0) + np.array([0.3, 1.0, 2.5])
    return (bones + path).astype(np.float32)


def bone_vectors(view, topology):
    return np.stack([view[:, child] - view[:, parent] for child, parent in topology.bones], axis=1)


def torch_batch(batch=4, topology_name="coco-17", seed=0):
    topology = get_topology(topology_name)
    clips = [walk(topology, 60 + 20 * i, seed + i) for i in range(batch)]
    views = numpy_views.sample_batch(clips, topology, np.random.default_rng(seed))
    return [torch.from_numpy(x) for x in views.clips], [torch.from_numpy(x) for x in views.masks]


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
    first, again, other = (numpy_views.sample_views(clip, topology, np.random.default_rng(s)) for s in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first.clips + first.masks, again.clips + again.masks, strict=True))
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
    turned = numpy_views.rotate(view, topology, np.random.default_rng(1))
    before, after = (np.linalg.norm(bone_vectors(x, topology), axis=-1) for x in (view, turned))
    np.testing.assert_allclose(after, before, atol=1e-5)
    assert np.abs(turned - view).max() > 0.01


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
    assert all(mirrored[joint] == pytest.approx(mirrored[topology.mirror[joint]]) for joint in mirrored)


def test_crops_lie_inside_and_have_the_asked_length():
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
    times = np.stack([numpy_views.resample(ramp, 16, rng)[:, 0, 0] for _ in range(200)])
    if length < 16:
        expected = F.interpolate(torch.from_numpy(ramp[:, 0, 0])[None, None], 16, mode="linear", align_corners=False)
        np.testing.assert_allclose(times, np.broadcast_to(expected[0].numpy(), times.shape), atol=1e-5)
    else:
        assert (np.diff(times, axis=1) > 0).all()
        assert set(times.ravel()) == set(range(length))


def test_short_clips_go_back_and_forth():
    long = numpy_views.lengthen(np.arange(40, dtype=np.float32).reshape(40, 1, 1))[:, 0, 0]
    assert len(long) == 160
    assert np.abs(np.diff(long)).max() == 1
    assert np.array_equal(long[:40], long[79:39:-1])


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
    masks = [numpy_views.sample_batch(clips, topology, np.random.default_rng(s)).masks for s in range(2)]
    shares = [m.mean(axis=(2, 3)) for m in masks[0]]
    assert (shares[0] > 0).sum() == 16
    for share, window in zip(shares, WINDOWS, strict=True):
        ordered = np.sort(share[share > 0])
        strata = 0.5 + 0.4 * np.arange(len(ordered)) / len(ordered)
        cells = window // 8 * 25
        assert np.mean(np.abs(ordered - strata)) < 0.05 + 1 / cells
    assert not np.array_equal(masks[0][0].any(axis=(2, 3)), masks[1][0].any(axis=(2, 3)))
    ratios = numpy_views.stratified_ratios(32, np.random.default_rng(0))
    assert np.array_equal(np.sort((ratios - 0.5) / 0.4 * 32).astype(int), np.arange(32))
    assert not np.array_equal(ratios, np.sort(ratios))


def test_encoder_has_the_published_size():
    assert sum(p.numel() for p in Encoder().parameters()) == 6_368_768


def test_encoder_equals_its_formula_in_float64():
    """Written out for one clip and one block: rotations as complex numbers, attention head by head."""
    encoder = Encoder(joints=3, width=8, depth=1, heads=2, registers=2).double()
    for p in encoder.parameters():
        p.data = torch.randn_like(p)
    w = {name: p.detach().numpy() for name, p in encoder.named_parameters()}
    rng = np.random.default_rng(0)
    clip, mask = rng.normal(size=(16, 3, 3)), np.array([[True, False, True], [False, False, True]])

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"blocks.0.{name}.weight"].T + w[f"blocks.0.{name}.bias"]

    patches = np.stack(
        [
            w["mask_token"][0]
            if mask[t, v]
            else np.einsum("fc,dcf->d", clip[8 * t : 8 * t + 8, v], w["patch_embed.proj.weight"][..., 0])
            + w["patch_embed.proj.bias"]
            for t in range(2)
            for v in range(3)
        ]
    )
    patches += np.tile(w["pos_embed"][0, 1:], (2, 1))
    x = np.concatenate([w["cls_token"][0] + w["pos_embed"][0, :1], w["register_tokens"][0], patches])
    q, k, v = linear(norm(x, "blocks.0.norm1"), "attn.qkv").reshape(9, 3, 2, 4).transpose(1, 2, 0, 3)
    turn = np.exp(1j * np.outer([0, 0, 0, 0, 0, 0, 1, 1, 1], [1, 10000 ** (-1 / 2)]))
    q, k = ((y[..., :2] + 1j * y[..., 2:]) * turn for y in (q, k))
    attention = np.exp((q @ k.conj().transpose(0, 2, 1)).real / 2)
    attention /= attention.sum(-1, keepdims=True)
    x = x + linear((attention @ v).transpose(1, 0, 2).reshape(9, 8), "attn.proj")
    gate, value = np.split(linear(norm(x, "blocks.0.norm2"), "mlp.w12"), 2, axis=1)
    x = x + linear(gate / (1 + np.exp(-gate)) * value, "mlp.w3")
    with torch.no_grad():
        got = encoder(torch.from_numpy(clip)[None], torch.from_numpy(mask)[None])[0]
    # The rotation is done in fp32, as in the released encoders.
    np.testing.assert_allclose(got.numpy(), norm(x, "norm"), atol=1e-5)


@pytest.mark.parametrize("frames", [64, 32, 8])
def test_encoder_reproduces_the_parity_fixture(frames):
    safetensors = pytest.importorskip("safetensors.torch")
    if not PARITY.is_dir():
        pytest.skip("../shared/parity is missing")
    config = json.loads((PARITY / "config.json").read_text())
    encoder = Encoder(joints=config["img_size"][1], registers=config["num_register_tokens"]).eval()
    encoder.load_state_dict(safetensors.load_file(PARITY / "model.safetensors"))
    with np.load(PARITY / "expected.npz") as file:
        expected = {name: torch.from_numpy(file[name]) for name in file}

    clips = expected[f"clips_{frames}"].permute(0, 4, 2, 3, 1).flatten(0, 1)  # (B * M, T, V, C)
    with torch.no_grad():
        pairs = [
            (got, expected[f"{kind}_{frames}_{i}"])
            for i, block in enumerate(encoder.last_blocks(clips, 4))
            for got, kind in zip(block, ("patch", "cls"), strict=True)
        ]
        mask = expected[f"mask_{frames}"].view(len(clips), frames // 8, -1)
        patch, cls = encoder.last_blocks(clips, 1, mask)[0]
    pairs += [(patch, expected[f"masked_patch_{frames}"]), (cls, expected[f"masked_cls_{frames}"])]
    for got, want in pairs:
        assert (got - want).norm() / want.norm() < 1e-4


def test_sinkhorn_rows_sum_to_one_and_columns_get_even():
    logits = F.normalize(torch.randn(64, 8), dim=-1) @ F.normalize(torch.randn(8, 16), dim=0)
    softmax = torch.softmax(logits / 0.04, dim=-1)
    three, many = sinkhorn(logits, 0.04, 3), sinkhorn(logits, 0.04, 200)
    torch.testing.assert_close(three.sum(1), torch.ones(64))
    torch.testing.assert_close(many.sum(0), torch.full((16,), 4.0), rtol=1e-3, atol=1e-3)
    assert (three.sum(0) - 4).abs().max() < (softmax.sum(0) - 4).abs().max() / 2


def test_sinkhorn_equals_the_potentials():
    logits, tau = (torch.rand(20, 7, dtype=torch.float64) * 2 - 1), 0.05
    b = torch.zeros(20, dtype=torch.float64)
    for _ in range(3):
        a = -math.log(7) - torch.logsumexp(logits / tau + b[:, None], 0)
        b = -math.log(20) - torch.logsumexp(logits / tau + a, 1)
    expected = torch.exp(logits / tau + a + b[:, None] + math.log(20))
    torch.testing.assert_close(sinkhorn(logits, tau).double(), expected, rtol=1e-4, atol=1e-6)


def test_koleo_knows_its_neighbours():
    features = torch.tensor([[1.0, 0.0], [0.0, 3.0], [0.0, -1.0], [2.0, 0.2]])
    unit = features / features.norm(dim=1, keepdim=True)
    distances = torch.cdist(unit, unit) + torch.eye(4) * 9
    torch.testing.assert_close(koleo(features), -(distances.min(1).values + 1e-6).log().mean())
    assert koleo(features[:1]) == 0


def test_uniform_predictions_cost_log_k():
    """With all prototypes alike, the contrastive loss is log K and the masked one the masked share of it."""
    model = EagerSLiM(SMALL)
    clips, masks = torch_batch()
    for head in (model.student.contrastive_head, model.student.masked_head):
        torch.nn.init.ones_(head.prototypes)
    losses = model.loss(clips, masks, 0.05)
    assert losses["contrastive"].item() == pytest.approx(math.log(24), rel=1e-5)
    assert losses["masked"].item() == pytest.approx(math.log(24) / 2, rel=1e-5)
    masks[0][:] = False
    assert model.loss(clips, masks, 0.05)["masked"] == 0


def test_losses_equal_their_definition_view_by_view():
    model = EagerSLiM(SMALL)
    for p in model.parameters():
        p.data.add_(torch.randn_like(p) * 0.2)
    clips, masks = torch_batch(batch=3, seed=5)
    student, teacher = model.student, model.teacher
    got = model.loss(clips, masks, 0.06)

    with torch.no_grad():
        seen = [[teacher.encoder(clips[0][i, v][None])[0] for v in range(2)] for i in range(3)]
        cls = torch.stack([teacher.contrastive_head(seen[i][v][0]) for i in range(3) for v in range(2)])
        cls_targets = sinkhorn(cls, 0.06).view(3, 2, -1)
        rows = [teacher.masked_head(seen[i][v][3:][masks[0][i, v].flatten()]) for i in range(3) for v in range(2)]
        patch_targets = sinkhorn(torch.cat(rows), 0.06).split([len(r) for r in rows])

        contrastive, masked, features = [], 0.0, []
        for i in range(3):
            views = [(w, n) for w in range(4) for n in range(COUNTS[w])]
            for w, n in views:
                tokens = student.encoder(clips[w][i, n][None], masks[w][i, n][None])[0]
                prediction = student.contrastive_head(tokens[0])
                for target in range(2):
                    if (w, n) != (0, target):
                        contrastive.append(cross_entropy(cls_targets[i, target], prediction, 0.1))
                if w == 0:
                    features.append(tokens[0])
                    where = masks[0][i, n].flatten()
                    if where.any():
                        entropy = cross_entropy(patch_targets[2 * i + n], student.masked_head(tokens[3:][where]), 0.1)
                        masked += entropy.mean() / 6
    assert len(contrastive) == 3 * 18
    torch.testing.assert_close(got["contrastive"], torch.stack(contrastive).mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got["masked"], masked, rtol=1e-4, atol=1e-5)
    spread = koleo(torch.stack(features[0::2])) + koleo(torch.stack(features[1::2]))
    torch.testing.assert_close(got["koleo"], spread, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got["loss"], got["contrastive"] + got["masked"] + 0.1 * got["koleo"])


def test_training_on_one_batch_lowers_the_loss():
    model = EagerSLiM(SMALL)
    clips, masks = torch_batch(batch=6)
    optimizer = make_optimizer(model, lr=2e-3)
    losses = [model.training_step(optimizer, clips, masks, 0.05, momentum=0.99)["loss"].item() for _ in range(40)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.5


def test_a_step_moves_the_teacher_by_its_momentum_and_may_freeze_prototypes():
    model = EagerSLiM(SMALL)
    clips, masks = torch_batch()
    before = {name: p.clone() for name, p in model.teacher.named_parameters()}
    model.training_step(make_optimizer(model, 1e-2), clips, masks, 0.05, momentum=0.75, freeze_prototypes=True)
    for name, student in model.student.named_parameters():
        torch.testing.assert_close(dict(model.teacher.named_parameters())[name], 0.75 * before[name] + 0.25 * student)
        assert torch.equal(student, before[name]) == name.endswith("prototypes")


def test_optimizer_groups_follow_the_recipe():
    model = EagerSLiM(SMALL)
    names = {id(p): name for name, p in model.student.named_parameters()}
    settings = {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in make_optimizer(model, 1.0, 0.1).param_groups
        for p in group["params"]
    }
    assert settings.keys() == set(names.values())
    assert settings["encoder.patch_embed.proj.weight"] == (0.2, 0.1)
    assert settings["encoder.patch_embed.proj.bias"] == (0.2, 0.0)
    decayed = ("encoder.cls_token", "encoder.mask_token", "encoder.pos_embed", "masked_head.prototypes")
    assert all(settings[name] == (1.0, 0.1) for name in (*decayed, "encoder.blocks.1.mlp.w3.weight"))
    assert all(settings[n] == (1.0, 0.0) for n in ("encoder.norm.weight", "encoder.blocks.0.attn.qkv.bias"))

"""The masked baselines do what their papers say: otherwise their cost and their speed would mean nothing."""

import ast
import math
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import baselines
from benchmarks.baselines.gfp import GFP, GFPConfig, averaged, spread
from benchmarks.baselines.mae import MAEConfig, MaskedAutoencoder
from benchmarks.baselines.masking import motion, patches, split_tokens, take
from benchmarks.baselines.s_jepa import SJEPA, SJEPAConfig
from benchmarks.baselines.transformer import MaskedConfig, MaskTokens, SkeletonEncoder

TOY = {"frames": 24, "joints": 5, "patch_frames": 2, "width": 32, "depth": 2, "heads": 4, "mask_ratio": 0.8}
MODELS = {
    "mae": lambda **more: MaskedAutoencoder(MAEConfig(**TOY, decoder_depth=1, **more)),
    "s-jepa": lambda **more: SJEPA(SJEPAConfig(**TOY, decoder_depth=1, **more)),
    "gfp": lambda **more: GFP(
        GFPConfig(**TOY, windows=(2, 4, 12), level_blocks=(1, 1, 1, 1), local_hidden=16, global_hidden=24, **more)
    ),
}
every_model = pytest.mark.parametrize("name", MODELS)


def walk(batch=4, frames=24, joints=5, seed=0):
    """Moving people (B, T, V, 3)."""
    return 0.3 * torch.randn(batch, frames, joints, 3, generator=seeded(seed)).cumsum(1)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def hidden_of(model, clips, seed):
    """The tokens that the loss with this seed hides."""
    told = model.config
    return split_tokens(clips, 2, told.visible, told.masking, told.motion_temperature, seeded(seed))[1]


def numbers(module):
    return sum(p.numel() for p in module.parameters())


@every_model
def test_shapes(name):
    model = MODELS[name]()
    tokens = model(walk())
    assert tokens.shape == (4, 60, 32)
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(4, 60), atol=1e-5, rtol=0)  # the final norm
    loss = model.loss(walk())
    assert loss.shape == ()
    assert loss.isfinite()


@pytest.mark.parametrize("file", ["gfp", "mae", "masking", "s_jepa", "transformer"])
def test_baselines_import_nothing_of_the_project(file):
    tree = ast.parse((Path(baselines.__file__).parent / f"{file}.py").read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    strangers = {m for m in modules if m.split(".")[0] not in {"torch", *sys.stdlib_module_names}}
    assert all(m.startswith("benchmarks.baselines.") for m in strangers)


def test_parameter_counts_at_full_size():
    d, places = 256, (30 + 25) * 256
    block = 12 * d * d + 13 * d  # weights; biases of 3, 1, 4 and 1 widths, gain and shift of two norms
    encoder = 12 * d + d + places + 8 * block + 2 * d
    with torch.device("meta"):
        mae, s_jepa, gfp = MaskedAutoencoder(), SJEPA(), GFP()
        three = MaskedAutoencoder(MAEConfig(decoder_depth=3))
    assert numbers(mae.encoder) == numbers(s_jepa.target_encoder) == numbers(gfp.encoder) == encoder
    between = d + places + 2 * d  # mask token, positions, norm
    assert numbers(mae.decoder) == between + 5 * block + d * 12 + 12
    assert numbers(three.decoder) == between + 3 * block + d * 12 + 12
    assert numbers(s_jepa.decoder) == between + 5 * block
    heads = 3 * (2 * d + d * 512 + 512) + 2 * d + d * 2048 + 2048
    assert numbers(gfp.decoder) == d + places + 5 * block + heads
    local = 12 * 512 + 2 * 512**2 + 3 * 512
    assert numbers(gfp.target_network) == 3 * local + 9000 * 2048 + 2 * 2048**2 + 3 * 2048
    assert gfp.config.level_tokens == (150, 75, 25, 1)


def test_kept_tokens():
    assert MaskedConfig().tokens == 750
    assert MaskedConfig().visible == 74  # 750 * (1 - 0.9) is a little less than 75
    assert MaskedConfig(kept=75).visible == 75
    assert MaskedConfig(**TOY).visible == int(60 * (1 - 0.8))


@every_model
def test_the_encoder_runs_on_kept_tokens_only(name):
    model, lengths = MODELS[name](kept=7), []
    for block in model.encoder.blocks:
        block.register_forward_hook(lambda _module, inputs, _output: lengths.append(inputs[0].shape[1]))
    model.loss(walk())
    assert lengths == [7, 7]


@pytest.mark.parametrize("masking", ["random", "motion"])
def test_masks_split_the_tokens(masking):
    kept, hidden = split_tokens(walk(16), 2, 13, masking)
    assert kept.shape == (16, 13)
    assert torch.equal(torch.cat([kept, hidden], 1).sort(1).values, torch.arange(60).expand(16, -1))
    assert len(kept.sort(1).values.unique(dim=0)) == 16  # every clip has its own


def test_masks_refuse_what_makes_no_sense():
    with pytest.raises(ValueError, match="1 to 60 tokens; got 61"):
        split_tokens(walk(), 2, 61)
    with pytest.raises(ValueError, match="random or motion"):
        split_tokens(walk(), 2, 3, "motions")


def test_motion_masking_draws_by_the_softmax_of_motion():
    """One token of four is hidden; joints move by 0, 1, 2 and 4 a frame, in metres or millimetres, or not at all."""
    speed, batch = torch.tensor([0.0, 1.0, 2.0, 4.0]), 20000
    clips = (torch.arange(4)[:, None, None] * speed[:, None]).expand(batch, 4, 4, 3)
    prior, even = torch.softmax(speed / 4 / 0.5, 0), torch.full((4,), 0.25)
    cases = [("motion", 1, prior), ("motion", 1e3, prior), ("motion", 0, even), ("random", 1, even)]
    for masking, scale, chances in cases:
        _, hidden = split_tokens(clips * scale, 4, 3, masking, temperature=0.5, generator=seeded(0))
        share = torch.bincount(hidden[:, 0], minlength=4) / batch
        torch.testing.assert_close(share, chances, atol=4 * math.sqrt(0.25 / batch), rtol=0)


def test_patches_and_motion():
    clips = walk(2)
    rows = patches(clips, 2)
    assert torch.equal(rows[1, 3 * 5 + 4], clips[1, 6:8, 4].flatten())
    moved = motion(clips)
    torch.testing.assert_close(moved[:, 7], clips[:, 8] - clips[:, 7])
    assert not moved[:, -1].any()


def test_explicit_attention_equals_sdpa():
    clips = walk().double()
    fused, explicit = (SkeletonEncoder(MaskedConfig(**TOY, attention=a)).double() for a in ("sdpa", "explicit"))
    explicit.load_state_dict(fused.state_dict())
    torch.testing.assert_close(explicit(clips), fused(clips), atol=1e-10, rtol=1e-10)


def test_the_encoder_takes_tokens_with_their_places():
    """All tokens in another order come out in that order: each has kept its coordinates and its position."""
    encoder, clips = SkeletonEncoder(MaskedConfig(**TOY)).double(), walk().double()
    order = torch.stack([torch.randperm(60) for _ in range(4)])
    torch.testing.assert_close(encoder(clips, order), take(encoder(clips), order))
    first, second = encoder(torch.zeros_like(clips))[0, :2]  # alike but for their places
    assert (first - second).abs().max() > 1e-4


def test_mask_tokens_stand_where_nothing_was_seen():
    fill = MaskTokens(MaskedConfig(**TOY))
    seen, places = torch.randn(2, 3, 32), torch.tensor([[4, 0, 59], [7, 8, 9]])
    tokens = fill(seen, places) - fill.positions()
    torch.testing.assert_close(take(tokens, places), seen)
    torch.testing.assert_close(tokens[0, [1, 2, 3, 58]], fill.token.expand(4, 32))


@pytest.mark.parametrize("target", ["coordinates", "motion"])
def test_mae_loss_is_the_error_at_hidden_tokens(target):
    """A decoder that says 0.5 is wrong by the hidden patches' distance from it."""
    model, clips = MODELS["mae"](target=target), walk()
    nn.init.zeros_(model.decoder.head.weight)
    nn.init.constant_(model.decoder.head.bias, 0.5)
    hidden = hidden_of(model, clips, 3)
    wanted = clips if target == "coordinates" else motion(clips)
    rows = torch.stack([wanted[i, n // 5 * 2 : n // 5 * 2 + 2, n % 5] for i in range(4) for n in hidden[i].tolist()])
    torch.testing.assert_close(model.loss(clips, seeded(3)), ((rows - 0.5) ** 2).mean())


def test_normalised_targets():
    rows = MODELS["mae"](normalised=True).targets(walk())
    torch.testing.assert_close(rows.mean(-1), torch.zeros(4, 60), atol=1e-5, rtol=0)
    moving = rows[:, :-5]  # the last frame does not move
    torch.testing.assert_close(moving.var(-1, unbiased=False), torch.ones(4, 55), atol=1e-3, rtol=0)


def test_s_jepa_loss_is_a_cross_entropy_over_features():
    """Uniform predictions cost log D; no prediction costs less than the targets' entropy."""
    model, clips = MODELS["s-jepa"]().eval(), walk()
    hidden = hidden_of(model, clips, 1)
    model.centre.normal_()
    wanted = torch.softmax((take(model.target_encoder(clips), hidden) - model.centre) / 0.06, -1)
    entropy = -(wanted * wanted.clamp_min(1e-30).log()).sum(-1).mean()
    assert model.loss(clips, seeded(1)) > entropy
    nn.init.zeros_(model.decoder.norm.weight)
    assert model.loss(clips, seeded(1)).item() == pytest.approx(math.log(32), rel=1e-5)
    # Predictions that ignore the place cost the cross-entropy of the mean target.
    mean = wanted.mean((0, 1)).detach()
    model.decoder.norm.bias.data = mean.log() * model.config.prediction_temperature
    torch.testing.assert_close(model.loss(clips, seeded(1)), -(mean * mean.log()).sum())


def test_s_jepa_centre_follows_the_targets_in_training_only():
    model, clips = MODELS["s-jepa"](), walk()
    hidden = hidden_of(model, clips, 1)
    model.eval().loss(clips, seeded(1))
    assert not model.centre.any()
    model.train().loss(clips, seeded(1))
    torch.testing.assert_close(model.centre, 0.1 * take(model.target_encoder(clips), hidden).mean((0, 1)))


def test_s_jepa_target_encoder_is_a_moving_average_without_gradient():
    model = MODELS["s-jepa"]()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    before = [p.clone() for p in model.target_encoder.parameters()]
    model.training_step(optimizer, walk(), momentum=0.75)
    for old, new, view in zip(before, model.target_encoder.parameters(), model.encoder.parameters(), strict=True):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * view)
        assert not torch.equal(new, old)
        assert new.grad is None
        assert not new.requires_grad
    model.training_step(optimizer, walk())
    assert model.config.momentum == 0.9999


def test_gfp_averages_over_time():
    x = torch.arange(12.0)[:, None, None].expand(12, 5, 2).clone()
    x[:, 3] += 100
    twos = averaged(x.flatten(0, 1)[None], 2, 5).view(6, 5, 2)
    assert torch.equal(twos[:, 0, 0], torch.arange(6) * 2 + 0.5)
    assert torch.equal(twos[:, 3, 0], torch.arange(6) * 2 + 100.5)
    torch.testing.assert_close(averaged(twos.flatten(0, 1)[None], 2, 5), averaged(x.flatten(0, 1)[None], 4, 5))


def test_gfp_levels():
    model = MODELS["gfp"]()
    seen, places = torch.randn(2, 3, 32), torch.tensor([[4, 0, 59], [7, 8, 9]])
    shapes = [(2, 30, 16), (2, 15, 16), (2, 5, 16), (2, 1, 24)]
    assert [tuple(p.shape) for p in model.decoder(seen, places)] == shapes
    targets = model.target_network(walk(2))
    assert [tuple(z.shape) for z in targets] == shapes
    shifted = model.target_network(walk(2) + 3)  # motion does not know where the person stands
    torch.testing.assert_close(shifted, targets, atol=1e-5, rtol=1e-4)


def test_gfp_spread():
    """Rows that are all alike miss the whole threshold; features that are copies have the covariance of one."""
    variance, covariance = spread(torch.ones(8, 3))
    assert variance.item() == pytest.approx(1 - 0.01)
    assert covariance == 0
    feature = torch.tensor([-2.0, 2.0, -2.0, 2.0])
    variance, covariance = spread(torch.stack([feature, feature, torch.tensor([2.0, 2.0, -2.0, -2.0])], 1))
    assert variance == 0
    assert covariance.item() == pytest.approx(2 * (16 / 3) ** 2 / 3)


def test_gfp_loss_weighs_its_parts_and_teaches_both_sides():
    """With all targets and predictions zero only the variance terms are left, one of each level."""
    model = MODELS["gfp"]()
    model.loss(walk()).backward()
    for part in (model.encoder, model.decoder, model.target_network):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in part.parameters())
        assert sum(p.grad.abs().sum() for p in part.parameters()) > 0
    for parameter in [*model.target_network.parameters(), *model.decoder.heads.parameters()]:
        nn.init.zeros_(parameter)
    assert model.loss(walk()).item() == pytest.approx(4 * 0.99)
    for head in model.decoder.heads:
        nn.init.constant_(head[1].bias, 2.0)
    assert model.loss(walk()).item() == pytest.approx(4 * 0.99 + 5 * 2.0**2)


def swing(batch=8, frames=24, joints=5):
    """Joints that swing, each with its own width and phase, so that what is hidden can be told (B, T, V, 3)."""
    phase, width = torch.rand(2, batch, 1, joints, 3, generator=seeded(0))
    return 2 * width * torch.sin(0.6 * torch.arange(frames)[:, None, None] + 2 * math.pi * phase)


@pytest.mark.parametrize(("name", "falls_to"), [("mae", 0.88), ("s-jepa", 0.4), ("gfp", 0.93)])
def test_the_loss_falls(name, falls_to):
    model, generator = MODELS[name](), seeded(0)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    losses = [model.training_step(optimizer, swing(), generator=generator)["loss"].item() for _ in range(100)]
    assert sum(losses[-5:]) < falls_to * sum(losses[:5]), losses


@every_model
def test_a_generator_decides_the_masks(name):
    model = MODELS[name]().eval()
    first, again, other = (model.loss(walk(), seeded(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@every_model
def test_autocast(name):
    model = MODELS[name]()
    full = model.loss(walk(), seeded(0)).item()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    low = model.eval().training_step(optimizer, walk(), torch.bfloat16, seeded(0))["loss"]
    assert low.item() == pytest.approx(full, rel=0.05)
    assert low.item() != full
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in model.parameters())

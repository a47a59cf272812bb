"""The masked baselines do what their papers say: otherwise their cost and their speed would mean
nothing.
"""

import ast
import math
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import baselines
from benchmarks.baselines.gfp import GFP, averaged, spread
from benchmarks.baselines.mae import MAEConfig, MaskedAutoencoder
from benchmarks.baselines.masking import motion, take
from benchmarks.baselines.s_jepa import SJEPA
from tests.benchmarks.baselines.masked_models import (
    MODELS,
    every_model,
    hidden_of,
    numbers,
    seeded,
    walk,
)


@every_model
def test_shapes(name):
    model = MODELS[name]()
    tokens = model(walk())
    assert tokens.shape == (4, 60, 32)
    # the final norm
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(4, 60), atol=1e-5, rtol=0)
    loss = model.loss(walk())
    assert loss.shape == ()
    assert loss.isfinite()


@pytest.mark.parametrize("file", ["gfp", "mae", "masking", "s_jepa", "transformer"])
def test_baselines_import_nothing_of_the_project(file):
    tree = ast.parse((Path(baselines.__file__).parent / f"{file}.py").read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {
        a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names
    }
    strangers = {
        m for m in modules if m.split(".")[0] not in {"torch", "einops", *sys.stdlib_module_names}
    }
    assert all(m.startswith("benchmarks.baselines.") for m in strangers)


def test_parameter_counts_at_full_size():
    d, positions = 256, (30 + 25) * 256
    # weights; biases of 3, 1, 4 and 1 widths, weight and bias of two norms
    block = 12 * d * d + 13 * d
    encoder = 12 * d + d + positions + 8 * block + 2 * d
    with torch.device("meta"):
        mae, s_jepa, gfp = MaskedAutoencoder(), SJEPA(), GFP()
        three = MaskedAutoencoder(MAEConfig(decoder_depth=3))
    assert numbers(mae.encoder) == numbers(s_jepa.target_encoder) == numbers(gfp.encoder) == encoder
    between = d + positions + 2 * d  # mask token, positions, norm
    assert numbers(mae.decoder) == between + 5 * block + d * 12 + 12
    assert numbers(three.decoder) == between + 3 * block + d * 12 + 12
    assert numbers(s_jepa.decoder) == between + 5 * block
    heads = 3 * (2 * d + d * 512 + 512) + 2 * d + d * 2048 + 2048
    assert numbers(gfp.decoder) == d + positions + 5 * block + heads
    local = 12 * 512 + 2 * 512**2 + 3 * 512
    assert numbers(gfp.target_network) == 3 * local + 9000 * 2048 + 2 * 2048**2 + 3 * 2048
    assert gfp.config.level_tokens == (150, 75, 25, 1)


@every_model
def test_the_encoder_runs_on_visible_tokens_only(name):
    model, lengths = MODELS[name](num_visible=7), []
    for block in model.encoder.blocks:
        block.register_forward_hook(
            lambda _module, inputs, _output: lengths.append(inputs[0].shape[1])
        )
    model.loss(walk())
    assert lengths == [7, 7]


@pytest.mark.parametrize("target", ["coordinates", "motion"])
def test_mae_loss_is_the_error_at_hidden_tokens(target):
    """A decoder that says 0.5 is wrong by the hidden patches' distance from it."""
    model, clips = MODELS["mae"](target=target), walk()
    nn.init.zeros_(model.decoder.head.weight)
    nn.init.constant_(model.decoder.head.bias, 0.5)
    hidden = hidden_of(model, clips, 3)
    wanted = clips if target == "coordinates" else motion(clips)
    rows = torch.stack(
        [
            wanted[i, n // 5 * 2 : n // 5 * 2 + 2, n % 5]
            for i in range(4)
            for n in hidden[i].tolist()
        ]
    )
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
    torch.testing.assert_close(
        model.centre, 0.1 * take(model.target_encoder(clips), hidden).mean((0, 1))
    )


def test_s_jepa_target_encoder_is_a_moving_average_without_gradient():
    model = MODELS["s-jepa"]()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    before = [p.clone() for p in model.target_encoder.parameters()]
    model.training_step(optimizer, walk(), momentum=0.75)
    for old, new, view in zip(
        before, model.target_encoder.parameters(), model.encoder.parameters(), strict=True
    ):
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
    torch.testing.assert_close(
        averaged(twos.flatten(0, 1)[None], 2, 5), averaged(x.flatten(0, 1)[None], 4, 5)
    )


def test_gfp_levels():
    model = MODELS["gfp"]()
    visible, indices = torch.randn(2, 3, 32), torch.tensor([[4, 0, 59], [7, 8, 9]])
    shapes = [(2, 30, 16), (2, 15, 16), (2, 5, 16), (2, 1, 24)]
    assert [tuple(p.shape) for p in model.decoder(visible, indices)] == shapes
    targets = model.target_network(walk(2))
    assert [tuple(z.shape) for z in targets] == shapes
    shifted = model.target_network(walk(2) + 3)  # motion does not know where the person stands
    torch.testing.assert_close(shifted, targets, atol=1e-5, rtol=1e-4)


def test_gfp_spread():
    """Rows that are all equal miss the whole threshold; features that are copies have the
    covariance of one.
    """
    variance, covariance = spread(torch.ones(8, 3))
    assert variance.item() == pytest.approx(1 - 0.01)
    assert covariance == 0
    feature = torch.tensor([-2.0, 2.0, -2.0, 2.0])
    variance, covariance = spread(
        torch.stack([feature, feature, torch.tensor([2.0, 2.0, -2.0, -2.0])], 1)
    )
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
    """Joints that swing, each with its own width and phase: masked ones can be predicted.

    (B, T, V, 3).
    """
    phase, width = torch.rand(2, batch, 1, joints, 3, generator=seeded(0))
    return 2 * width * torch.sin(0.6 * torch.arange(frames)[:, None, None] + 2 * math.pi * phase)


@pytest.mark.parametrize(("name", "falls_to"), [("mae", 0.88), ("s-jepa", 0.4), ("gfp", 0.93)])
def test_the_loss_falls(name, falls_to):
    model, generator = MODELS[name](), seeded(0)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    losses = [
        model.training_step(optimizer, swing(), generator=generator)["loss"].item()
        for _ in range(100)
    ]
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

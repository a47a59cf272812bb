"""Tuning: layer-wise rates, the schedule, mixing, and that it learns."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from slim_fast.errors import UserError
from slim_fast.evaluation.features import load_evaluation_clips
from slim_fast.evaluation.tuning.classifier import TunedClassifier
from slim_fast.evaluation.tuning.optimizer import (
    layer_of,
    make_optimizer,
    parameter_groups,
    rate_share,
)
from slim_fast.evaluation.tuning.recipe import TuningRecipe, default_iterations, published_semi
from slim_fast.evaluation.tuning.train import mix, tune


@pytest.fixture
def cache(make_cache, crowd):
    """16 clips of 2 actions, the second of which moves its hands."""
    pose, clips = crowd(1), []
    for i in range(16):
        clip = pose + 0.02 * crowd(70, seed=i)
        clip[:, [7, 11, 21, 23], 1, 0] += (i % 2) * np.sin(np.arange(70) / 4 + i)[:, None]
        clips.append(clip)
    return make_cache(clips, label=[i % 2 for i in range(16)])


def test_rates_fall_layer_by_layer(encoder):
    model = TunedClassifier(encoder, 3)
    recipe = TuningRecipe(learning_rate=1.0, layer_decay=0.5, encoder_share=0.1, weight_decay=0.2)
    groups = list(parameter_groups(model, recipe))
    by_name = dict(zip([n for n, _ in model.named_parameters()], groups, strict=True))
    assert len(by_name) == len(groups)
    for name, rate, decay in (
        ("head.weight", 1.0, 0.2),
        ("head.bias", 1.0, 0.0),
        ("encoder.norm.weight", 0.1, 0.0),
        ("encoder.blocks.1.mlp.w3.weight", 0.1, 0.2),
        ("encoder.blocks.0.attn.qkv.weight", 0.05, 0.2),
        ("encoder.patch_embed.proj.weight", 0.025, 0.2),
        ("encoder.pos_embed", 0.025, 0.0),
        ("encoder.cls_token", 0.025, 0.0),
    ):
        assert (by_name[name]["lr"], by_name[name]["weight_decay"]) == pytest.approx((rate, decay))
        assert by_name[name]["params"][0] is dict(model.named_parameters())[name]
    assert [layer_of(n, 8) for n in ("mask_token", "blocks.7.norm1.bias", "norm.bias")] == [0, 8, 8]


def test_schedule_grows_then_falls_to_zero():
    shares = [rate_share(i, 100, 0.1) for i in range(101)]
    assert shares[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert shares[10] == 1
    assert shares[55] == pytest.approx(0.5)
    assert shares[100] == pytest.approx(0)
    assert rate_share(0, 100, 0.0) == 1


def test_the_papers_recipe_for_few_labels(encoder):
    """SGD, encoder 1e-5 and head 1e-3 at a batch of 256, weight decay 1e-4."""
    optimizer = make_optimizer(TunedClassifier(encoder, 3), published_semi())
    assert isinstance(optimizer, torch.optim.SGD)
    rates = {round(group["lr"], 9) for group in optimizer.param_groups}
    assert rates == {1e-5, 1e-3}
    assert {g["momentum"] for g in optimizer.param_groups} == {0.9}
    assert {g["weight_decay"] for g in optimizer.param_groups} == {0.0, 1e-4}
    assert published_semi(64).learning_rate == pytest.approx(2.5e-4)


@pytest.mark.parametrize(
    ("clips", "batch", "iterations"), [(40, 32, 100), (431, 32, 269), (10**6, 32, 20_000)]
)
def test_iterations_follow_the_number_of_clips(clips, batch, iterations):
    assert default_iterations(clips, batch, 100) == iterations


def test_logits_are_of_the_sum_over_people(make_cache, crowd, encoder):
    cache = make_cache([crowd(70, 1 + i % 2, i) for i in range(4)])
    model = TunedClassifier(encoder, 3).eval()
    clips = load_evaluation_clips(cache, np.arange(4))
    with torch.no_grad():
        got = model(clips)
        for i, clip in enumerate(clips):
            there = torch.stack([person for person in clip if person.any()])
            ((patches, cls),) = encoder.encode_last_blocks(there, None, 1)
            pooled = torch.cat([cls.sum(0), patches.mean(1).sum(0)])
            torch.testing.assert_close(got[i], model.head(pooled), rtol=1e-4, atol=1e-4)
    assert torch.equal(model.predict(cache, np.arange(4), batch=3), got.argmax(1))


def test_it_learns_and_leaves_the_encoder_as_it_was(cache, encoder):
    before = {name: p.clone() for name, p in encoder.state_dict().items()}
    recipe = TuningRecipe(batch=8, learning_rate=1e-2, layer_decay=0.9)
    model = tune(encoder, cache, np.arange(16), 2, recipe, 60, 0)
    assert not model.training
    assert (model.predict(cache, np.arange(16)) == torch.arange(16) % 2).float().mean() > 0.9
    assert all(torch.equal(p, before[name]) for name, p in encoder.state_dict().items())
    moved = [
        name
        for name, p in model.encoder.state_dict().items()
        if not torch.equal(p, before[name]) and "mask_token" not in name
    ]
    assert len(moved) == len(before) - 1


def test_the_seed_decides_and_torchs_generator_stays(cache, encoder):
    recipe = TuningRecipe(batch=4, drop_path=0.5, mixup=0.4)
    state = torch.random.get_rng_state()
    heads = [tune(encoder, cache, np.arange(16), 2, recipe, 4, seed).head for seed in (0, 0, 1)]
    assert torch.equal(heads[0].weight, heads[1].weight)
    assert not torch.equal(heads[0].weight, heads[2].weight)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_without_augmentation_a_step_is_adamw_by_hand(cache, encoder):
    """One step of the head: AdamW moves every weight by its rate against the gradient's sign."""
    recipe = TuningRecipe(
        augment="none", warmup=0.0, drop_path=0, label_smoothing=0.2, weight_decay=0, clip_norm=0
    )
    clips = np.arange(16)
    before = tune(encoder, cache, clips, 2, recipe, 0, 3)
    after = tune(encoder, cache, clips, 2, recipe, 1, 3)
    views, labels = load_evaluation_clips(cache, clips), torch.from_numpy(cache.label)
    target = 0.8 * F.one_hot(labels, 2) + 0.1
    logits = before.train()(views)
    (-(target * logits.log_softmax(1)).sum(1).mean()).backward()
    wanted = before.head.weight - recipe.learning_rate * before.head.weight.grad.sign()
    torch.testing.assert_close(after.head.weight, wanted, rtol=1e-3, atol=1e-5)


def test_mixing_leaves_what_is_not_in_both():
    views = torch.rand(2, 2, 8, 3, 3) + 1
    views[1, 1] = 0  # a person in the first clip only
    views[0, 0, 4, 2] = 0  # a joint in the second clip only
    target = torch.eye(2)
    mixed, label = mix(views, target, 0.25, 3)
    torch.testing.assert_close(mixed[0, 0, :4], 0.75 * views[0, 0, :4] + 0.25 * views[1, 0, :4])
    assert torch.equal(mixed[0, 1], views[0, 1])
    assert not mixed[1, 1].any()
    assert not mixed[0, 0, 4, 2].any()
    assert torch.equal(mixed[1, 0, 4, 2], views[1, 0, 4, 2])
    torch.testing.assert_close(label, torch.tensor([[0.75, 0.25], [0.25, 0.75]]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"drop_path": 1.0},
        {"label_smoothing": 1.5},
        {"layer_decay": 0.0},
        {"mixup": -1.0},
        {"learning_rate": math.nan},
        {"batch": 0},
    ],
)
def test_settings_that_make_no_sense(wrong):
    name = next(iter(wrong)).replace("_", " ")
    with pytest.raises(UserError, match=f"{name} .*: must be"):
        TuningRecipe(**wrong)


def test_from_scratch_no_layer_is_held_back():
    recipe = published_semi().from_scratch()
    assert (recipe.layer_decay, recipe.encoder_share) == (1, 1)

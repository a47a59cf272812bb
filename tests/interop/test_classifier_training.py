"""Classifiers are trained: layer-wise rates, linear probes, autocast, LoRA."""

import copy
import math
import re

import pytest
import torch
from torch import Tensor, nn

from slim_fast import SLiMClassifier, UserError


def layers_of(classifier: SLiMClassifier) -> dict[str, int]:
    """Parameter -> layer, as timm's `group_parameters` reads a matcher of one stem, blocks and what
    goes with the last.

    What a pattern captures is a number, a suffix of 99999 means the layer before, and what nothing
    matches comes last.
    """
    keys = {}
    for name, _ in classifier.named_parameters():
        keys[name] = (math.inf,)
        for number, specification in enumerate(classifier.group_matcher().values()):
            pairs = [(specification, None)] if isinstance(specification, str) else specification
            for pattern, suffix in pairs:
                if keys[name] == (math.inf,) and (found := re.match(pattern, name)):
                    keys[name] = (number, *map(float, found.groups()), *(suffix or ()))
    order = [key for key in sorted(set(keys.values())) if key[-1] != 99999]
    return {name: sum(other <= key for other in order) - 1 for name, key in keys.items()}


def test_layers_for_layer_wise_rates(make_classifier):
    layers = layers_of(make_classifier())
    for name, layer in layers.items():
        block = re.match(r"blocks\.(\d)\.", name)
        want = int(block[1]) + 1 if block else {"norm": 3, "head": 4}.get(name.split(".")[0], 0)
        assert layer == want, name
    assert {name.split(".")[0] for name, layer in layers.items() if layer == 0} == {
        "cls_token",
        "pos_embed",
        "register_tokens",
        "mask_token",
        "patch_embed",
    }


def toy(clips: int = 24) -> tuple[Tensor, Tensor]:
    """Clips and labels: which of 3 joints moves."""
    x = 0.05 * torch.randn(clips, 3, 16, 5, 2)
    labels = torch.arange(clips) % 3
    wave = torch.linspace(0, 6, 16).sin()
    for clip, joint in zip(x, labels.tolist(), strict=True):
        clip[1, :, joint, 0] += wave
    x[::2, ..., 1] = 0
    return x, labels


def fit(
    classifier: SLiMClassifier, groups: object, x: Tensor, labels: Tensor, steps: int = 60
) -> list[float]:
    optimizer, losses = torch.optim.AdamW(groups), []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(classifier(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_fine_tuning_with_layer_wise_rates_learns_a_toy_task(make_classifier):
    classifier, (x, labels) = make_classifier(3).train(), toy()
    layers, before = layers_of(classifier), copy.deepcopy(classifier.state_dict())
    losses = fit(
        classifier,
        [
            {"params": [p], "lr": 0.05 * 0.2 ** (4 - layers[n])}
            for n, p in classifier.named_parameters()
        ],
        x,
        labels,
    )
    assert losses[0] > 0.8
    assert losses[-1] < 0.1 * losses[0]
    assert (classifier.eval()(x).argmax(1) == labels).all()
    moved = {
        n: (p - before[n]).abs().max().item()
        for n, p in classifier.named_parameters()
        if p.grad is not None
    }
    assert (
        moved["head.weight"]
        > 2 * moved["blocks.2.mlp.w3.weight"]
        > 4 * moved["blocks.1.mlp.w3.weight"]
        > 0
    )


def test_a_linear_probe_leaves_the_encoder_alone(make_classifier):
    classifier, (x, labels) = make_classifier(3), toy()
    classifier.requires_grad_(False).get_classifier().requires_grad_(True)
    before = copy.deepcopy(classifier.state_dict())
    losses = fit(classifier, [{"params": classifier.head.parameters(), "lr": 0.05}], x, labels)
    assert losses[-1] < 0.5 * losses[0]
    changed = {
        n for n, tensor in classifier.state_dict().items() if not torch.equal(tensor, before[n])
    }
    assert changed == {"head.weight", "head.bias"}


def test_autocast_trains(make_classifier):
    classifier, (x, labels) = make_classifier(3).train(), toy(6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nn.functional.cross_entropy(classifier(x), labels)
    loss.backward()
    assert classifier.head.weight.grad.dtype == torch.float32
    assert all(
        p.grad is not None and p.grad.isfinite().all()
        for n, p in classifier.named_parameters()
        if n != "mask_token"
    )


def test_peft_learns_merges_and_comes_back(make_classifier, tmp_path):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    classifier, x = make_classifier(4, "ntu-25"), torch.randn(3, 3, 16, 25, 2)
    before = classifier(x)
    config = peft.LoraConfig(
        r=2, target_modules=["qkv", "proj", "w12", "w3"], modules_to_save=["head"]
    )
    tuned = peft.get_peft_model(copy.deepcopy(classifier), config)
    torch.testing.assert_close(tuned(x), before, rtol=1e-4, atol=1e-4)  # LoRA begins at nothing
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    assert (tuned(x) - before).norm() > 0.01 * before.norm()
    tuned(x).square().sum().backward()
    learning = {name: p for name, p in tuned.named_parameters() if p.requires_grad}
    # the patch embedding's proj too
    assert len([name for name in learning if "lora_" in name]) == 2 * (4 * 3 + 1)
    assert all(p.grad is not None and p.grad.any() for p in learning.values())
    tuned.eval()
    adapted = tuned(x)
    torch.testing.assert_close(
        tuned.get_base_model().optimize(torch.float32)(x), adapted, rtol=1e-4, atol=1e-4
    )
    with pytest.raises(UserError, match=r"can't hold this encoder.*merge or remove"):
        tuned.get_base_model().save_pretrained(tmp_path / "c")
    with pytest.raises(UserError, match="to_skeleton needs the patch embedding"):
        tuned.get_base_model().to_skeleton("coco-17")
    tuned.save_pretrained(str(tmp_path / "adapter"))
    again = peft.PeftModel.from_pretrained(
        copy.deepcopy(classifier), str(tmp_path / "adapter")
    ).eval()
    torch.testing.assert_close(again(x), adapted)
    merged = tuned.merge_and_unload()
    merged.save_pretrained(tmp_path / "c")
    torch.testing.assert_close(
        SLiMClassifier.from_pretrained(tmp_path / "c")(x), adapted, rtol=1e-4, atol=1e-4
    )

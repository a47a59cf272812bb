"""timm's create_model and its fine-tuning utilities take the classifier."""

import sys

import pytest
import torch

from slim_fast import SLiMClassifier, UserError
from slim_fast.interop.timm import SLiMTiny, slim_tiny
from tests.interop.adapters.conftest import toy
from tests.interop.adapters.stand_ins import timm


@pytest.fixture
def create_model(monkeypatch):
    for name, module in timm.packages().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "slim_fast.interop.timm")
    monkeypatch.setattr(timm, "ENTRIES", {})
    import slim_fast.interop.timm  # noqa: F401

    assert list(timm.ENTRIES) == ["slim_tiny"]
    return timm.create_model


def test_created_by_name_with_weights(create_model, make_classifier, tmp_path):
    classifier = make_classifier(4, "ntu-25")
    classifier.save_pretrained(tmp_path / "c")
    x, _ = toy(3)
    model = create_model(
        "slim_tiny", pretrained=True, pretrained_cfg_overlay={"file": str(tmp_path / "c")}
    ).eval()
    assert torch.equal(model(x), classifier(x))
    assert torch.equal(model.forward_head(model.forward_features(x)), model(x))
    assert model.forward_head(model.forward_features(x), pre_logits=True).shape == (
        3,
        model.head_hidden_size,
    )
    options = {
        "num_classes": 7,
        "drop_rate": 0.2,
        "drop_path_rate": 0.0,
        "global_pool": "avg",
        "in_chans": 3,
    }
    model = create_model("slim_tiny", pretrained=str(tmp_path / "c"), **options)
    assert (model.num_classes, model.pool, model.head_drop.p, model.num_features) == (
        7,
        "mean",
        0.2,
        16,
    )
    fresh = create_model("slim_tiny", pretrained=False, pretrained_cfg_overlay={"file": "nowhere"})
    assert fresh.config.width == 256
    torch.testing.assert_close(slim_tiny(str(tmp_path / "c")).eval()(x), classifier(x))


def test_fine_tuning_by_layers(create_model, checkpoint):
    model = create_model(
        "slim_tiny", pretrained=True, pretrained_cfg_overlay={"file": checkpoint()}, num_classes=2
    )
    layers = timm.layer_numbers(model)
    assert {
        layers[n] for n in ("cls_token", "pos_embed", "register_tokens", "patch_embed.proj.weight")
    } == {0}
    assert [layers[f"blocks.{n}.mlp.w3.bias"] for n in range(3)] == [1, 2, 3]
    assert (layers["norm.weight"], layers["head.weight"]) == (3, 4)
    names = dict(model.named_parameters())
    assert model.no_weight_decay() < names.keys()
    groups = [
        {"params": [p], "lr": 5e-3 * 0.75 ** (4 - layers[n])}
        for n, p in names.items()
        if p.requires_grad
    ]
    optimizer, losses = torch.optim.AdamW(groups), []
    x, labels = toy(16)
    for _ in range(12):
        loss = torch.nn.functional.cross_entropy(model.train()(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    assert torch.equal(model.eval()(x).argmax(1), labels)


def test_heads(checkpoint):
    model = SLiMTiny(pretrained=checkpoint(), num_classes=4)
    x, _ = toy(2)
    assert model.get_classifier().in_features == model.num_features == 32
    model.reset_classifier(3, "token")
    assert (model.head.in_features, model(x).shape) == (16, (2, 3))
    model.reset_classifier(0)
    want = SLiMClassifier.from_pretrained(checkpoint(), num_classes=0, pool="cls")(x)
    torch.testing.assert_close(model.eval()(x), want)
    model.set_grad_checkpointing(False)


def test_intermediates(checkpoint):
    model = SLiMTiny(pretrained=checkpoint(), num_classes=4).eval()
    x, _ = toy(3)
    final, patches = model.forward_intermediates(x)
    torch.testing.assert_close(model.forward_head(final), model(x))
    want = model.get_intermediate_layers(x, 3, reshape=True, norm=False)
    assert [p.shape for p in patches] == [(6, 16, 2, 25)] * 3
    for ours, theirs in zip(patches, want, strict=True):
        torch.testing.assert_close(ours, theirs)
    (pair,) = model.forward_intermediates(
        x,
        [-1],
        return_prefix_tokens=True,
        norm=True,
        stop_early=True,
        output_fmt="NLC",
        intermediates_only=True,
    )
    torch.testing.assert_close(pair[0], final["x_norm_patchtokens"])
    both = torch.cat([final["x_norm_clstoken"][:, None], final["x_norm_regtokens"]], 1)
    torch.testing.assert_close(pair[1], both)
    assert len(model.forward_intermediates(x, 2, intermediates_only=True)) == 2


def test_its_config(checkpoint):
    model = SLiMTiny(pretrained=checkpoint("coco-17", "xyc"), num_classes=4)
    assert model.default_cfg == model.pretrained_cfg
    assert model.default_cfg["input_size"] == (3, 64, 17)
    for name in ("first_conv", "classifier"):
        assert f"{model.default_cfg[name]}.weight" in dict(model.named_parameters())


def test_with_timm_itself(make_classifier, tmp_path):
    timm_models = pytest.importorskip("timm.models", reason="timm is not installed")
    make_classifier(4, "ntu-25").save_pretrained(tmp_path)
    timm_models.register_model(slim_tiny)
    named = timm_models.PretrainedCfg(file=str(tmp_path))
    model = timm_models.create_model("slim_tiny", pretrained=True, pretrained_cfg=named)
    assert (model.config.width, model.num_classes) == (16, 4)
    with pytest.raises(UserError, match="features_only"):
        timm_models.create_model("slim_tiny", features_only=True)


def test_what_is_refused(checkpoint):
    with pytest.raises(UserError, match="features_only gives pyramids of pictures"):
        slim_tiny(features_only=True)
    for wrong in ({"indices": [3]}, {"indices": 0}, {"indices": []}, {"output_fmt": "NHWC"}):
        with pytest.raises(UserError, match="it has 3 blocks, and NCHW or NLC"):
            SLiMTiny(pretrained=checkpoint()).forward_intermediates(toy(1)[0], **wrong)
    with pytest.raises(UserError, match="pretrained=True needs the weights' path"):
        slim_tiny(pretrained=True)
    with pytest.raises(UserError, match="global_pool='max' is not known: it is token or avg"):
        slim_tiny(global_pool="max")
    with pytest.raises(UserError, match="contradicts in_chans=2"):
        slim_tiny(checkpoint(), in_chans=2)
    with pytest.raises(UserError, match="no gradient checkpointing"):
        slim_tiny(checkpoint()).set_grad_checkpointing()
    with pytest.warns(UserWarning, match=r"no use for drop_path_rate=0\.1, img_size=64\.$"):
        slim_tiny(checkpoint(), drop_path_rate=0.1, img_size=64)

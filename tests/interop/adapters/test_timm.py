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
    model = create_model("slim_tiny", pretrained=True, pretrained_cfg_overlay={"file": str(tmp_path / "c")}).eval()
    assert torch.equal(model(x), classifier(x))
    assert torch.equal(model.forward_head(model.forward_features(x)), model(x))
    assert model.forward_head(model.forward_features(x), pre_logits=True).shape == (3, model.head_hidden_size)
    options = {"num_classes": 7, "drop_rate": 0.2, "drop_path_rate": 0.0, "global_pool": "avg", "in_chans": 3}
    model = create_model("slim_tiny", pretrained=str(tmp_path / "c"), **options)
    assert (model.num_classes, model.pool, model.head_drop.p, model.num_features) == (7, "mean", 0.2, 16)
    fresh = create_model("slim_tiny", pretrained=False, pretrained_cfg_overlay={"file": "nowhere"})
    assert fresh.config.width == 256
    torch.testing.assert_close(slim_tiny(str(tmp_path / "c")).eval()(x), classifier(x))


def test_fine_tuning_by_layers(create_model, checkpoint):
    model = create_model("slim_tiny", pretrained=True, pretrained_cfg_overlay={"file": checkpoint()}, num_classes=2)
    layers = timm.layer_numbers(model)
    assert {layers[n] for n in ("cls_token", "pos_embed", "register_tokens", "patch_embed.proj.weight")} == {0}
    assert [layers[f"blocks.{n}.mlp.w3.bias"] for n in range(3)] == [1, 2, 3]
    assert (layers["norm.weight"], layers["head.weight"]) == (3, 4)
    names = dict(model.named_parameters())
    assert model.no_weight_decay() < names.keys()
    groups = [{"params": [p], "lr": 5e-3 * 0.75 ** (4 - layers[n])} for n, p in names.items() if p.requires_grad]
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


def test_what_is_refused(checkpoint):
    with pytest.raises(UserError, match="pretrained=True needs to be told where"):
        slim_tiny(pretrained=True)
    with pytest.raises(UserError, match="global_pool='max' is not known: it is token or avg"):
        slim_tiny(global_pool="max")
    with pytest.raises(UserError, match="contradicts in_chans=2"):
        slim_tiny(checkpoint(), in_chans=2)
    with pytest.raises(UserError, match="no gradient checkpointing"):
        slim_tiny(checkpoint()).set_grad_checkpointing()
    with pytest.warns(UserWarning, match=r"no use for drop_path_rate=0\.1, img_size=64\.$"):
        slim_tiny(checkpoint(), drop_path_rate=0.1, img_size=64)

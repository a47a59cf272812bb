"""Heads of other trainers come back as one linear map."""

import argparse
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from slim_fast import SLiMClassifier, SLiMEncoder
from slim_fast.interop.ctrgcn import Model
from slim_fast.interop.mamp import Transformer
from slim_fast.interop.pyskl import SLiM as Backbone
from slim_fast.interop.skateformer import SkateFormer_
from slim_fast.model.encoder import EncoderConfig
from tests.interop.adapters.conftest import toy
from tests.interop.adapters.stand_ins import openmmlab
from tests.interop.checkpoints.conftest import PUBLIC
from tests.interop.checkpoints.stand_ins import beside
from tests.interop.conftest import noisy

pytestmark = pytest.mark.filterwarnings("ignore:.*attention heads")


@pytest.fixture
def clips():
    return torch.randn(4, 3, 16, 25, 2)


@pytest.mark.parametrize("where", ["in front of fc", "as bn", "in front of the head"])
@pytest.mark.parametrize("affine", [False, True])
def test_a_probes_norm_and_head_come_back(clips, tmp_path, where, affine):
    """MAMP's linear probing: {"model": ...} with head.fc = Sequential(BatchNorm1d, Linear), eps
    1e-6.
    """
    model = noisy(Transformer(num_classes=7, dim_feat=64, depth=2, num_heads=2, dim_in=3))
    norm = nn.BatchNorm1d(128, affine=affine, eps=1e-6).eval()
    norm.running_mean, norm.running_var = torch.randn(128), torch.rand(128) + 0.1
    if affine:
        norm = noisy(norm)
    plain = model.head.fc
    if where == "in front of the head":
        model.head = nn.Sequential(norm, plain)
    else:
        model.head.fc = nn.Sequential(norm, plain)
    want = model(clips)
    weights = model.state_dict()
    if where == "as bn":
        weights = {
            k.replace("head.fc.0.", "head.bn.").replace("head.fc.1.", "head.fc."): v
            for k, v in weights.items()
        }
    wrapped = {f"module.{name}": tensor for name, tensor in weights.items()}
    torch.save({"model": wrapped, "epoch": 3, "args": argparse.Namespace(lr=1)}, tmp_path / "a.pth")
    back = SLiMClassifier.from_pretrained(tmp_path / "a.pth")
    assert (back.num_classes, back.head.weight.shape) == (7, (7, 128))
    torch.testing.assert_close(back(clips), want, rtol=1e-4, atol=1e-4)
    again = Transformer(pretrained=tmp_path / "a.pth", num_heads=2).eval()
    torch.testing.assert_close(again(clips), want, rtol=1e-4, atol=1e-4)
    cls = SLiMEncoder.from_pretrained(tmp_path / "a.pth")(clips)
    torch.testing.assert_close(cls, model.forward_features(clips)["x_norm_clstoken"])


@pytest.mark.parametrize("head", ["fc", "fc_cls"])
def test_openmmlabs_backbone_and_head_come_back(clips, tmp_path, head):
    found = openmmlab.Registry()
    found.register_module("SLiM", module=Backbone)
    config = {"backbone": {"type": "SLiM"}, "cls_head": {"num_classes": 7, "in_channels": 256}}
    model = noisy(openmmlab.RecognizerGCN(found, config), 0.02)
    clips[0, ..., 1] = 0
    scores = model(clips.permute(0, 4, 2, 3, 1)[:, None])
    weights = {
        k.replace("cls_head.fc.", f"cls_head.{head}."): v for k, v in model.state_dict().items()
    }
    torch.save(
        {"meta": {"epoch": np.int64(3)}, "state_dict": OrderedDict(weights), **beside()},
        tmp_path / "a.pth",
    )
    back = SLiMClassifier.from_pretrained(tmp_path / "a.pth")
    assert (back.num_classes, back.pool, back.people_pool) == (7, "mean", "mean")
    torch.testing.assert_close(back(clips).softmax(-1), scores)
    torch.testing.assert_close(
        Backbone(pretrained=tmp_path / "a.pth").state_dict(), model.backbone.state_dict()
    )


@pytest.mark.parametrize("kind", [Model, SkateFormer_])
def test_a_plain_state_dict_of_wrapped_names(clips, tmp_path, kind):
    model = noisy(kind(7), 0.02) if kind is Model else noisy(kind(num_classes=7), 0.02)
    torch.save(
        {f"module.{name}": tensor for name, tensor in model.state_dict().items()}, tmp_path / "a.pt"
    )
    torch.testing.assert_close(
        SLiMClassifier.from_pretrained(tmp_path / "a.pt")(clips), model(clips)
    )


@pytest.mark.parametrize(
    "head", [nn.Sequential(nn.Linear(128, 8), nn.Linear(8, 7)), nn.Sequential(nn.Conv1d(1, 7, 128))]
)
def test_heads_that_are_no_linear_map_are_named(make_classifier, tmp_path, head):
    classifier = make_classifier(7, config=PUBLIC)
    classifier.head = head
    torch.save(classifier.state_dict(), tmp_path / "a.pth")
    with pytest.warns(
        UserWarning, match=r"The head in .*a\.pth, of more than a linear map, is not taken"
    ):
        SLiMClassifier.from_pretrained(tmp_path / "a.pth", num_classes=7)
    with pytest.warns(UserWarning, match=r"is not taken: that of 60 classes"):
        SLiMClassifier.from_pretrained(tmp_path / "a.pth")
    assert SLiMEncoder.from_pretrained(tmp_path / "a.pth").config == PUBLIC


@pytest.mark.filterwarnings("default")
def test_guessed_heads_are_said_and_given_ones_taken(make_encoder, tmp_path, recwarn):
    four = EncoderConfig(width=64, depth=2, heads=4, registers=3)
    encoder = make_encoder(25, config=four)
    torch.save(encoder.state_dict(), tmp_path / "a.pth")
    with pytest.warns(
        UserWarning, match=r"2 of 32 .* config=EncoderConfig\(width=64, depth=2, heads=\.\.\.\)"
    ) as told:
        assert SLiMEncoder.from_pretrained(tmp_path / "a.pth").num_heads == 2
    assert len(told) == 1
    with pytest.warns(UserWarning, match="does not say how many attention heads") as told:
        Backbone(pretrained=tmp_path / "a.pth")
    assert len(told) == 1
    recwarn.clear()
    x, _ = toy(2)
    back = SLiMEncoder.from_pretrained(tmp_path / "a.pth", config=four)
    assert torch.equal(back(x), encoder(x))
    assert Transformer(pretrained=tmp_path / "a.pth", num_heads=4, num_classes=2).num_heads == 4
    encoder.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert SLiMEncoder.from_pretrained(tmp_path / "a.pth").num_heads == 4
    assert not [w for w in recwarn if "heads" in str(w.message)]

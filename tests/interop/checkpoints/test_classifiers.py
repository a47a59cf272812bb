"""Classifiers and their heads, saved and loaded."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from slim_fast import SLiMClassifier, SLiMEncoder, UserError
from tests.interop.checkpoints.conftest import PUBLIC, STICK, clips_for, same_answers


@pytest.mark.parametrize("pool", ["cls", "mean", "cls+mean"])
def test_a_classifier_comes_back_with_its_head(make_classifier, tmp_path, pool):
    classifier = make_classifier(
        3, topology=STICK, pool=pool, people_pool="max", channels="xyc", dropout=0.3
    )
    classifier.save_pretrained(tmp_path)
    back = SLiMClassifier.from_pretrained(tmp_path)
    assert (back.num_classes, back.pool, back.people_pool, back.topology) == (3, pool, "max", STICK)
    x = clips_for(classifier)
    assert torch.equal(back(x), classifier(x))
    headless = make_classifier(0)
    headless.save_pretrained(tmp_path / "headless")
    back = SLiMClassifier.from_pretrained(tmp_path / "headless")
    assert back.num_classes == 0
    assert torch.equal(back(x := clips_for(back)), headless(x))


def test_an_encoder_of_a_classifier_and_the_reverse(make_encoder, make_classifier, tmp_path):
    classifier, encoder = make_classifier(3), make_encoder()
    classifier.save_pretrained(tmp_path / "classifier")
    encoder.save_pretrained(tmp_path / "encoder")
    assert same_answers(classifier, SLiMEncoder.from_pretrained(tmp_path / "classifier"))
    fresh = SLiMClassifier.from_pretrained(
        tmp_path / "encoder", num_classes=7, people_pool="mean", dropout=0.1
    )
    assert same_answers(encoder, fresh)
    assert fresh.head.weight.shape == (7, 32)
    assert 0 < fresh.head.weight.abs().max() < 0.1  # a new one
    assert SLiMClassifier.from_pretrained(tmp_path / "encoder").num_classes == 60


@pytest.mark.parametrize("options", [{"num_classes": 5}, {"pool": "mean"}, {"num_classes": 0}])
def test_another_head_than_the_checkpoints_is_new(make_classifier, tmp_path, options):
    classifier = make_classifier(3, pool="cls")
    classifier.save_pretrained(tmp_path)
    back = SLiMClassifier.from_pretrained(tmp_path, **options)
    assert same_answers(classifier, back)
    assert all(getattr(back, name) == value for name, value in options.items())
    if back.num_classes:
        assert back.head.weight.abs().max() < 0.1 < classifier.head.weight.abs().max()


@pytest.mark.parametrize("damage", ["weight gone", "all gone", "other size", "other module"])
def test_a_trained_head_is_never_quietly_dropped(make_classifier, tmp_path, damage):
    classifier = make_classifier(3)
    if damage == "other module":
        classifier.head = torch.nn.Sequential(torch.nn.Linear(32, 8), torch.nn.Linear(8, 3))
    classifier.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    if damage == "other size":
        weights["head.weight"] = torch.zeros(3, 16)
    for name in {"weight gone": ["head.weight"], "all gone": ["head.weight", "head.bias"]}.get(
        damage, []
    ):
        del weights[name]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"head\.weight is "):
        SLiMClassifier.from_pretrained(tmp_path)
    assert SLiMClassifier.from_pretrained(tmp_path, num_classes=4).num_classes == 4


def test_a_classifiers_pth(make_classifier, tmp_path):
    for pool in ("cls+mean", "mean"):
        classifier = make_classifier(3, config=PUBLIC, pool=pool)
        torch.save(classifier.state_dict(), tmp_path / "a.pth")
        x = clips_for(classifier)
        back = SLiMClassifier.from_pretrained(tmp_path / "a.pth", pool=pool)
        assert torch.equal(back(x), classifier(x))
        assert same_answers(classifier, SLiMEncoder.from_pretrained(tmp_path / "a.pth"))
    with pytest.raises(UserError, match=r"head\.weight is \(3, 64\), not \(3, 128\)"):
        SLiMClassifier.from_pretrained(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"num_classes": "3"}, "num_classes='3'"),
        ({"num_classes": -1}, "num_classes=-1"),
        ({"pool": 4}, "pool=4"),
        ({"people_pool": "median"}, "people_pool='median'"),
    ],
)
def test_settings_that_are_none(make_classifier, tmp_path, settings, says):
    make_classifier(3).save_pretrained(tmp_path)
    ours = json.loads((tmp_path / "slim_fast.json").read_text())
    (tmp_path / "slim_fast.json").write_text(json.dumps({**ours, **settings}))
    with pytest.raises(UserError, match=re.escape(says)):
        SLiMClassifier.from_pretrained(tmp_path)

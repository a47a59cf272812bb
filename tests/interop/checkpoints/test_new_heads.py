"""Which head a loaded classifier has, and what is said of it."""

import pytest

from slim_fast import SLiMClassifier, SLiMEncoder, UserError
from slim_fast.interop.ctrgcn import Model
from slim_fast.model.files import save_encoder


def test_class_names_are_kept_and_go_with_the_head(make_classifier, tmp_path):
    classifier = make_classifier(3, class_names=["walk", "wave", "jump"])
    classifier.save_pretrained(tmp_path)
    assert SLiMClassifier.from_pretrained(tmp_path).class_names == ("walk", "wave", "jump")
    assert SLiMClassifier.from_pretrained(tmp_path, num_classes=3).class_names == (
        "walk",
        "wave",
        "jump",
    )
    assert SLiMClassifier.from_pretrained(tmp_path, num_classes=4).class_names is None
    assert classifier.optimize().class_names == ("walk", "wave", "jump")
    with pytest.raises(UserError, match="2 class names for 3 classes"):
        classifier.name_classes(["walk", "wave"])
    classifier.reset_classifier(5)
    assert classifier.class_names is None


def test_a_new_head_is_said_and_has_the_runs_classes(make_encoder, tmp_path):
    encoder = make_encoder()
    encoder.save_pretrained(tmp_path / "encoder")
    save_encoder(
        encoder, tmp_path / "run" / "encoder", 5, "xyz", {"classes": ["wave", "kick", "sit"]}
    )
    with pytest.warns(
        UserWarning, match=r"encoder.model\.safetensors holds no trained head: that of 60 classes"
    ) as told:
        fresh = SLiMClassifier.from_pretrained(tmp_path / "encoder")
    assert (fresh.num_classes, fresh.class_names, len(told)) == (60, None, 1)
    with pytest.warns(
        UserWarning,
        match=r"holds no trained head: that of 3 classes, those of its recordings, is new",
    ):
        fresh = SLiMClassifier.from_pretrained(tmp_path / "run")
    assert (fresh.num_classes, fresh.class_names) == (3, ("wave", "kick", "sit"))
    with pytest.warns(UserWarning, match="holds no trained head: that of 3 classes") as told:
        assert Model(pretrained=tmp_path / "run").class_names == ("wave", "kick", "sit")
    assert len(told) == 1


@pytest.mark.filterwarnings("error")
def test_a_head_that_was_asked_for_is_no_news(make_encoder, make_classifier, tmp_path):
    save_encoder(
        make_encoder(), tmp_path / "run" / "encoder", 5, "xyz", {"classes": ["wave", "kick", "sit"]}
    )
    assert SLiMClassifier.from_pretrained(tmp_path / "run", num_classes=4).class_names is None
    assert SLiMClassifier.from_pretrained(tmp_path / "run", num_classes=0).num_classes == 0
    assert Model(4, pretrained=tmp_path / "run").num_classes == 4
    make_classifier(3).save_pretrained(tmp_path / "classifier")
    assert SLiMClassifier.from_pretrained(tmp_path / "classifier", num_classes=0).num_classes == 0
    assert SLiMClassifier.from_pretrained(tmp_path / "classifier").num_classes == 3
    SLiMEncoder.from_pretrained(tmp_path / "classifier")


def test_a_trained_head_that_is_not_taken_is_said(make_classifier, tmp_path):
    make_classifier(3).save_pretrained(tmp_path)
    for options, says in (
        ({"num_classes": 4}, "that of 4 classes"),
        ({"pool": "mean"}, "pool='mean'"),
    ):
        with pytest.warns(
            UserWarning, match=f"The head in .*, of 3 classes, is not taken: .*{says}.* is new"
        ):
            SLiMClassifier.from_pretrained(tmp_path, **options)

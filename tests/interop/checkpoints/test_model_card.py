"""Model cards: what they say, that Hugging Face reads them, and that other texts stay."""

import json
from pathlib import Path

import pytest

from slim_fast import SLiMClassifier, SLiMEncoder, UserError
from slim_fast.interop.checkpoints.describe import describe_weights

SUMMARY = {
    "data": "/home/somebody/caches/ntu60",
    "steps": 500,
    "batch": 64,
    "samples": 32000,
    "knn_top1": 0.625,
    "knn_top1_random_encoder": 0.25,
    "knn_top1_coordinates": None,
    "linear_top1": 0.75,
}


@pytest.fixture
def run(make_encoder, tmp_path) -> Path:
    """The folder of a finished run."""
    make_encoder("ntu-25").save_pretrained(tmp_path / "run" / "encoder")
    (tmp_path / "run" / "encoder" / "README.md").unlink()
    (tmp_path / "run" / "summary.json").write_text(json.dumps(SUMMARY))
    (tmp_path / "run" / "config.json").write_text(json.dumps({"split": "xsub"}))
    return tmp_path / "run"


def test_a_card_says_what_it_is_and_how_it_is_used(make_encoder, make_classifier, tmp_path):
    make_encoder("coco-17", "xyc").save_pretrained(tmp_path / "encoder")
    card = (tmp_path / "encoder" / "README.md").read_text()
    assert card.count("Not recorded.") == 2
    for part in (
        'library_name: "slim_fast"\n',
        'skeleton: "coco-17"\nchannels: "xyc"\n',
        "| width, depth, heads | 16, 3, 2 |",
        "model = SLiMEncoder.from_pretrained(",
        "(B * M, 16), CLS of each person",
    ):
        assert part in card
    for classes, output in ((4, "(B, 4)"), (0, "(B, F), features")):
        make_classifier(classes).save_pretrained(tmp_path / "classifier")
        card = (tmp_path / "classifier" / "README.md").read_text()
        assert "# SLiM classifier for 5 joints" in card
        assert f"| classes | {classes} |" in card
        assert output in card


@pytest.mark.parametrize("inside", ["", "encoder"])
def test_training_and_accuracies_of_the_run_are_kept(run, tmp_path, inside):
    encoder = SLiMEncoder.from_pretrained(run / inside)
    encoder.save_pretrained(tmp_path / "one")
    SLiMClassifier.from_pretrained(tmp_path / "one", num_classes=3).save_pretrained(
        tmp_path / "two"
    )
    for name in ("one", "two"):
        card = (tmp_path / name / "README.md").read_text()
        assert "| data | ntu60 |\n| split | xsub |\n| steps | 500 |\n" in card
        assert "| 1-NN accuracy (%) | 62.5 | 25.0 | – |" in card
        assert "| linear accuracy (%) | 75.0 | – | – |" in card
        assert "somebody" not in card


def test_hugging_face_reads_the_card(run, tmp_path):
    hub = pytest.importorskip("huggingface_hub", reason="this test needs huggingface_hub")
    SLiMEncoder.from_pretrained(run).save_pretrained(tmp_path / "saved")
    card = hub.ModelCard.load(tmp_path / "saved" / "README.md").data
    assert (card.library_name, card.license, card.skeleton) == ("slim_fast", None, "ntu-25")
    results = [(result.metric_name, result.metric_value) for result in card.eval_results]
    assert results == [
        ("1-NN accuracy of frozen features", 0.625),
        ("linear accuracy of frozen features", 0.75),
    ]
    assert card.eval_results[0].dataset_name == "ntu60"


def test_cards_of_ours_are_replaced_and_others_stay(make_encoder, tmp_path):
    make_encoder("ntu-25").save_pretrained(tmp_path)
    encoder = make_encoder("coco-17", "xy")
    encoder.save_pretrained(tmp_path)
    assert 'skeleton: "coco-17"' in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_bytes(b"my own text \xff")
    encoder.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_bytes() == b"my own text \xff"
    assert SLiMEncoder.from_pretrained(tmp_path).topology.name == "coco-17"


@pytest.mark.parametrize(
    "summary", ["", "[]", "{}", '{"data": 3}', '{"data": "a", "knn_top1": "x"}']
)
def test_records_that_cannot_be_read_are_passed_over(run, tmp_path, summary):
    (run / "summary.json").write_text(summary)
    SLiMEncoder.from_pretrained(run).save_pretrained(tmp_path / "saved")
    ours = json.loads((tmp_path / "saved" / "slim_fast.json").read_text())
    (tmp_path / "saved" / "slim_fast.json").write_text(json.dumps({**ours, "training": [summary]}))
    SLiMEncoder.from_pretrained(tmp_path / "saved").save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "README.md").read_text().count("Not recorded.") == 2


BOMB = "\n".join(f"x{n + 1}: &x{n + 1} [{', '.join([f'*x{n}'] * 10)}]" for n in range(12))


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        ("license: mit\nbase_model: [a/b, c/d]", ["license     mit", "base_model  a/b, c/d"]),
        ("date: 2020-13-45", []),
        ("[" * 3000, []),
        (
            "license: mit\nmodel-index: [{results: [{dataset: {name: a}, "
            "metrics: [{name: b, value: c}]}]}]",
            ["license     mit"],
        ),
        ("license: mit\nmodel-index: []", ["license     mit"]),
        (f"x0: &x0 [a]\n{BOMB}\nlicense: *x12", []),
    ],
)
def test_whatever_a_card_says_is_shown_or_passed_over(make_encoder, tmp_path, header, shown):
    make_encoder().save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text(f"---\n{header}\n---\nA text.\n")
    lines = describe_weights(tmp_path).splitlines()
    assert [line for line in lines if line.startswith(("license", "base_model"))] == shown
    assert "A text." in lines


def test_a_card_that_cannot_be_written(make_encoder, tmp_path):
    (tmp_path / "README.md").mkdir()
    with pytest.raises(UserError, match=r"Could not write .*README\.md"):
        make_encoder().save_pretrained(tmp_path)

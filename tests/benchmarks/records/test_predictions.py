"""Tables of predictions: rates and ratios are those of the times, and the commands' words."""

import json

from benchmarks.predicted.__main__ import main
from benchmarks.records.pages import ROOT
from benchmarks.records.predictions import load_predictions, prediction_tables

FOLDER = ROOT / "benchmarks" / "records" / "predictions"


def predicted() -> dict[str, object]:
    kinds = {
        "norm_linear": {"gpu": 80, "host": 1, "calls": 24, "limits": {"L2": 76, "DRAM": 4}},
        "optimiser": {"gpu": 0.1, "host": 1, "calls": 1, "limits": {"DRAM": 0.1}},
    }
    step = {"gpu": 80.1, "launched": 100, "samples": 768, "kinds": kinds}
    return {
        "device": "H200",
        "batch": 768,
        "steps": [
            {"side": "ours", **step},
            {"side": "eager PyTorch", **step, "launched": 400},
        ],
        "inference": [{"side": "ours", **step, "clips": 512, "ceiling": 0.5}],
        "ops": [{"op": "norm_swiglu", "other": "eager PyTorch", "ours": 2000, "theirs": 5000}],
    }


def test_rates_and_ratios() -> None:
    lines = prediction_tables([predicted()]).splitlines()
    assert "Predicted, not measured." in lines[0]
    assert "| ours | 100 | 80.1 | 7,680 | 9,588 | 4.0× |" in lines
    assert "| ours | 100 | 80.1 | 6,392 | 50% |" in lines
    assert "| norm_swiglu | eager PyTorch | 2.0 | 5.0 | 2.5× |" in lines
    assert "| norm_linear | 80.0 | 1.0 | 24 | L2 95% |" in lines
    assert not any(line.startswith("| optimiser") for line in lines)  # too little for a row


def test_the_record_on_file_reaches_what_is_asked() -> None:
    (found,) = load_predictions(FOLDER)
    for side, target in zip(found["steps"], (4000, 5000), strict=False):
        assert 1e3 * side["samples"] / side["launched"] >= target
        # the kinds of operations are the whole
        assert abs(sum(kind["gpu"] for kind in side["kinds"].values()) - side["gpu"]) < 0.01
    assert found["inference"][0]["ceiling"] >= 0.45


def test_other_files_are_no_predictions_of_steps(tmp_path) -> None:
    (tmp_path / "h200-first-kernels.json").write_text("[]")
    assert load_predictions(tmp_path) == []
    (tmp_path / "whole-step-h200.json").write_text(json.dumps(predicted()))
    assert len(load_predictions(tmp_path)) == 1
    assert prediction_tables([]) == ""


def test_the_interpreter_is_refused(capsys) -> None:
    assert main([]) == 2
    assert "unset TRITON_INTERPRET" in capsys.readouterr().err

"""A run is trained, evaluated and put on record; the table says what the record says."""

import json

import pytest

from benchmarks import protocols
from benchmarks.records.protocols import protocol_tables
from slim_fast import evaluate
from slim_fast.data.synthetic import write_synthetic

TINY = [
    "--preset",
    "demo",
    "--steps",
    "2",
    "--batch",
    "4",
    "--threads",
    "1",
    "--precision",
    "fp32",
    "--model.encoder.width",
    "16",
    "--model.encoder.depth",
    "1",
    "--model.encoder.heads",
    "1",
    "--model.head.prototypes",
    "8",
    "--log.plots",
    "false",
]


@pytest.fixture
def quick(monkeypatch):
    """Evaluation of two iterations and one seed."""
    whole = evaluate.main
    few = ["--iterations", "2", "--seeds", "1", "--fractions", "0.5"]
    monkeypatch.setattr(evaluate, "main", lambda words: whole([*words, *few]))


def test_a_record_holds_every_protocol_and_no_path(tmp_path, quick, capsys):
    cache, run, records = tmp_path / "few", tmp_path / "a-run", tmp_path / "records"
    actions = ["wave", "kick"]
    write_synthetic(cache, subjects=6, repetitions=2, actions=actions, progress=False)
    words = [str(cache), str(run), "--title", "Two actions", "--records", str(records)]
    assert protocols.main([*words, *TINY]) == 0
    record = json.loads((records / "a-run.json").read_text())
    assert list(record["protocols"]) == ["knn", "linear", "semi", "finetune"]
    assert str(tmp_path) not in json.dumps({**record, "commands": []}).replace(
        json.dumps(record["training"]["data"]), ""
    )
    table = protocol_tables(records)
    assert table.startswith("### Two actions")
    assert "16 training and 8 test clips, 2 classes. Pre-trained on 8 samples" in table
    accuracy = record["protocols"]["knn"]["figures"]["1-NN"]["coordinates"]["mean"]
    (row,) = (line for line in table.splitlines() if line.startswith("| 1-NN |"))
    assert row.split("|")[5].strip() == f"{100 * accuracy:.1f}"
    assert row.split("|")[3].strip() == "–"  # nothing is trained from scratch for k-NN


def test_what_cannot_be_trained_is_said_once(tmp_path, capsys):
    records = tmp_path / "records"
    words = [str(tmp_path / "none"), str(tmp_path / "run"), "--title", "x"]
    assert protocols.main([*words, "--records", str(records), *TINY]) != 0
    assert capsys.readouterr().err.count("error") == 1
    assert not records.exists()

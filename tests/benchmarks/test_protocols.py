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


def test_runs_of_one_title_are_one_table_over_seeds(tmp_path):
    for seed, accuracies in enumerate(([0.5, 0.75], [0.25, 0.5])):
        figures = {
            "learned": {"mean": 0, "std": 0, "values": accuracies},
            "coordinates": {"mean": 0.5, "std": 0, "values": [0.5]},
        }
        protocol = {"clips": [6, 4], "classes": ["a", "b"], "seconds": 60 + 120 * seed}
        record = {
            "title": "One",
            "commands": [f"train --seed {seed}"],
            "processor": "a processor",
            "commit": "abc",
            "date": "2026-01-01",
            "training": {
                **{"samples": 1000, "seed": seed, "threads": 1, "dtype": "float32"},
                "seconds": 300,
            },
            "protocols": {"knn": {**protocol, "figures": {"1-NN": figures}}},
        }
        (tmp_path / f"run-{seed}.json").write_text(json.dumps(record))
    table = protocol_tables(tmp_path)
    assert table.count("### One") == 1
    assert "(seeds 0, 1, threads: 1, float32, 5 minutes), evaluated in 1 to 3 minutes" in table
    assert "train --seed 0\ntrain --seed 1" in table
    assert "| 1-NN | 50.0 ± 20.4 | – | – | 50.0 |" in table


def test_what_cannot_be_trained_is_said_once(tmp_path, capsys):
    records = tmp_path / "records"
    words = [str(tmp_path / "none"), str(tmp_path / "run"), "--title", "x"]
    assert protocols.main([*words, "--records", str(records), *TINY]) != 0
    assert capsys.readouterr().err.count("error") == 1
    assert not records.exists()

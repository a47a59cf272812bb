"""Trials of settings are trained, scored on training subjects alone and put on record."""

import json

import numpy as np
import pytest
import torch

from benchmarks import settings
from benchmarks.records.protocols import settings_tables
from benchmarks.settings import Subjects
from slim_fast.data.cache import ClipCache
from slim_fast.data.synthetic import write_synthetic
from slim_fast.evaluation.features import load_coordinates

TINY = [
    *("--preset", "demo", "--steps", "2", "--batch", "4", "--threads", "1", "--precision", "fp32"),
    *("--model.encoder.width", "16", "--model.encoder.depth", "1", "--model.encoder.heads", "1"),
    *("--model.head.prototypes", "8"),
]


@pytest.fixture
def cache(tmp_path):
    write_synthetic(
        tmp_path / "few", subjects=6, repetitions=2, actions=["wave", "kick"], progress=False
    )
    return tmp_path / "few"


def test_every_trial_is_on_record_and_in_the_table(tmp_path, cache, capsys):
    trials = tmp_path / "two.json"
    asked = {"`demo`": [], "no masks": ["--model.loss.masked", "0"]}
    trials.write_text(json.dumps({"title": "Two", "common": TINY, "trials": asked}))
    words = [str(trials), str(cache), "--out", str(tmp_path / "runs"), "--records", str(tmp_path)]
    assert settings.main(words) == 0
    record = json.loads((tmp_path / "two.json").read_text())
    names = [row["settings"] for row in record["rows"]]
    assert names == ["raw coordinates", "random encoder", "`demo`", "no masks"]
    assert all(row["samples"] == 8 for row in record["rows"][2:])
    assert str(tmp_path) not in json.dumps(record)
    trained = json.loads((tmp_path / "runs" / "two-1" / "config.json").read_text())
    assert trained["model"]["loss"]["masked"] == 0
    assert "| no masks | " in settings_tables(tmp_path)


def test_subjects_are_classified_from_the_others_by_hand(cache):
    opened = ClipCache.open(cache)
    train, _ = opened.split()
    clips, labels = load_coordinates(opened, train), opened.label[train]
    right = 0
    for i in range(len(train)):
        # 1-NN of one clip among those of other folds: with 4 folds, subjects by rank modulo 4
        ranks = np.unique(opened.subject[train], return_inverse=True)[1] % 4
        others = torch.from_numpy(ranks != ranks[i])
        near = torch.nn.functional.cosine_similarity(clips[i], clips[others], dim=1).argmax()
        right += labels[others.numpy()][near] == labels[i]
    assert Subjects(opened).score_coordinates()["knn"] == pytest.approx(100 * right / len(train))


def test_test_subjects_are_never_read(cache):
    opened = ClipCache.open(cache)
    before = Subjects(opened).score_coordinates()
    positions = np.array(opened.positions)
    for clip in opened.split()[1]:
        rows = opened.people[clip] * opened.length[clip]
        positions[opened.start[clip] : opened.start[clip] + rows] = np.nan
    np.save(cache / "positions.npy", positions)
    assert Subjects(ClipCache.open(cache)).score_coordinates() == before


def test_one_subject_is_refused(tmp_path, cache, capsys):
    trials = tmp_path / "t.json"
    trials.write_text(json.dumps({"title": "", "common": TINY, "trials": {}}))
    with np.load(cache / "clips.npz") as archive:
        columns = {**archive, "subject": np.ones_like(archive["subject"])}
    np.savez(cache / "clips.npz", **columns)
    assert settings.main([str(trials), str(cache), "--out", str(tmp_path / "runs")]) == 2
    assert "of one subject" in capsys.readouterr().err

"""Late fusion of streams: each alone, and together."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from slim_fast.evaluation.feature_files import FeatureFiles
from slim_fast.evaluation.features import extract_features, load_coordinates
from slim_fast.evaluation.linear import fit_linear_head
from slim_fast.evaluation.protocols import Settings, Task, evaluate_knn, evaluate_linear
from slim_fast.evaluation.protocols.fusion import evaluate_fusion, with_stream
from slim_fast.evaluation.protocols.task import WINDOWS
from slim_fast.model.streams import STREAMS
from slim_fast.skeletons import get_topology

QUICK = Settings(seeds=(0, 1), iterations=2)


@pytest.fixture
def tasks(make_cache, crowd, encoder):
    """30 clips of 3 actions, told apart by how a hand moves."""
    pose, clips = crowd(1), []
    for i in range(30):
        clip = pose + 0.05 * crowd(70, seed=i)
        clip[:, [7, 21, 22], i % 3, 0] += 0.2 * np.sin(np.arange(70) / 4 + i)[:, None]
        clips.append(clip)
    cache = make_cache(
        clips,
        label=[i % 3 for i in range(30)],
        subject=[i // 6 for i in range(30)],
        split=["train" if i < 18 else "test" for i in range(30)],
    )
    encoder.topology = get_topology("ntu-25")
    files = FeatureFiles(None, cache)
    return {s: Task(with_stream(encoder, s), cache, files) for s in STREAMS}


def share(predicted: torch.Tensor, task: Task) -> float:
    return float((predicted == task.test_labels).double().mean())


def test_each_stream_alone_is_its_own_evaluation(tasks):
    knn, linear = (evaluate_fusion(tasks, QUICK, protocol) for protocol in ("knn", "linear"))
    for name, task in tasks.items():
        alone = evaluate_knn(task, QUICK).rows["1-NN"]
        assert knn.rows[f"1-NN, {name}"] == alone
        alone = evaluate_linear(task, QUICK).rows["logistic regression"]
        assert linear.rows[f"logistic regression, {name}"] == alone
    assert knn.confusion.keys() == knn.rows.keys()
    assert len(knn.rows) == len(linear.rows) == 4


def test_windows_are_fused_where_asked(tasks):
    asked = replace(QUICK, windows=True, seeds=(0,))
    rows = evaluate_fusion(tasks, asked, "knn").rows
    row = f"1-NN, {WINDOWS}"
    assert rows[f"{row}, bone"] == evaluate_knn(tasks["bone"], asked).rows[row]
    assert rows[f"{row}, joint + bone + motion"].keys() == {"learned", "random_encoder"}
    assert len(rows) == 8


def test_together_similarities_and_scores_are_added(tasks):
    row = "joint + bone + motion"
    task = tasks["joint"]
    knn, linear = (evaluate_fusion(tasks, QUICK, protocol).rows for protocol in ("knn", "linear"))
    cosine = torch.zeros(len(task.test), len(task.train), dtype=torch.float64)
    scores = torch.zeros(len(task.test), 3, dtype=torch.float64)
    near = torch.zeros_like(cosine)
    for stream, one in tasks.items():
        train, test = (
            extract_features(one.encoder, task.cache, c) for c in (task.train, task.test)
        )
        a, b = (F.normalize(f.retrieval.double(), dim=1) for f in (train, test))
        cosine += b @ a.t()
        weight, bias, _ = fit_linear_head(train.pooled, task.train_labels, task.held_out, 3)
        scores += (test.pooled.double() @ weight.t() + bias).softmax(1).log()
        a, b = (
            F.normalize(load_coordinates(task.cache, c, 2, stream).double(), dim=1)
            for c in (task.train, task.test)
        )
        near += b @ a.t()
    labels = task.train_labels
    assert knn[f"1-NN, {row}"]["learned"] == [share(labels[cosine.argmax(1)], task)]
    assert knn[f"1-NN, {row}"]["coordinates"] == [share(labels[near.argmax(1)], task)]
    name = f"logistic regression, {row}"
    assert linear[name]["learned"] == [share(scores.argmax(1), task)]
    assert len(linear[name]["random_encoder"]) == 2

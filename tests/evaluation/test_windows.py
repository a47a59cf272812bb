"""CLS of windows against windows cut one by one; what the protocols read of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from slim_fast.evaluation.feature_files import FeatureFiles
from slim_fast.evaluation.features import load_evaluation_clips
from slim_fast.evaluation.knn import compute_knn_accuracy
from slim_fast.evaluation.protocols import Settings, Task, evaluate_knn, evaluate_linear
from slim_fast.evaluation.protocols.semi import evaluate_semi
from slim_fast.evaluation.protocols.task import WINDOWS
from slim_fast.evaluation.windows import extract_windows
from slim_fast.model.encoder import Encoder


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_thirds_of_a_clip_begin_every_twelfth_of_it(batch, two_classes, encoder):
    got = extract_windows(encoder, two_classes, np.arange(4), batch=batch)
    block = max(encoder.config.depth - 2, 0)
    for clip, found in zip(range(4), got, strict=True):
        people = load_evaluation_clips(two_classes, np.array([clip]), 192)[0]
        expected = torch.zeros(9, 16)
        for number, start in enumerate(range(0, 129, 16)):
            for person in people:
                if person.any():
                    with torch.no_grad():
                        window = person[None, start : start + 64]
                        layers = encoder.encode_last_blocks(window, None, encoder.config.depth)
                    expected[number] += layers[block][1][0]
        torch.testing.assert_close(found, expected.flatten(), rtol=1e-4, atol=1e-5)


def test_an_encoder_of_one_block(two_classes, encoder):
    one = Encoder(replace(encoder.config, depth=1), encoder.topology, 3)
    features = extract_windows(one, two_classes, np.arange(2))
    assert features.shape == (2, 9 * 16)
    assert torch.isfinite(features).all()


def test_protocols_read_windows_where_asked(two_classes, encoder, tmp_path):
    task = Task(encoder, two_classes, FeatureFiles(tmp_path, two_classes))
    settings = Settings(iterations=2, fractions=(0.5,), draws="balanced", seeds=(0, 1))
    asked = replace(settings, windows=True)
    for evaluate, row in (
        (evaluate_knn, f"1-NN, {WINDOWS}"),
        (evaluate_linear, f"logistic regression, {WINDOWS}"),
        (evaluate_semi, f"50 % of the labels, balanced, frozen, {WINDOWS}"),
    ):
        assert row not in evaluate(task, settings).rows
        figures = evaluate(task, asked).rows[row]
        assert figures.keys() == {"learned", "random_encoder"}
        assert len(figures["random_encoder"]) == 2
        if evaluate is evaluate_knn:
            train, test = task.windows("learned")
            wanted = compute_knn_accuracy(train, task.train_labels, test, task.test_labels)[1]
            assert figures["learned"] == [wanted]

"""Body parts over time against plain loops; whitening against its definition."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from slim_fast.evaluation.feature_files import FeatureFiles
from slim_fast.evaluation.features import load_evaluation_clips
from slim_fast.evaluation.knn import compute_knn_accuracy
from slim_fast.evaluation.parts import RIDGE, extract_parts, whiten
from slim_fast.evaluation.protocols import Settings, Task, evaluate_knn, evaluate_linear
from slim_fast.evaluation.protocols.task import PARTS


@pytest.mark.parametrize("batch", [1, 5, 128])
def test_every_part_at_every_time_summed_over_people(batch, two_classes, encoder):
    got = extract_parts(encoder, two_classes, np.arange(4), batch=batch)
    parts = list(two_classes.topology.parts.values())
    for clip, found in zip(range(4), got, strict=True):
        expected = torch.zeros(8, len(parts), 16)
        for person in load_evaluation_clips(two_classes, np.array([clip]))[0]:
            if person.any():
                with torch.no_grad():
                    ((patches, _),) = encoder.encode_last_blocks(person[None], None, 1)
                grid = patches[0].view(8, 25, 16)
                for time in range(8):
                    for number, joints in enumerate(parts):
                        expected[time, number] += grid[time, list(joints)].mean(0)
        torch.testing.assert_close(found, expected.flatten(), rtol=1e-4, atol=1e-5)


def test_whitened_variances_are_one_but_for_the_ridge():
    generator = torch.Generator().manual_seed(0)
    scales = torch.logspace(-3, 2, 6)
    train = torch.randn(400, 6, generator=generator) * scales @ torch.randn(6, 6) + 3
    test = train[:10] + 1
    white, moved = whiten(train, test)
    covariance = white.t() @ white / len(white)
    variance = torch.linalg.eigvalsh(torch.cov(train.double().t(), correction=0)).flip(0)
    expected = variance / (variance + RIDGE * variance.mean())
    torch.testing.assert_close(covariance, expected.diag(), rtol=1e-6, atol=1e-9)
    # test rows take the same affine map
    again = whiten(train, train[:10])[1]
    torch.testing.assert_close(again, white[:10])
    shift = whiten(train, torch.stack([train[0], train[0] + 1]))[1]
    torch.testing.assert_close(moved - again, (shift[1] - shift[0]).expand(10, -1))


def test_whitening_of_more_features_than_rows_and_of_constant_ones():
    train = torch.randn(5, 9)
    train[:, 4] = 7
    white, test = whiten(train, torch.randn(3, 9))
    assert white.shape == (5, 5)
    assert torch.isfinite(white).all()
    assert torch.isfinite(test).all()
    nothing, _ = whiten(torch.ones(4, 3), torch.ones(2, 3))
    assert not nothing.any()


def test_protocols_read_parts_where_asked(two_classes, encoder, tmp_path):
    task = Task(encoder, two_classes, FeatureFiles(tmp_path, two_classes))
    settings = Settings(iterations=4)
    row = "1-NN, body parts over time, whitened"
    assert row not in evaluate_knn(task, settings).rows
    figures = evaluate_knn(task, replace(settings, parts=True))
    train, test = whiten(*task.parts("learned"))
    wanted = compute_knn_accuracy(train, task.train_labels, test, task.test_labels)[1]
    assert figures.rows[row]["learned"] == [wanted]
    assert figures.rows[row].keys() == {"learned", "random_encoder", "coordinates"}
    linear = evaluate_linear(task, replace(settings, parts=True))
    assert linear.rows[f"logistic regression, {PARTS}"].keys() == {"learned", "random_encoder"}

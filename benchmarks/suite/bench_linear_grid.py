"""The grid of 52 linear classifiers trained at once, against one after another in eager PyTorch.

A side's run trains every classifier for ITERATIONS iterations on the same random features.
"""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.suite.bench import Bench
from slim_fast.evaluation.features import Features
from slim_fast.evaluation.grid import BATCH, RATES, readings_of, train_grid
from slim_fast.evaluation.grid.train import draw_kept

ITERATIONS = 20
SIZES = {"small": (64, 3, 27), "recipe": (256, 8, 60)}  # width, depth, classes
TARGET = 5.0


def make_features(width: int, depth: int, classes: int) -> tuple[Features, Tensor]:
    """Of 2,000 clips, with labels."""
    torch.manual_seed(0)
    cls, patches = torch.randn(2000, min(4, depth), width), torch.randn(2000, width)
    return Features(torch.zeros(2000, 0), cls, patches), torch.randint(classes, (2000,))


def ours(size: str) -> Callable[[], None]:
    width, depth, classes = SIZES[size]
    features, labels = make_features(width, depth, classes)

    def run() -> None:
        draw = draw_kept(features, labels, seed=0)
        train_grid(draw, readings_of(depth), classes, ITERATIONS)

    return run


def baseline(size: str) -> Callable[[], None]:
    width, depth, classes = SIZES[size]
    features, labels = make_features(width, depth, classes)

    def train(inputs: Tensor, rate: float) -> None:
        model = nn.Linear(inputs.shape[1], classes)
        optimizer = torch.optim.SGD(model.parameters(), rate * BATCH / 256, momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, ITERATIONS)
        for _ in range(ITERATIONS):
            rows = torch.randint(len(labels), (BATCH,))
            loss = F.cross_entropy(model(inputs[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

    def run() -> None:
        for reading in readings_of(depth):
            inputs = reading.select(features)
            for rate in RATES:
                train(inputs, rate)

    return run


def count_flops(size: str) -> int:
    """Of the matrix products of a run, forward and back."""
    width, depth, classes = SIZES[size]
    features = sum(width * (reading.blocks + reading.avgpool) for reading in readings_of(depth))
    return ITERATIONS * 2 * (2 * BATCH * len(RATES) * classes * features)


@pytest.mark.parametrize("size", SIZES)
def test_linear_grid(bench: Bench, size: str) -> None:
    bench.skip_if_quick(size != "small")
    rounds = bench.compare({"ours": ours, "baseline": baseline}, 5, size=size)
    bench.record(
        "linear_grid", {"sizes": size}, **rounds.metrics(), target=TARGET, flops=count_flops(size)
    )

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
from slim_fast.evaluation.grid.train import KeptClips

ITERATIONS = 100
SIZES = {  # width, depth, classes, clips
    "small": (64, 3, 27, 2000),
    "recipe": (256, 8, 60, 2000),
    "recipe, few clips": (256, 8, 27, 431),  # of UTD-MHAD
}
TARGET = 5.0


def make_features(width: int, depth: int, classes: int, clips: int) -> tuple[Features, Tensor]:
    """With labels."""
    torch.manual_seed(0)
    cls, patches = torch.randn(clips, min(4, depth), width), torch.randn(clips, width)
    return Features(torch.zeros(clips, 0), cls, patches), torch.randint(classes, (clips,))


def ours(size: str) -> Callable[[], None]:
    width, depth, classes, clips = SIZES[size]
    features, labels = make_features(width, depth, classes, clips)

    def run() -> None:
        draw = KeptClips(features, labels, seed=0)
        train_grid(draw, readings_of(depth), classes, ITERATIONS)

    return run


def baseline(size: str) -> Callable[[], None]:
    width, depth, classes, clips = SIZES[size]
    features, labels = make_features(width, depth, classes, clips)

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
    """Of the matrix products of our iterations: forward and back by the features, or by the clips
    where these are fewer.
    """
    width, depth, classes, clips = SIZES[size]
    features = [width * (reading.blocks + reading.avgpool) for reading in readings_of(depth)]
    inner = sum(clips if clips < count else 2 * count for count in features)
    return ITERATIONS * 2 * BATCH * len(RATES) * classes * inner


@pytest.mark.parametrize("size", SIZES)
def test_linear_grid(bench: Bench, size: str) -> None:
    bench.skip_if_quick(size != "small")
    rounds = bench.compare({"ours": ours, "baseline": baseline}, 5, size=size)
    bench.record(
        "linear_grid", {"sizes": size}, **rounds.metrics(), target=TARGET, flops=count_flops(size)
    )

"""The batched grid against classifiers trained one after another by PyTorch."""

import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from slim_fast.evaluation.batches import shuffled_batches
from slim_fast.evaluation.features import Features
from slim_fast.evaluation.grid import RATES, Reading, readings_of, train, train_grid
from slim_fast.evaluation.grid.classifiers import Bank, Choice, Grid, find_best
from slim_fast.evaluation.grid.train import KeptClips, cosine, default_iterations, initial_bank


def make_features(clips: int, width: int, blocks: int, classes: int):
    labels = torch.arange(clips) % classes
    centres = torch.randn(classes, blocks + 1, width)
    tokens = centres[labels] + 0.8 * torch.randn(clips, blocks + 1, width)
    return Features(torch.zeros(clips, 0), tokens[:, :-1], tokens[:, -1]), labels


def train_one(start: Bank, row: int, inputs, labels, iterations: int, seed: int, batch: int):
    """One classifier of a bank in eager PyTorch, as a newcomer would write it."""
    classes, width = start.weight.shape[1:]
    model = nn.Linear(width, classes)
    with torch.no_grad():
        model.weight.copy_(start.weight[row])
        model.bias.copy_(start.bias[row])
    optimizer = torch.optim.SGD(model.parameters(), start.rates[row], momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    order = shuffled_batches(len(labels), batch, seed)
    for _ in range(iterations):
        rows = next(order)
        loss = F.cross_entropy(model(inputs[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


@pytest.mark.parametrize("batch", [64, 16])
@pytest.mark.parametrize("clips", [90, 20])
def test_equals_training_one_after_another(clips, batch, monkeypatch):
    features, labels = make_features(clips, 8, 3, 5)
    few = []

    class Spy(train.FewClipsTrainer):
        def __init__(self, start, iterations, features):
            few.append(features.shape)
            super().__init__(start, iterations, features)

    monkeypatch.setattr(train, "FewClipsTrainer", Spy)
    iterations, readings = 60, readings_of(3)
    grid = train_grid(
        KeptClips(features, labels, 4, batch), readings, 5, iterations, 4, batch=batch
    )
    generator = torch.Generator().manual_seed(4)
    rates = [rate * batch / 256 for rate in RATES]
    moved = 0.0
    for reading in readings:
        inputs = reading.select(features)
        start = initial_bank(rates, 5, inputs.shape[1], generator)
        bank = grid.banks[reading]
        assert bank.rates == tuple(rates)
        for row in range(len(RATES)):
            model = train_one(start, row, inputs, labels, iterations, 4, batch)
            torch.testing.assert_close(bank.weight[row], model.weight.data, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(bank.bias[row], model.bias.data, rtol=1e-5, atol=1e-5)
        moved = max(moved, float((bank.weight - start.weight).abs().max()))
    assert moved > 0.05  # it has trained
    assert few == ([] if clips == 90 else [(20, 24), (20, 32)])


def test_five_times_faster_than_one_after_another():
    """The time of this thread, of the 52 of a small encoder (its measured ratio is about 12)."""
    features, labels = make_features(200, 64, 3, 27)
    readings, iterations = readings_of(3), 40
    begin = time.thread_time()
    train_grid(KeptClips(features, labels, 0), readings, 27, iterations)
    together = time.thread_time() - begin
    generator = torch.Generator().manual_seed(0)
    begin = time.thread_time()
    for reading in readings:
        inputs = reading.select(features)
        start = initial_bank(RATES, 27, inputs.shape[1], generator)
        for row in range(len(RATES)):
            train_one(start, row, inputs, labels, iterations, 0, 64)
    assert time.thread_time() - begin > 5 * together


def test_each_reading_takes_the_newest_blocks_and_the_patches_last():
    cls = torch.arange(2 * 3 * 2).view(2, 3, 2).float()
    features = Features(torch.zeros(2, 0), cls, torch.full((2, 2), -1.0))
    assert Reading(1, False).select(features).tolist() == [[4, 5], [10, 11]]
    assert Reading(1, True).select(features).tolist() == [[4, 5, -1, -1], [10, 11, -1, -1]]
    assert Reading(2, False).select(features)[0].tolist() == [2, 3, 4, 5]
    assert Reading(3, True).select(features)[0].tolist() == [0, 1, 2, 3, 4, 5, -1, -1]


@pytest.mark.parametrize(("depth", "blocks"), [(8, {1, 4}), (4, {1, 4}), (3, {1, 3}), (1, {1})])
def test_shallow_encoders_give_all_their_blocks(depth, blocks):
    found = readings_of(depth)
    assert {reading.blocks for reading in found} == blocks
    assert len(found) == 2 * len(blocks)


def test_the_grid_is_the_recipes():
    features, labels = make_features(20, 4, 4, 2)
    grid = train_grid(KeptClips(features, labels, 0), readings_of(8), 2, 1)
    choices = list(grid)
    assert len(choices) == 52
    assert {choice.rate for choice in choices} == {rate * 64 / 256 for rate in RATES}
    assert RATES[0] == 1e-5
    assert RATES[-1] == 0.1


def test_predictions_are_the_largest_logits():
    bank = Bank((0.1, 0.2), torch.randn(2, 3, 4), torch.randn(2, 3))
    inputs = torch.randn(5000, 4)  # more than are classified at a time
    logits = torch.einsum("nf,rcf->rnc", inputs, bank.weight) + bank.bias[:, None]
    assert torch.equal(bank.predict(inputs), logits.argmax(2))


def test_the_best_is_the_first_of_equals():
    labels = torch.tensor([0, 1, 1])
    right, wrong = torch.tensor([0, 1, 0]), torch.tensor([1, 1, 0])
    predicted = {
        Choice(4, False, 0.1): right,
        Choice(1, True, 0.2): right,
        Choice(1, True, 0.1): right,
        Choice(1, False, 0.1): wrong,
    }
    assert find_best(predicted, labels) == Choice(1, True, 0.1)


def test_a_grid_learns_what_can_be_separated():
    features, labels = make_features(120, 16, 4, 4)
    grid = train_grid(KeptClips(features, labels, 0), readings_of(8), 4, 300)
    assert isinstance(grid, Grid)
    predicted = grid.predict(features)
    best = find_best(predicted, labels)
    assert (predicted[best] == labels).float().mean() > 0.97
    assert len(predicted) == 52


def test_the_seed_decides_all():
    features, labels = make_features(40, 4, 2, 2)
    grids = [
        train_grid(KeptClips(features, labels, seed), readings_of(2), 2, 20, seed)
        for seed in (0, 0, 1)
    ]
    first, again, other = (grid.banks[Reading(1, True)].weight for grid in grids)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_schedule_and_length():
    assert [cosine(i, 4) for i in (0, 2, 4)] == pytest.approx([1, 0.5, 0])
    assert [default_iterations(n) for n in (100, 4001, 10_000, 40_091)] == [
        2000,
        2000,
        5000,
        20_000,
    ]


def test_every_clip_comes_before_any_comes_again():
    batches = shuffled_batches(10, 4, 0)
    seen = torch.cat([next(batches) for _ in range(10)]).view(4, 10)
    assert all(sorted(row.tolist()) == list(range(10)) for row in seen)
    assert len({tuple(row.tolist()) for row in seen}) > 1
    few = shuffled_batches(3, 8, 0)
    assert torch.bincount(next(few), minlength=3).min() >= 2

"""Linear classifiers that read the same features, and differ in learning rate and in which."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from slim_fast.evaluation.features import Features

_ROWS = 4096  # clips classified at a time


@dataclass(frozen=True)
class Reading:
    """Which features a classifier reads.

    Attributes:
        blocks: CLS tokens of so many of the last blocks, oldest first.
        avgpool: then the mean patch of the last block.
    """

    blocks: int
    avgpool: bool

    def select(self, features: Features) -> Tensor:
        """(N, F) of the features, F = D * (blocks + avgpool)."""
        return join_tokens(features)[:, self.columns(features.cls.shape[1], features.cls.shape[2])]

    def columns(self, blocks: int, width: int) -> slice:
        """Where its features lie in the rows of `join_tokens`, of `blocks` blocks."""
        return slice((blocks - self.blocks) * width, (blocks + self.avgpool) * width)


def join_tokens(features: Features) -> Tensor:
    """(N, (L + 1) D): CLS tokens of the last L blocks, oldest first, then the mean patch."""
    return torch.cat([features.cls.flatten(1), features.patches], 1)


def readings_of(depth: int) -> tuple[Reading, ...]:
    """The grid's: CLS of the last block and of the last 4 (all, if fewer), without and with the
    mean patch.
    """
    return tuple(Reading(n, pool) for n in sorted({1, min(4, depth)}) for pool in (False, True))


@dataclass
class Bank:
    """Classifiers of one reading, one a learning rate.

    Attributes:
        rates: R learning rates.
        weight: (R, C, F) float32.
        bias: (R, C) float32.
    """

    rates: tuple[float, ...]
    weight: Tensor
    bias: Tensor

    def predict(self, inputs: Tensor) -> Tensor:
        """Classes int64 (R, N) of inputs (N, F); the lowest of equal logits wins."""
        weight, bias = self.weight.flatten(0, 1), self.bias.flatten()
        parts = [
            torch.addmm(bias, rows, weight.t()).unflatten(1, self.bias.shape).argmax(2)
            for rows in inputs.split(_ROWS)
        ]
        return torch.cat(parts).t()


@dataclass(frozen=True, order=True)
class Choice:
    """One classifier of a grid."""

    blocks: int
    avgpool: bool
    rate: float

    def __str__(self) -> str:
        tokens = "CLS" if self.blocks == 1 else f"CLS of {self.blocks} blocks"
        return f"{tokens}{' + mean patch' if self.avgpool else ''}, learning rate {self.rate:g}"


@dataclass
class Grid:
    """Banks of classifiers by what they read."""

    banks: Mapping[Reading, Bank]

    def __iter__(self) -> Iterator[Choice]:
        for reading, bank in self.banks.items():
            for rate in bank.rates:
                yield Choice(reading.blocks, reading.avgpool, rate)

    def find(self, choice: Choice) -> tuple[Tensor, Tensor]:
        """The weight (C, F) and bias (C,) of one of its classifiers."""
        bank = self.banks[Reading(choice.blocks, choice.avgpool)]
        row = bank.rates.index(choice.rate)
        return bank.weight[row], bank.bias[row]

    def predict(self, features: Features) -> dict[Choice, Tensor]:
        """Classes int64 (N,) by each classifier."""
        found = {}
        for reading, bank in self.banks.items():
            classes = bank.predict(reading.select(features).to(bank.weight)).cpu()
            for rate, row in zip(bank.rates, classes, strict=True):
                found[Choice(reading.blocks, reading.avgpool, rate)] = row
        return found


def find_best(predicted: Mapping[Choice, Tensor], labels: Tensor) -> Choice:
    """The most accurate classifier; of equal ones the first: few blocks, small learning rate."""
    return max(sorted(predicted), key=lambda choice: int((predicted[choice] == labels).sum()))

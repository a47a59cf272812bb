"""Training of a grid: all learning rates of a reading are one matrix product (recipe, section 7).

The gradient of softmax and cross-entropy is written out, so that a step is a few products of
matrices as large as 13 classifiers: (batch, F) by (F, 13 C) forward, (13 C, batch) by (batch, F)
back, which the momentum takes up as it is computed.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from slim_fast.evaluation.batches import shuffled_batches
from slim_fast.evaluation.features import Features
from slim_fast.evaluation.grid.classifiers import Bank, Grid, Reading, join_tokens

RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)
"""Learning rates for a batch of 256."""
BATCH = 64
MOMENTUM = 0.9
CLIPS_AN_ITERATION = 2  # by default: 40,000 clips make the paper's 20,000 iterations
LEAST_ITERATIONS, PUBLISHED_ITERATIONS = 2000, 20_000
_STD = 0.01  # of new weights


class BankTrainer:
    """SGD with momentum 0.9 and a cosine to zero for the classifiers of one reading.

    start: their initial weights; what it holds is trained in place. rates: as in the bank.
    """

    def __init__(self, start: Bank, iterations: int) -> None:
        self.bank, self.iterations = start, iterations
        self.weight = start.weight.flatten(0, 1)  # (R C, F), a view
        self.bias = start.bias.flatten()
        self._rates = torch.tensor(start.rates, dtype=torch.float64)[:, None]
        self._weight_momentum = torch.zeros_like(self.weight)
        self._bias_momentum = torch.zeros_like(self.bias)

    def step(self, inputs: Tensor, one_hot: Tensor, iteration: int) -> None:
        """One step on inputs (B, F) of the classes one_hot (B, C)."""
        classifiers, classes = self.bank.bias.shape
        logits = torch.addmm(self.bias, inputs, self.weight.t())
        error = logits.view(-1, classifiers, classes).softmax(2)  # (B, R, C)
        error.sub_(one_hot[:, None]).div_(len(inputs))
        gradient = error.view(len(inputs), -1)  # of the logits
        self._weight_momentum.addmm_(gradient.t(), inputs, beta=MOMENTUM)
        self._bias_momentum.mul_(MOMENTUM).add_(gradient.sum(0))
        rates = (self._rates * cosine(iteration, self.iterations)).to(self.weight)
        for values, momentum in (
            (self.weight, self._weight_momentum),
            (self.bias, self._bias_momentum),
        ):
            values.view(classifiers, -1).addcmul_(momentum.view(classifiers, -1), rates, value=-1)


def default_iterations(clips: int) -> int:
    """How long a grid is trained on so many clips: half as many iterations, 2,000 to 20,000."""
    return min(max(clips // CLIPS_AN_ITERATION, LEAST_ITERATIONS), PUBLISHED_ITERATIONS)


def cosine(iteration: int, iterations: int) -> float:
    """Share of the learning rate, from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * iteration / iterations))


def initial_bank(
    rates: Sequence[float], classes: int, width: int, generator: torch.Generator
) -> Bank:
    """Normal weights of 0.01 and zero biases, float32 on the CPU."""
    weight = torch.randn(len(rates), classes, width, generator=generator) * _STD
    return Bank(tuple(rates), weight, torch.zeros(len(rates), classes))


def train_grid(
    draw: Callable[[int], tuple[Features, Tensor]],
    readings: Sequence[Reading],
    classes: int,
    iterations: int,
    seed: int = 0,
    rates: Sequence[float] = RATES,
    batch: int = BATCH,
    progress: Callable[[Sequence[int]], Iterable[int]] = lambda steps: steps,
) -> Grid:
    """Train len(readings) * len(rates) linear classifiers at once.

    Args:
        draw: the features and labels int64 (B,) of an iteration's clips, on any device, where the
            classifiers are trained.
        rates: for a batch of 256; those of a batch of B are B / 256 of them.
        batch: B.
    """
    generator = torch.Generator().manual_seed(seed)
    scaled = [rate * batch / 256 for rate in rates]
    trainers: dict[Reading, BankTrainer] = {}
    for iteration in progress(range(iterations)):
        features, labels = draw(iteration)
        tokens, one_hot = join_tokens(features), F.one_hot(labels, classes).to(features.cls)
        blocks, width = features.cls.shape[1:]
        for reading in readings:
            inputs = tokens[:, reading.columns(blocks, width)]
            if reading not in trainers:
                start = initial_bank(scaled, classes, inputs.shape[1], generator)
                start = Bank(start.rates, start.weight.to(inputs), start.bias.to(inputs))
                trainers[reading] = BankTrainer(start, iterations)
            trainers[reading].step(inputs, one_hot, iteration)
    return Grid({reading: trainer.bank for reading, trainer in trainers.items()})


def draw_kept(
    features: Features, labels: Tensor, seed: int, batch: int = BATCH
) -> Callable[[int], tuple[Features, Tensor]]:
    """Batches of kept features, every clip once before any comes again."""
    order = shuffled_batches(len(labels), batch, seed)

    def draw(_: int) -> tuple[Features, Tensor]:
        rows = next(order).to(labels.device)
        return features[rows], labels[rows]

    return draw

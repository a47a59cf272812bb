"""Training of a grid: all learning rates of a reading are one matrix product (recipe, section 7).

The gradient of softmax and cross-entropy is written out, so that a step is a few products of
matrices as large as 13 classifiers: (batch, F) by (F, 13 C) forward, (13 C, batch) by (batch, F)
back, which the momentum takes up as it is computed. Where there are fewer clips than features, one
product is enough: `FewClipsTrainer`.
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
        logits = self._logits(inputs).add_(self.bias)
        error = logits.view(-1, classifiers, classes).softmax(2)  # (B, R, C)
        error.sub_(one_hot[:, None]).div_(len(inputs))
        gradient = error.view(len(inputs), -1)  # of the logits
        self._accumulate(gradient, inputs)
        self._bias_momentum.mul_(MOMENTUM).add_(gradient.sum(0))
        rates = (self._rates * cosine(iteration, self.iterations)).to(self.weight)
        for values, momentum in (
            (self.weight, self._weight_momentum),
            (self.bias, self._bias_momentum),
        ):
            values.view(classifiers, -1).addcmul_(momentum.view(classifiers, -1), rates, value=-1)

    def finish(self) -> Bank:
        """The classifiers as they are now."""
        return self.bank

    def _logits(self, inputs: Tensor) -> Tensor:
        """(B, R C), without the biases."""
        return inputs @ self.weight.t()

    def _accumulate(self, gradient: Tensor, inputs: Tensor) -> None:
        """Into the weights' momentum; gradient: of the logits."""
        self._weight_momentum.addmm_(gradient.t(), inputs, beta=MOMENTUM)


class FewClipsTrainer(BankTrainer):
    """The same for N clips whose features are known beforehand; inputs of a step are their numbers.

    A step adds multiples of clips to weights: they are start + weight @ features, with weight (R C,
    N). From the products of all clips, logits take one product by N, and a gradient none.
    features: (N, F).
    """

    def __init__(self, start: Bank, iterations: int, features: Tensor) -> None:
        super().__init__(start, iterations)
        self._features, self._products = features, features @ features.t()  # (N, N)
        self._first_logits = features @ self.weight.t()  # (N, R C)
        self.weight = self.weight.new_zeros(len(self.weight), len(features))
        self._weight_momentum = torch.zeros_like(self.weight)

    def finish(self) -> Bank:
        weight = (self.weight @ self._features).view_as(self.bank.weight)
        return Bank(self.bank.rates, self.bank.weight + weight, self.bank.bias)

    def _logits(self, inputs: Tensor) -> Tensor:
        return torch.addmm(self._first_logits[inputs], self._products[inputs], self.weight.t())

    def _accumulate(self, gradient: Tensor, inputs: Tensor) -> None:
        self._weight_momentum.mul_(MOMENTUM).index_add_(1, inputs, gradient.t())


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
            classifiers are trained; `KeptClips` where they are known beforehand.
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
                if isinstance(draw, KeptClips) and len(draw.labels) < inputs.shape[1]:
                    known = reading.select(draw.features).to(inputs)
                    trainers[reading] = FewClipsTrainer(start, iterations, known)
                else:
                    trainers[reading] = BankTrainer(start, iterations)
            trainer = trainers[reading]
            if isinstance(draw, KeptClips) and isinstance(trainer, FewClipsTrainer):
                inputs = draw.rows
            trainer.step(inputs, one_hot, iteration)
    return Grid({reading: trainer.finish() for reading, trainer in trainers.items()})


class KeptClips:
    """Draws batches of kept features, every clip once before any comes again.

    Attributes:
        rows: int64 (B,), the clips drawn last.
    """

    def __init__(self, features: Features, labels: Tensor, seed: int, batch: int = BATCH) -> None:
        self.features, self.labels = features, labels
        self.rows = labels.new_zeros(0)
        self._order = shuffled_batches(len(labels), batch, seed)

    def __call__(self, _: int) -> tuple[Features, Tensor]:
        self.rows = next(self._order).to(self.labels.device)
        return self.features[self.rows], self.labels[self.rows]

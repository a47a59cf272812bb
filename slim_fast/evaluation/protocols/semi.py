"""Few labels: the whole encoder tuned on 1 % or 10 % of them."""

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from slim_fast.errors import UserError
from slim_fast.evaluation.linear import fit_linear_head
from slim_fast.evaluation.protocols.finetune import tune_and_score
from slim_fast.evaluation.protocols.task import WINDOWS, Figures, Settings, Task
from slim_fast.evaluation.tuning.recipe import PUBLISHED_ITERATIONS, default_iterations
from slim_fast.evaluation.tuning.subsets import draw_subset

LEAST_ITERATIONS = 80


def evaluate_semi(task: Task, settings: Settings) -> Figures:
    """Test accuracy of what is trained on a share of the labels, another share for every seed.

    Tuned: the whole encoder, beside the same network from scratch with the same budget. Frozen:
    logistic regression on features, a random encoder's, and coordinates; with settings.windows also
    on CLS of windows. settings.published: 20,000 iterations unless told otherwise.
    Raises: UserError for a share that cannot hold every class, where it is drawn at random alone.
    """
    figures = Figures()
    windows = {
        (source, seed): task.windows(source, seed)
        for source, seed in (settings.encoders if settings.windows else ())
    }
    for fraction, draw in _subset_kinds(task, settings):
        name = f"{100 * fraction:g} % of the labels, {draw}"
        for seed in settings.seeds:
            rows = draw_subset(task.train_labels.numpy(), fraction, draw == "balanced", seed)
            _warn_of_empty_classes(task, rows, name)
            figures.notes.setdefault(name, f"{len(rows)} clips")
            for source in ("learned", "from_scratch"):
                scores = _tune(task, settings, source, task.train[rows], seed)
                figures.add(f"{name}, tuned", source, scores)
            some = torch.from_numpy(rows)
            for source, sets in {
                "learned": _pooled(task, "learned", seed),
                "random_encoder": _pooled(task, "random_encoder", seed),
                "coordinates": task.coordinates,
            }.items():
                figures.add(f"{name}, frozen", source, _fit_and_score(task, some, sets))
            for (source, of_seed), sets in windows.items():
                if source == "learned" or of_seed == seed:
                    accuracy = _fit_and_score(task, some, sets)
                    figures.add(f"{name}, frozen, {WINDOWS}", source, accuracy)
    return figures


def _tune(task: Task, settings: Settings, source: str, clips: np.ndarray, seed: int) -> float:
    recipe, iterations = settings.semi_recipe or settings.recipe, settings.iterations
    if settings.published:
        iterations = iterations or PUBLISHED_ITERATIONS
    batch = min(recipe.batch, len(clips))
    iterations = iterations or default_iterations(len(clips), batch, LEAST_ITERATIONS)
    return tune_and_score(task, source, clips, recipe, iterations, seed)[1].accuracy


def _pooled(task: Task, source: str, seed: int) -> tuple[Tensor, Tensor]:
    train, test = task.features(source, seed)
    return train.pooled, test.pooled


def _fit_and_score(task: Task, rows: Tensor, sets: tuple[Tensor, Tensor]) -> float:
    """Test accuracy of logistic regression on the labels of some training clips."""
    (train, test), nothing = sets, torch.zeros(len(rows), dtype=torch.bool)
    labels = task.train_labels[rows]
    weight, bias, _ = fit_linear_head(train[rows], labels, nothing, task.classes)
    predicted = (test.double() @ weight.t() + bias).argmax(1)
    return float((predicted == task.test_labels).double().mean())


def _subset_kinds(task: Task, settings: Settings) -> Iterator[tuple[float, str]]:
    """Each fraction and draw that can be done. Warns: of what is left out. Raises: UserError."""
    draws = ("balanced", "random") if settings.draws == "both" else (settings.draws,)
    trained = len(task.train_labels.unique())
    for fraction in settings.fractions:
        for draw in draws:
            size = len(draw_subset(task.train_labels.numpy(), fraction, draw == "balanced", 0))
            if size >= trained:
                yield fraction, draw
                continue
            why = (
                f"{fraction:.1%} of {len(task.train)} training clips drawn at random are {size}, "
                f"and cannot hold {trained} classes"
            )
            if settings.draws != "both":
                raise UserError(f"{why}: give a larger share, or --draw balanced.")
            warnings.warn(f"{why}: left out.", stacklevel=2)


def _warn_of_empty_classes(task: Task, rows: np.ndarray, name: str) -> None:
    trained, left = task.train_labels.unique(), task.train_labels[rows].unique()
    if len(left) < len(trained):
        warnings.warn(
            f"{name}: {len(trained) - len(left)} of {len(trained)} classes have no clip for some "
            "seed, and count as wrong.",
            stacklevel=2,
        )

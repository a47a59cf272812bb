"""Linear classification of frozen features by the paper's grid."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from slim_fast.errors import UserError
from slim_fast.evaluation.augmented import PUBLISHED, AugmentedClips
from slim_fast.evaluation.batches import shuffled_batches
from slim_fast.evaluation.features import Features, encode_clips
from slim_fast.evaluation.grid.classifiers import Choice, Grid, find_best, readings_of
from slim_fast.evaluation.grid.files import load_grid, save_grid
from slim_fast.evaluation.grid.train import (
    BATCH,
    PUBLISHED_ITERATIONS,
    KeptClips,
    default_iterations,
    train_grid,
)
from slim_fast.evaluation.linear import compute_linear_accuracy
from slim_fast.evaluation.metrics import score_predictions
from slim_fast.evaluation.protocols.task import PARTS, WINDOWS, Figures, Settings, Task
from slim_fast.model.frozen import freeze

CHOSEN, BEST = "linear, chosen on held-out clips", "linear, best on the test clips"
REGRESSION = "logistic regression"


def evaluate_linear(task: Task, settings: Settings, file: Path | None = None) -> Figures:
    """The grid of linear classifiers, and logistic regression solved to convergence.

    The grid is trained without the held-out training clips, on which one classifier is chosen, and
    again on all training clips: CHOSEN is the test accuracy of that one, BEST that of the best one
    on the test clips, which is what the paper reports. settings.published: clips are augmented
    (turns up to π), and encoded anew in every iteration.

    file: where the grid of the first seed is written, in the release's format.
    """
    figures = Figures()
    for seed in settings.seeds:
        for source in ("learned", "random_encoder"):
            grid, choice = _add_grid(figures, task, settings, source, seed)
            if file is not None and source == "learned" and seed == settings.seeds[0]:
                save_grid(grid, file, _iterations(task, settings), choice, "slim_fast")
                figures.notes |= {"chosen": str(choice), "file": str(file)}
    for source, seed in settings.encoders:
        train, test = task.features(source, seed)
        _add_regression(figures, task, source, train.pooled, test.pooled)
    _add_regression(figures, task, "coordinates", *task.coordinates)
    for asked, name, read in (
        (settings.parts, PARTS, task.parts),
        (settings.windows, WINDOWS, task.windows),
    ):
        for source, seed in settings.encoders if asked else ():
            row = f"{REGRESSION}, {name}"
            _add_regression(figures, task, source, *read(source, seed), row)
    return figures


def evaluate_saved_grid(task: Task, path: Path) -> Figures:
    """Test accuracy of the classifiers in a file, such as the release's; nothing is trained.

    Raises: UserError as `load_grid`, and for classifiers of other classes than the cache's.
    """
    config = task.encoder.config
    grid, iteration, _ = load_grid(path, config.width, config.depth)
    classes = next(iter(grid.banks.values())).bias.shape[1]
    if classes < task.classes:
        raise UserError(
            f"{path} holds classifiers of {classes} classes, and {task.cache.path} has "
            f"{task.classes}: choose the data they were trained on."
        )
    train, test = task.features("learned")
    by_training = find_best(grid.predict(_with_blocks(train, grid)), task.train_labels)
    predicted = grid.predict(_with_blocks(test, grid))
    figures = Figures(notes={"file": str(path), "iteration": iteration})
    for row, choice in (
        ("linear, best on the training clips", by_training),
        (BEST, find_best(predicted, task.test_labels)),
    ):
        scores = score_predictions(predicted[choice], task.test_labels, classes)
        figures.add_scores(row, "learned", scores)
        figures.notes[row] = str(choice)
    return figures


def _with_blocks(features: Features, grid: Grid) -> Features:
    """Raises: UserError for a grid that reads more blocks than are kept."""
    most = max(reading.blocks for reading in grid.banks)
    if most > features.cls.shape[1]:
        raise UserError(f"The grid reads {most} blocks; at most {features.cls.shape[1]} are read.")
    return features


def _iterations(task: Task, settings: Settings) -> int:
    if settings.iterations is not None:
        return settings.iterations
    return PUBLISHED_ITERATIONS if settings.published else default_iterations(len(task.train))


def _add_grid(
    figures: Figures, task: Task, settings: Settings, source: str, seed: int
) -> tuple[Grid, Choice]:
    """Train, choose and score a grid of a source's features; the grid of all training clips."""
    train, test = task.features(source, seed)
    rest = (~task.held_out).nonzero()[:, 0]
    held_out = task.held_out.nonzero()[:, 0]
    if not len(rest) or not len(held_out):
        raise UserError(
            f"{task.cache.path} has {len(task.train)} labelled training clips: too few to hold "
            "some out. Add clips, or use knn."
        )
    grids = []
    for rows, what in ((rest, "choosing"), (torch.arange(len(task.train)), "all clips")):
        grids.append(
            train_grid(
                _make_draw(task, settings, source, train, rows, seed),
                readings_of(task.encoder.config.depth),
                task.classes,
                _iterations(task, settings),
                seed,
                progress=lambda steps, what=what: task.progress(steps, f"linear, {what}"),  # type: ignore[misc]
            )
        )
    chosen = find_best(grids[0].predict(train[held_out]), task.train_labels[held_out])
    predicted = grids[1].predict(test)
    scores = score_predictions(predicted[chosen], task.test_labels, task.classes)
    figures.add_scores(CHOSEN, source, scores)
    best = predicted[find_best(predicted, task.test_labels)]
    figures.add(BEST, source, float((best == task.test_labels).double().mean()))
    return grids[1], chosen


def _make_draw(
    task: Task, settings: Settings, source: str, kept: Features, rows: Tensor, seed: int
) -> Callable[[int], tuple[Features, Tensor]]:
    """Batches of the training clips numbered `rows`, kept or augmented and encoded anew."""
    device = task.encoder.pos_embed.device
    if not settings.published:
        features = kept[rows]
        columns = (features.retrieval[:, :0], features.cls, features.patches)
        on_device = Features(*(column.to(device) for column in columns))
        return KeptClips(on_device, task.train_labels[rows].to(device), seed)
    encoder = freeze(task.source_encoder(source, seed), task.files.dtype)
    window, blocks = encoder.config.window, kept.cls.shape[1]
    clips = AugmentedClips(task.cache, PUBLISHED, seed, task.people, window)
    order = shuffled_batches(len(rows), BATCH, seed)

    @torch.no_grad()
    def draw(iteration: int) -> tuple[Features, Tensor]:
        some = rows[next(order)]
        views = clips(task.train[some.numpy()], iteration)
        return encode_clips(encoder, views, blocks), task.train_labels[some].to(device)

    return draw


def _add_regression(
    figures: Figures, task: Task, source: str, train: Tensor, test: Tensor, row: str = REGRESSION
) -> None:
    labels = task.train_labels, task.test_labels
    accuracy, _ = compute_linear_accuracy(train, labels[0], test, labels[1], task.held_out)
    figures.add(row, source, accuracy)

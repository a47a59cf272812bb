"""Late fusion: the scores of encoders that read joints, bones and motion, added."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from slim_fast.evaluation.knn import predict_knn
from slim_fast.evaluation.linear import fit_linear_head
from slim_fast.evaluation.metrics import score_predictions
from slim_fast.evaluation.protocols.linear import REGRESSION
from slim_fast.evaluation.protocols.task import WINDOWS, Figures, Settings, Task
from slim_fast.model.frozen import AnyEncoder, copied
from slim_fast.model.streams import Stream

Sets = tuple[Tensor, Tensor]
"""Features of the training and of the test clips, (N, F) and (S, F)."""


def with_stream(encoder: AnyEncoder, stream: Stream) -> AnyEncoder:
    """The encoder, or a copy that reads another stream by the same weights."""
    if encoder.config.stream == stream:
        return encoder
    other = copied(encoder)
    other.config = replace(encoder.config, stream=stream)
    return other


def evaluate_fusion(tasks: Mapping[str, Task], settings: Settings, protocol: str) -> Figures:
    """Accuracy of every stream alone, and of all together, by "knn" or "linear".

    knn: the neighbour by the sum of the streams' cosine similarities. linear: the class by the sum
    of the log-probabilities of a logistic regression a stream; with settings.windows also of CLS of
    windows. Coordinates are those of the streams, bones and motion too.
    tasks: of the same clips, by the name of what their encoders read.
    """
    figures, first = Figures(), next(iter(tasks.values()))
    fuse, row = (_vote, "1-NN") if protocol == "knn" else (_add_scores, REGRESSION)
    readings: dict[str, Callable[[Task, str, int], Sets]] = {
        row: _read_retrieval if protocol == "knn" else _read_pooled
    }
    if settings.windows:
        readings[f"{row}, {WINDOWS}"] = Task.windows
    for row, read in readings.items():
        for source, seed in settings.encoders:
            sets = {name: read(task, source, seed) for name, task in tasks.items()}
            _add_rows(figures, first, row, source, fuse, sets)
    sets = {name: task.coordinates for name, task in tasks.items()}
    _add_rows(figures, first, next(iter(readings)), "coordinates", fuse, sets)
    return figures


def _read_retrieval(task: Task, source: str, seed: int) -> Sets:
    train, test = task.features(source, seed)
    return train.retrieval, test.retrieval


def _read_pooled(task: Task, source: str, seed: int) -> Sets:
    train, test = task.features(source, seed)
    return train.pooled, test.pooled


def _add_rows(
    figures: Figures,
    task: Task,
    row: str,
    source: str,
    fuse: Callable[[Task, Sequence[Sets]], Tensor],
    sets: Mapping[str, Sets],
) -> None:
    """Scores of every stream alone, and of all together."""
    members = {name: [one] for name, one in sets.items()} | {" + ".join(sets): [*sets.values()]}
    for name, some in members.items():
        scores = score_predictions(fuse(task, some), task.test_labels, task.classes)
        figures.add(f"{row}, {name}", source, scores.accuracy)
        if source == "learned":
            figures.confusion[f"{row}, {name}"] = scores.confusion


def _vote(task: Task, members: Sequence[Sets]) -> Tensor:
    """Classes int64 (S,) of the nearest training clips.

    The sum of the cosines of several vectors is, but for a factor, the cosine of the joined ones.
    """
    train, test = (
        torch.cat([F.normalize(x, dim=1) for x in side], 1) for side in zip(*members, strict=True)
    )
    return predict_knn(train, task.train_labels, test)[1]


def _add_scores(task: Task, members: Sequence[Sets]) -> Tensor:
    """Classes int64 (S,) by the sum of log-probabilities."""
    total = torch.zeros(len(task.test), task.classes, dtype=torch.float64)
    for train, test in members:
        weight, bias, _ = fit_linear_head(train, task.train_labels, task.held_out, task.classes)
        total += (test.double() @ weight.t() + bias).log_softmax(1)
    return total.argmax(1)

"""What every protocol is given, and the figures it gives back."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from slim_fast.data.cache import ClipCache
from slim_fast.errors import UserError
from slim_fast.evaluation.feature_files import FeatureFiles
from slim_fast.evaluation.features import Features, load_coordinates
from slim_fast.evaluation.metrics import Scores
from slim_fast.evaluation.parts import extract_parts
from slim_fast.evaluation.probe import (
    check_encoder_fits,
    make_random_encoder,
    select_held_out,
    select_labelled_clips,
)
from slim_fast.evaluation.tuning.recipe import TuningRecipe
from slim_fast.evaluation.windows import extract_windows
from slim_fast.model.encoder import Encoder

Progress = Callable[[Sequence[int], str], Iterable[int]]
"""Wraps the steps of what the text names, for a progress bar."""
SOURCES = {
    "learned": "learned",
    "from_scratch": "from scratch",
    "random_encoder": "random encoder",
    "coordinates": "coordinates",
}
"""What figures are of: the encoder, and its controls."""
PARTS, WINDOWS = "body parts over time", "CLS of windows in turn"
"""Features beside CLS and mean patch, in the names of rows."""


@dataclass(frozen=True)
class Settings:
    """Choices that protocols share.

    Attributes:
        seeds: of initial weights, subsets and the order of clips.
        published: the paper's way, as far as the protocol has one of its own.
        iterations: of every training; None: by the number of clips.
        fractions: shares of the labels of the semi-supervised protocol.
        draws: how those labels are drawn.
        recipe: of fine-tuning.
        semi_recipe: of tuning on few labels; None: the same.
        parts: also read the mean patches of body parts over time (`extract_parts`).
        windows: also read the CLS tokens of overlapping windows (`extract_windows`).
    """

    seeds: tuple[int, ...] = (0,)
    published: bool = False
    iterations: int | None = None
    fractions: tuple[float, ...] = (0.01, 0.1)
    draws: Literal["balanced", "random", "both"] = "both"
    recipe: TuningRecipe = field(default_factory=TuningRecipe)
    semi_recipe: TuningRecipe | None = None
    parts: bool = False
    windows: bool = False

    def __post_init__(self) -> None:
        if not self.seeds:
            raise UserError("seeds=0: at least one seed is needed.")
        if self.iterations is not None and self.iterations < 1:
            raise UserError(f"iterations={self.iterations}: at least one is needed.")

    @property
    def encoders(self) -> list[tuple[str, int]]:
        """Source and seed of all that give frozen features."""
        return [("learned", 0), *(("random_encoder", seed) for seed in self.seeds)]


@dataclass
class Figures:
    """Figures of one protocol.

    Attributes:
        rows: name of a figure -> source -> its values, shares of 1, one a seed.
        confusion: name of a figure -> (classes, classes) counts of the learned features at the
            first seed; rows are true classes.
        notes: what else was found, by name.
    """

    rows: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    confusion: dict[str, list[list[int]]] = field(default_factory=dict)
    notes: dict[str, object] = field(default_factory=dict)

    def add(self, row: str, source: str, value: float) -> None:
        """One more seed's value."""
        self.rows.setdefault(row, {}).setdefault(source, []).append(value)

    def add_scores(self, row: str, source: str, scores: Scores) -> None:
        """Accuracy, balanced accuracy and macro F1, and the learned features' first confusion."""
        self.add(row, source, scores.accuracy)
        self.add(f"{row}, balanced accuracy", source, scores.balanced_accuracy)
        self.add(f"{row}, macro F1", source, scores.macro_f1)
        if source == "learned":
            self.confusion.setdefault(row, scores.confusion)


@dataclass
class Task:
    """An encoder, and a cache with labels and a split, on which it is evaluated.

    Raises: UserError when the encoder does not fit the cache, or nothing is labelled.
    """

    encoder: Encoder
    cache: ClipCache
    files: FeatureFiles
    split: str | None = None
    progress: Progress = field(default=lambda steps, _: steps)

    def __post_init__(self) -> None:
        if self.people < 1:
            raise UserError(f"people={self.people}: at least one person of a clip is needed.")
        check_encoder_fits(self.cache, self.encoder)
        self.train, self.test = select_labelled_clips(self.cache, self.split)
        self.train_labels, self.test_labels = (self.labels_of(c) for c in (self.train, self.test))
        self.classes = max(len(self.cache.classes), int(self.cache.label.max()) + 1)
        self.held_out = select_held_out(self.cache, self.train)

    @property
    def people(self) -> int:
        """Most people of a clip."""
        return self.files.people

    def labels_of(self, clips: np.ndarray) -> Tensor:
        """Labels int64 of clips (n,)."""
        return torch.from_numpy(np.asarray(self.cache.label[clips], dtype=np.int64))

    def source_encoder(self, source: str, seed: int) -> Encoder:
        """The encoder of a source: the learned one, or an untrained one of the same sizes."""
        if source == "learned":
            return self.encoder
        return make_random_encoder(self.encoder, seed)

    def features(self, source: str, seed: int = 0) -> tuple[Features, Features]:
        """Frozen features of the training and the test clips, of the last blocks a grid reads."""
        encoder = self.source_encoder(source, seed)
        name = "learned" if source == "learned" else f"random-{seed}"
        blocks = min(4, encoder.config.depth)
        self.files.progress = lambda steps: self.progress(steps, f"features, {SOURCES[source]}")
        train, test = (
            self.files.load(encoder, clips, blocks, name) for clips in (self.train, self.test)
        )
        return train, test

    def parts(self, source: str, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Patches of body parts over time of the training and the test clips; not kept."""
        return self._extract(extract_parts, "body parts", source, seed)

    def windows(self, source: str, seed: int = 0) -> tuple[Tensor, Tensor]:
        """CLS of the windows of the training and the test clips; not kept."""
        return self._extract(extract_windows, "windows", source, seed)

    def _extract(
        self, extract: Callable[..., Tensor], name: str, source: str, seed: int
    ) -> tuple[Tensor, Tensor]:
        encoder, files = self.source_encoder(source, seed), self.files
        train, test = (
            extract(
                encoder,
                self.cache,
                clips,
                progress=lambda steps: self.progress(steps, f"{name}, {SOURCES[source]}"),
                people=files.people,
                dtype=files.dtype,
            )
            for clips in (self.train, self.test)
        )
        return train, test

    @cached_property
    def coordinates(self) -> tuple[Tensor, Tensor]:
        """Raw coordinates of the training and the test clips, of the stream that is read."""
        stream = self.encoder.config.stream
        train, test = (
            load_coordinates(self.cache, c, self.people, stream) for c in (self.train, self.test)
        )
        return train, test

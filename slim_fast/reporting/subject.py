"""What a report is about: an encoder, clips, their neighbours, and the names of both."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slim_fast.data.cache import ClipCache
from slim_fast.errors import UserError
from slim_fast.evaluation.feature_files import FeatureFiles
from slim_fast.evaluation.features import PEOPLE
from slim_fast.evaluation.probe import check_encoder_fits
from slim_fast.evaluation.protocols import Task
from slim_fast.evaluation.protocols.task import Progress
from slim_fast.model.encoder import Encoder
from slim_fast.reporting.films import Films
from slim_fast.reporting.neighbours import find_neighbours
from slim_fast.reporting.run_files import RunFiles
from slim_fast.reporting.scenes import choose_evenly

LEAST_CLIPS = 4


@dataclass(frozen=True)
class ReportSettings:
    """Choices of a report.

    Attributes:
        results: folder of features and of what `evaluate` found.
        split: of the cache; None: its first.
        people: most people of a clip.
        clips: most clips in the embedding, and most errors that play.
        seed: of the random encoder.
        notes: sentences for the top of the page.

    Raises: UserError for numbers below 1.
    """

    results: Path
    split: str | None = None
    people: int = PEOPLE
    clips: int = 400
    seed: int = 0
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("people", "clips"):
            if (value := getattr(self, name)) < 1:
                raise UserError(f"{name}={value}: must be at least 1.")


class Subject:
    """An encoder and the clips that it is looked at on, and the films of the page so far.

    Attributes:
        split: name of the cache's split; None without any.
        unlabelled: why there are no accuracies; None where there are.
        task: the labelled clips; None without.
        features: kept on disk.
        found: queries and their neighbours.
        shown: (n,) queries of the embedding.

    Raises: UserError when the encoder does not fit the cache, there are too few clips, or the split
    is not there.
    """

    def __init__(
        self,
        run: str,
        encoder: Encoder,
        cache: ClipCache,
        settings: ReportSettings,
        progress: Progress,
    ) -> None:
        self.run, self.encoder, self.cache, self.settings = run, encoder, cache, settings
        self.files = RunFiles.read(run)
        check_encoder_fits(cache, encoder)
        if len(cache) < LEAST_CLIPS:
            raise UserError(
                f"{cache.path} has {len(cache)} clips: a report needs at least {LEAST_CLIPS}."
            )
        self.split = settings.split
        if cache.splits:
            cache.split(settings.split)  # raises for an unknown one
            self.split = settings.split or next(iter(cache.splits))
        elif settings.split is not None:
            raise UserError(f"{cache.path} has no splits: leave --split out.")
        self.features = FeatureFiles(settings.results / "features", cache, settings.people)
        self.features.progress = lambda steps: progress(steps, "features")
        self.unlabelled = explain_missing_labels(cache, self.split)
        self.task = (
            None if self.unlabelled else Task(encoder, cache, self.features, self.split, progress)
        )
        self.found = find_neighbours(encoder, cache, self.features, self.task, self.split)
        self.shown = choose_evenly(np.arange(len(self.found.queries)), settings.clips)
        self.films = Films(cache.topology, cache.channels)

    def film(self, clip: int) -> int:
        """The film of a clip."""
        return self.films.add_clip(self.cache, clip, self.settings.people)

    def class_name(self, label: int) -> str:
        """A class by its number, -1 for none."""
        if label < 0:
            return "unlabelled"
        return self.cache.classes[label] if label < len(self.cache.classes) else f"class {label}"

    def class_of(self, clip: int) -> str:
        """A clip's class; the clip's own name where there is none."""
        label = int(self.cache.label[clip])
        return str(self.cache.names[clip]) if label < 0 else self.class_name(label)

    def film_pair(self, query: int) -> list[Any]:
        """A query's film and words, and those of its nearest: what page.js shows."""
        clip, nearest = int(self.found.queries[query]), self.found.nearest(query)
        words = []
        for number, what in ((clip, ""), (nearest, "nearest: ")):
            name, label = str(self.cache.names[number]), int(self.cache.label[number])
            words.append(what + (f"{self.class_name(label)} · {name}" if label >= 0 else name))
        return [self.film(clip), words[0], self.film(nearest), words[1]]


def explain_missing_labels(cache: ClipCache, split: str | None) -> str | None:
    """Why there are no accuracies; None where there are."""
    what = "accuracies, confusion and errors are left out"
    if not cache.splits:
        return f"{cache.path} has no train/test split: {what}."
    for subset, clips in zip(("training", "test"), cache.split(split), strict=True):
        if not (cache.label[clips] >= 0).any():
            return f"{cache.path} has no labelled {subset} clips in split {split}: {what}."
    return None

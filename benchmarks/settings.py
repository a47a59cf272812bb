"""python -m benchmarks.settings TRIALS CACHE --out FOLDER: settings tried on training subjects.

TRIALS is a file of benchmarks/trials: what every run has in common, and the options of each. Every
trial is pre-trained on the training clips of CACHE in a folder of its own below FOLDER (a finished
run is taken as it is); then the training subjects, in turn, are classified from the others' clips,
by 1-NN and by logistic regression. Test subjects are never read. The record is renewed after every
trial in benchmarks/records/results/settings/; `python -m benchmarks.records --write` makes the
tables of RESULTS.md.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.protocols import read
from benchmarks.records.machine import current_commit
from benchmarks.records.recorder import RESULTS
from slim_fast.data.cache import ClipCache
from slim_fast.errors import UserError
from slim_fast.evaluation.features import extract_features, load_coordinates
from slim_fast.evaluation.knn import compute_knn_accuracy
from slim_fast.evaluation.linear import compute_linear_accuracy
from slim_fast.evaluation.parts import extract_parts, whiten
from slim_fast.evaluation.probe import make_random_encoder
from slim_fast.evaluation.windows import extract_windows
from slim_fast.model.encoder import Encoder
from slim_fast.model.files import encoder_folder, load_encoder
from slim_fast.pretrain import main as pretrain
from slim_fast.training.machine import cpu_model
from slim_fast.writing import write_atomically

FOLDS = 4
QUIET = ("--log.plots", "false", "--log.knn_every", "1000000", "--log.metrics_every", "50")


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.settings", description=__doc__)
    parser.add_argument("trials", type=Path, help="a file of benchmarks/trials")
    parser.add_argument("cache", type=Path, help="labelled cache with a split and subjects")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--records", type=Path, default=RESULTS / "settings", help="folder")
    options = parser.parse_args(arguments)
    try:
        trials = read(options.trials)
        subjects = Subjects(ClipCache.open(options.cache))
        shown = f"benchmarks/trials/{options.trials.name}"
        record = {
            "title": trials["title"],
            "command": f"python -m benchmarks.settings {shown} CACHE --out FOLDER",
            "common": trials["common"],
            "processor": cpu_model(),
            "commit": current_commit(),
            "rows": [{"settings": "raw coordinates", **subjects.score_coordinates()}],
        }
        for number, (name, chosen) in enumerate(trials["trials"].items()):
            run = options.out / f"{options.trials.stem}-{number}"
            words = ["--data", str(options.cache), "--out", str(run), *QUIET]
            if status := pretrain([*words, *trials["common"], *chosen]):
                return status
            encoder = load_encoder(encoder_folder(run))
            if number == 0:
                untrained = subjects.score(make_random_encoder(encoder, 0))
                record["rows"].append({"settings": "random encoder", **untrained})
            summary = read(run / "summary.json")
            row = {"settings": name, "options": " ".join(chosen), **subjects.score(encoder)}
            record["rows"].append(row | {key: summary[key] for key in ("samples", "seconds")})
            text = json.dumps(record, indent=1) + "\n"
            write_atomically(
                options.records / options.trials.name,
                lambda file, text=text: file.write(text.encode()),  # type: ignore[misc]
            )
            print(json.dumps(row), flush=True)
    except (OSError, KeyError, ValueError, UserError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


class Subjects:
    """The training clips of a cache, and each clip's fold: subjects are never in two.

    Raises: UserError when the training clips are of one subject.
    """

    def __init__(self, cache: ClipCache) -> None:
        self.cache, self.clips = cache, cache.split()[0]
        self.labels = torch.from_numpy(np.asarray(cache.label[self.clips], dtype=np.int64))
        subjects, self.subject = np.unique(cache.subject[self.clips], return_inverse=True)
        self.folds = min(FOLDS, len(subjects))
        if self.folds < 2:
            raise UserError(f"{cache.path} has training clips of one subject: two are needed.")

    def score(self, encoder: Encoder) -> dict[str, float]:
        """Per cent of the clips that are classified rightly with frozen features."""
        features = extract_features(encoder, self.cache, self.clips)
        parts = extract_parts(encoder, self.cache, self.clips)
        windows = extract_windows(encoder, self.cache, self.clips)
        last = extract_windows(encoder, self.cache, self.clips, block=1)
        return {
            "knn": self._over_folds(features.retrieval, _nearest),
            "linear": self._over_folds(features.pooled, _logistic),
            "parts_knn": self._over_folds(parts, _nearest_whitened),
            "parts_linear": self._over_folds(parts, _logistic),
            "windows_knn": self._over_folds(windows, _nearest),
            "windows_linear": self._over_folds(windows, _logistic),
            "last_knn": self._over_folds(last, _nearest),
            "last_linear": self._over_folds(last, _logistic),
        }

    def score_coordinates(self) -> dict[str, float]:
        """The same of raw coordinates."""
        coordinates = load_coordinates(self.cache, self.clips)
        return {
            "knn": self._over_folds(coordinates, _nearest),
            "linear": self._over_folds(coordinates, _logistic),
            "parts_knn": self._over_folds(coordinates, _nearest_whitened),
        }

    def _over_folds(
        self, features: Tensor, classify: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], float]
    ) -> float:
        right = 0.0
        for fold in range(self.folds):
            test = torch.from_numpy(self.subject % self.folds == fold)
            # the weight decay is chosen on the next fold's subjects
            chosen_on = torch.from_numpy(self.subject % self.folds == (fold + 1) % self.folds)
            parts = (features[~test], self.labels[~test], features[test], self.labels[test])
            right += classify(*parts, chosen_on[~test]) * int(test.sum())
        return 100 * right / len(features)


def _nearest(train: Tensor, labels: Tensor, test: Tensor, truth: Tensor, _: Tensor) -> float:
    return compute_knn_accuracy(train, labels, test, truth)[1]


def _nearest_whitened(
    train: Tensor, labels: Tensor, test: Tensor, truth: Tensor, rest: Tensor
) -> float:
    train, test = whiten(train, test)
    return _nearest(train, labels, test, truth, rest)


def _logistic(train: Tensor, labels: Tensor, test: Tensor, truth: Tensor, held: Tensor) -> float:
    return compute_linear_accuracy(train, labels, test, truth, held)[0]


if __name__ == "__main__":
    sys.exit(main())

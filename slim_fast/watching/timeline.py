"""From the predictions of windows to segments: when what was done, for a scene and its people."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

NOBODY = -1


@dataclass(frozen=True)
class Segment:
    """A stretch of time with one class.

    Attributes:
        start, end: seconds.
        label: the class, NOBODY without anybody.
        confidence: mean probability of that class.
    """

    start: float
    end: float
    label: int
    confidence: float


class Timeline:
    """Class probabilities of every second, from those of overlapping windows.

    A second's probabilities are the mean of those of all windows that reach into it, weighted by
    how far they do.

    Args:
        classes: their number.
    """

    def __init__(self, classes: int) -> None:
        # of each second: probabilities, and last the weight of windows without anybody
        self._sums = np.zeros((0, classes + 1))

    def add(self, start: float, end: float, probabilities: np.ndarray | None) -> None:
        """Add the prediction (classes,) of a window from start to end; None: nobody is there."""
        last = int(np.ceil(end))
        if last > len(self._sums):
            more = np.zeros((last - len(self._sums), self._sums.shape[1]))
            self._sums = np.concatenate([self._sums, more])
        for second in range(int(start), last):
            share = max(0.0, min(end, second + 1) - max(start, second))
            if probabilities is None:
                self._sums[second, -1] += share
            else:
                self._sums[second, :-1] += share * probabilities

    @property
    def seconds(self) -> np.ndarray:
        """(seconds, classes + 1) mean probabilities; the last is that of nobody, 1 without any."""
        totals = self._sums.sum(1, keepdims=True)
        means = self._sums / np.where(totals > 0, totals, 1)
        means[totals[:, 0] == 0, -1] = 1
        return means

    def segments(self, smooth: int, end: float) -> list[Segment]:
        """Stretches of the same class, after a median filter over `smooth` seconds.

        end: where the recording ends, seconds.
        """
        from scipy.ndimage import median_filter  # slow to import

        means = self.seconds
        if not len(means):
            return []
        filtered = median_filter(means, size=(smooth, 1), mode="nearest")
        labels = filtered.argmax(1)
        edges = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
        nobody = means.shape[1] - 1
        return [
            Segment(
                float(first),
                min(float(last), end),
                NOBODY if labels[first] == nobody else int(labels[first]),
                float(means[first:last, labels[first]].mean()),
            )
            for first, last in pairwise(edges)
        ]

"""Watching: people are followed, carried over to the model's skeleton and classified in windows."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from slim_fast.data.readers.tracking import Tracker
from slim_fast.errors import UserError
from slim_fast.interop.classifier import SLiMClassifier
from slim_fast.interop.streaming import Prediction, Stream
from slim_fast.skeletons import Topology
from slim_fast.watching.carry import carry_over
from slim_fast.watching.poses import PoseFrame, PoseSource
from slim_fast.watching.timeline import Timeline


@dataclass(frozen=True, eq=False)
class Moment:
    """A frame, who is in it, and what is known by then.

    Attributes:
        number: of the frame, from 1.
        people: number of each of the frame's people, -1 for bodies without a joint.
        prediction: the newest one, maybe of an earlier frame; None before the first.
        is_new: whether it was made at this frame.
    """

    frame: PoseFrame
    number: int
    people: list[int]
    prediction: Prediction | None
    is_new: bool


class Session:
    """Watches a source once, as an iterator of `Moment`s.

    Args:
        classifier: in eval mode; its `optimize()` copy is the fastest.
        window, every: frames, as in `Stream`.

    Attributes:
        scene: timeline of all people together.
        people: a timeline for each person's number.
        end: seconds of the recording so far.
        spent: seconds that each frame took after its poses were found: to follow people, to carry
            their joints over, to classify.

    Raises: UserError for poses that do not fit the model.
    """

    def __init__(
        self, source: PoseSource, classifier: SLiMClassifier, window: int = 64, every: int = 8
    ) -> None:
        if not isinstance(classifier.topology, Topology):
            raise UserError(
                f"Of the model's {classifier.joints} joints only the number is known: watch needs "
                "a model whose skeleton has names."
            )
        self.source, self.classifier = source, classifier
        self._stream = Stream(classifier, window, every)
        self._carry = carry_over(source, classifier.topology, classifier.channel_names)
        self._tracker = Tracker()
        self._times: deque[float] = deque(maxlen=window)
        self.scene = Timeline(classifier.num_classes)
        self.people: dict[int, Timeline] = {}
        self.end = 0.0
        self.spent: list[float] = []

    def __iter__(self) -> Iterator[Moment]:
        newest = None
        for number, frame in enumerate(self.source.frames, 1):
            began = time.perf_counter()
            numbers = self._tracker.update(_keys(frame)) if frame.people else []
            due = self._predict(frame, numbers)
            self.spent.append(time.perf_counter() - began)
            newest = due or newest
            yield Moment(frame, number, numbers, newest, due is not None)

    def _predict(self, frame: PoseFrame, numbers: list[int]) -> Prediction | None:
        model = self.classifier
        step = (frame.seconds - self._times[-1]) if self._times else 0.0
        self._times.append(frame.seconds)
        self.end = frame.seconds + step
        named = [place for place, number in enumerate(numbers) if number >= 0]
        people = np.zeros((0, model.joints, model.channels))
        if named:
            people = self._carry(frame)[named]
        predictions = self._stream.push(people, [numbers[place] for place in named])
        if not predictions:
            return None
        (due,) = predictions
        if model.pos_embed.is_cuda:
            torch.cuda.synchronize()
        scene = None if due.probabilities is None else due.probabilities.cpu().numpy()
        self.scene.add(self._times[0], self.end, scene)
        for person, probabilities in due.person_probabilities.items():
            assert isinstance(person, int)
            own = self.people.setdefault(person, Timeline(model.num_classes))
            own.add(self._times[0], self.end, probabilities.cpu().numpy())
        return due


def _keys(frame: PoseFrame) -> np.ndarray:
    """Positions (M, V, 2 or 3) to follow people by: in the image, where hips are not the origin."""
    if frame.image is not None:
        return frame.image[..., :2]
    assert frame.world is not None
    return frame.world[..., :3]

"""`slim-fast watch` with three people, without finding their poses: at least 25 frames a second."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest

from benchmarks.suite.bench import Bench
from benchmarks.suite.encoders import PRECISIONS, spread
from slim_fast import SLiMClassifier
from slim_fast.skeletons import get_topology
from slim_fast.watching.poses import PoseFrame, PoseSource
from slim_fast.watching.session import Session

CLASSES, FRAMES, ROUNDS = 60, 240, 5
TARGET = 25.0
CHANNELS = "xyzc"


def make_frames(people: int, frames: int) -> list[PoseFrame]:
    """People who stand beside each other and tremble, as MediaPipe would find them."""
    rng, shape = np.random.default_rng(0), (people, 33, 3)
    bodies, places = rng.normal(0, 0.3, shape), np.arange(people)[:, None, None] * [0.8, 0, 0]
    found = []
    for number in range(frames):
        world = bodies + rng.normal(0, 0.01, shape)
        marks = (world + places) * 0.4
        both = (np.concatenate([x, np.ones((*shape[:2], 1))], -1) for x in (world, marks))
        found.append(PoseFrame(number / 30, *both))
    return found


def ours(people: int, every: int, precision: str, frames: int) -> Callable[[], int]:
    model = SLiMClassifier(CLASSES, "ntu-25")
    spread(model)
    model = model.eval().optimize(PRECISIONS[precision])
    content = make_frames(people, frames)

    def source(frames: Iterator[PoseFrame]) -> PoseSource:
        return PoseSource(get_topology("mediapipe-33"), CHANNELS, CHANNELS, frames)

    def run() -> int:
        session = Session(source(iter(content)), model, every=every)
        made = [moment.prediction for moment in session if moment.is_new]
        # the first windows may be too short for a token
        assert made[-1] is not None
        assert len(made[-1].person_logits) == people
        return len(made)

    return run


@pytest.mark.parametrize("every", [8, 1])
@pytest.mark.parametrize("people", [1, 3])
def test_watch(bench: Bench, people: int, every: int) -> None:
    bench.skip_if_quick((people, every) != (3, 8))
    frames = 16 if bench.quick else FRAMES
    sides = {name: partial(ours, precision=name) for name in bench.native_precisions()}
    built = {"people": people, "every": every, "frames": frames}
    rounds = bench.compare(sides, ROUNDS, shown="fp32", **built)
    for precision in sides:
        assert rounds.first[precision] == frames // every
        seconds = {"ours": rounds.metrics(precision, precision)["seconds"]["ours"]}
        case = {**built, "precision": precision}
        bench.record("watch", case, seconds=seconds, rounds=ROUNDS, target=TARGET)

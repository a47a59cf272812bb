"""Sessions: people keep their numbers, and predictions are the stream's on their carried poses."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from slim_fast import SLiMClassifier, UserError
from slim_fast.interop.streaming import Stream
from slim_fast.watching.poses import PoseFrame
from slim_fast.watching.session import Session
from tests.watching.conftest import source_of


def crowd(frames: int = 40) -> list[PoseFrame]:
    """Two people who walk past each other, listed in another order each time; one leaves."""
    rng = np.random.default_rng(0)
    bodies = rng.normal(0, 0.3, (2, 25, 3))
    found = []
    for number in range(frames):
        places = np.array([[0.03 * number, 0, 3], [4 - 0.02 * number, 0, 3]])
        people = bodies + places[:, None] + rng.normal(0, 0.01, (2, 25, 3))
        order = rng.permutation(2) if number < 24 else [0]
        found.append(PoseFrame(number / 30, people[order]))
    return found


def test_predictions_are_those_of_the_stream(classifier: SLiMClassifier) -> None:
    session = Session(source_of(crowd(), "ntu-25"), classifier, window=16, every=8)
    stream = Stream(classifier, 16, 8)
    moments = list(session)
    assert [m.number for m in moments if m.is_new] == [8, 16, 24, 32, 40]
    first = moments[0].frame.world
    assert first is not None
    number_of = {float(first[place, 0, 0]) < 2: n for place, n in enumerate(moments[0].people)}
    for moment in moments:
        world = moment.frame.world
        assert world is not None
        # who is left is at x = 0.03 a frame, who is right comes from 4
        near = [abs(body[:, 0].mean() - 0.03 * (moment.number - 1)) < 0.5 for body in world]
        assert moment.people == [number_of[is_near] for is_near in near]
        due = stream.push(world, moment.people)
        if due:
            assert moment.prediction is not None
            torch.testing.assert_close(moment.prediction.logits, due[0].logits)
            assert moment.prediction.person_logits.keys() == due[0].person_logits.keys()
    assert session.people.keys() == {0, 1}
    assert session.end == pytest.approx(40 / 30)
    assert len(session.spent) == 40
    # windows of 16 frames: all of both seconds
    assert session.scene.seconds.shape == (2, 4)
    assert session.scene.seconds[:, 3].max() == 0


def test_nobody_is_no_prediction(classifier: SLiMClassifier) -> None:
    frames = [PoseFrame(n / 30, np.zeros((n % 2, 25, 3))) for n in range(16)]
    session = Session(source_of(frames, "ntu-25"), classifier, 16, 8)
    moments = list(session)
    assert [m.people for m in moments[:2]] == [[], [-1]]
    assert moments[-1].prediction is not None
    assert moments[-1].prediction.logits is None
    assert (session.scene.seconds[:, 3] == 1).all()
    assert session.people == {}


def test_a_model_of_nameless_joints_is_refused(make_classifier: Callable[..., SLiMClassifier]):
    with pytest.raises(UserError, match="Of the model's 5 joints only the number is known"):
        Session(source_of([], "ntu-25"), make_classifier(), 16, 8)

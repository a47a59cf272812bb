"""What a stream takes and refuses: settings, frames, and ids of people."""

import numpy as np
import pytest
import torch

from slim_fast import UserError
from slim_fast.interop.streaming import Stream

CENTRE = 2


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"window": 20}, "window=20 must be a multiple of the model's 8"),
        ({"window": 0}, "window=0"),
        ({"every": 0}, "every=0 must be at least 1"),
        ({"patience": 0}, "patience=0"),
        ({"centre": None}, "5 joints is the centre is not known: pass centre"),
        ({"centre": 5}, "centre=5, but joints are numbered 0 to 4"),
        ({"centre": -1}, "centre=-1"),
    ],
)
def test_settings_that_cannot_work(make_encoder, settings, says):
    with pytest.raises(UserError, match=says):
        Stream(make_encoder(), **{"centre": CENTRE, **settings})


def test_a_model_in_training_mode_is_refused(make_encoder):
    with pytest.raises(UserError, match=r"call model\.eval\(\)"):
        Stream(make_encoder().train(), centre=CENTRE)


@pytest.mark.parametrize(
    ("frames", "ids", "says"),
    [
        (torch.randn(2, 6, 3), None, r"\(M people, 5 joints, 3 channels\).*got \(2, 6, 3\)"),
        (torch.randn(2, 5, 2), None, r"got \(2, 5, 2\)"),
        (torch.randn(5, 3), None, r"got \(5, 3\)"),
        (torch.randn(1, 1, 2, 5, 3), None, "got"),
        ([["x"]], None, "array of numbers"),
        (torch.randn(2, 5, 3), ["a"], "1 ids for 2 people"),
        (torch.randn(2, 5, 3), ["a", "a"], "the id 'a' names two people"),
        (torch.randn(2, 5, 3), [[1], [2]], "hashable"),
    ],
)
def test_frames_that_do_not_fit_change_nothing(make_encoder, frames, ids, says):
    encoder, x = make_encoder(), torch.randn(8, 1, 5, 3)
    stream = Stream(encoder, 8, centre=CENTRE)
    stream.push(x[:7])
    with pytest.raises(UserError, match=says):
        stream.push(frames, ids)
    assert stream.people == (0,)
    (answer,) = stream.push(x[7])
    assert torch.equal(answer.features[0], Stream(encoder, 8, centre=CENTRE).push(x)[0].features[0])


@pytest.mark.parametrize(
    "named",
    [
        lambda ids: torch.tensor(ids),
        lambda ids: np.array(ids),
        lambda ids: np.array(ids, np.float32),  # a tracker's column of an array of floats
        lambda ids: list(torch.tensor(ids)),
        lambda ids: [torch.tensor([n]) for n in ids],
        lambda ids: list(np.array(ids, np.uint8)),
        lambda ids: [np.array(n) for n in ids],
        lambda ids: tuple(ids),
    ],
)
def test_ids_count_by_their_value(make_encoder, named):
    encoder, frames = make_encoder(), torch.randn(16, 2, 5, 3)
    plain, other = Stream(encoder, 16, 8, centre=0), Stream(encoder, 16, 8, centre=0)
    for number, frame in enumerate(frames):
        ids = [7, 3] if number % 2 else [3, 7]
        want, got = plain.push(frame, ids), other.push(frame, named(ids))
    assert other.people == (3, 7)
    assert [name for answer in got for name in answer.features] == [3, 7]
    for name, features in want[0].features.items():
        assert torch.equal(got[0].features[name], features)
    other.push(frames[0], [3, 7])  # the same people, whoever names them
    assert other.people == (3, 7)


def test_ids_of_strings_in_an_array(make_encoder):
    stream = Stream(make_encoder(), 16, 8, centre=0)
    stream.push(torch.randn(2, 5, 3), np.array(["a", "b"]))
    stream.push(torch.randn(2, 5, 3), ["a", "b"])
    assert stream.people == ("a", "b")


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        ([1, None], r"the id of person 1 is None: leave people whom the tracker has not named out"),
        ([float("nan"), 1], "the id of person 0 is nan"),
        (torch.tensor([1.0, torch.nan]), "the id of person 1 is nan"),
        (np.array([np.nan, np.nan]), "the id of person 0 is nan"),
        ([np.float32("nan"), 2], "the id of person 0 is nan"),
        ([torch.tensor(1), 1], "the id 1 names two people"),
        (torch.tensor([4, 4]), "the id 4 names two people"),
        (torch.tensor([[1, 2], [3, 4]]), "one number or string for each person"),
        (torch.tensor(3), "one number or string for each person"),
        (5, "one number or string for each person"),
        (np.array([1]), "1 ids for 2 people"),
    ],
)
def test_ids_that_name_nobody_who_is_there(make_encoder, ids, says):
    stream = Stream(make_encoder(), 16, 8, centre=0)
    with pytest.raises(UserError, match=says):
        stream.push(torch.randn(2, 5, 3), ids)
    assert not stream.people


def test_empty_places_need_no_name(make_encoder):
    stream = Stream(make_encoder(), 16, 8, centre=0)
    frames = torch.randn(8, 4, 5, 3)
    frames[:, 1:3] = 0
    frames[:, 3] = torch.nan
    stream.push(frames, [1, None, None, torch.nan])
    assert stream.people == (1,)

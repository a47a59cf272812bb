"""Views that are made ahead: those of the step that asks, and only where a GPU gains by it."""

from contextlib import nullcontext
from unittest import mock

import pytest
import torch

from slim_fast.training.ahead import ViewsAhead
from slim_fast.views.pipeline import ViewBatch


class Stream:
    """In a CUDA stream's place: who waited for whom."""

    def __init__(self, *_, **__) -> None:
        self.waited: list[object] = []

    def wait_stream(self, other: object) -> None:
        self.waited.append(other)


@pytest.fixture
def current(monkeypatch):
    stream = Stream()
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    return stream


def make(made: list[int]):
    def one(step: int) -> list[ViewBatch]:
        made.append(step)
        return [ViewBatch([], torch.tensor([step]), step)]

    return one


def test_a_cpu_makes_views_when_they_are_asked_for() -> None:
    made: list[int] = []
    views = ViewsAhead(make(made), torch.device("cpu"))
    views.prepare(1)
    assert made == []
    assert views(1)[0].step == 1


def test_a_gpu_makes_them_once_and_waits_for_them(current) -> None:
    made: list[int] = []
    views = ViewsAhead(make(made), torch.device("cuda"))
    assert views(4)[0].step == 4
    views.prepare(5)
    assert made == [4, 5]
    with mock.patch.object(torch.Tensor, "record_stream") as kept:
        assert views(5)[0].step == 5
    assert made == [4, 5]
    assert len(current.waited) == 1
    kept.assert_called_once_with(current)


def test_other_steps_than_the_prepared_one_are_made_anew(current) -> None:
    made: list[int] = []
    views = ViewsAhead(make(made), torch.device("cuda"))
    views.prepare(5)
    assert views(7)[0].step == 7
    views.prepare(8)
    with mock.patch.object(torch.Tensor, "record_stream"):
        assert views(5)[0].step == 5  # the batch made for it is gone
    assert made == [5, 7, 8, 5]

"""Frames of people over a picture: their places, colours, names and the timeline."""

import numpy as np
import pytest

from slim_fast.drawing.overlay import HEIGHT, Overlay, class_colour
from slim_fast.skeletons import get_topology

COCO = get_topology("coco-17")
CLASSES = ["still", "a very long name of an action that no frame has the room for, not even this"]


def rgb(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def share(image: np.ndarray, colour: str) -> float:
    return float((np.abs(image.astype(int) - rgb(colour)).max(-1) < 40).mean())


def test_a_person_is_drawn_where_they_are() -> None:
    body = np.random.default_rng(0).uniform(-0.2, 0.2, (17, 2))
    overlay = Overlay(COCO, CLASSES, 4.0)
    for place in ([-1.2, -0.3], [1.0, 0.2]):
        image = np.asarray(overlay.draw(0.0, {3: body + place}, {}, None).convert("L"))
        rows, columns = np.nonzero(image[:HEIGHT] < 200)
        middle = np.array([image.shape[1], HEIGHT]) / 2
        found = (np.array([columns.mean(), rows.mean()]) - middle) / (HEIGHT / 2)
        assert found == pytest.approx(place, abs=0.15)
    none = overlay.draw(0.0, {3: np.full((17, 2), np.nan)}, {3: (0, 0.5)}, None)
    assert (np.asarray(none)[:HEIGHT] > 250).all()


def test_answers_and_the_picture_are_seen() -> None:
    picture = np.full((120, 200, 3), (10, 200, 30), np.uint8)
    overlay = Overlay(COCO, CLASSES, 4.0)
    body = np.random.default_rng(0).uniform(-0.2, 0.2, (17, 2))
    bare = np.asarray(overlay.draw(0.0, {0: body}, {}, None, picture))
    assert bare.shape[1] == 200
    assert bare.shape[0] > 120
    assert bare[60, 5].tolist() == [10, 200, 30]
    told = np.asarray(overlay.draw(0.0, {0: body}, {0: (1, 0.75)}, (1, 0.75), picture))
    assert (told != bare).any(-1)[:40, :100].mean() > 0.1


def test_the_timeline_grows_with_its_classes() -> None:
    overlay = Overlay(COCO, CLASSES, 10.0)
    widths = []
    for second in range(1, 11):
        label = 0 if second <= 5 else 1
        image = np.asarray(overlay.draw(float(second), {}, {}, (label, 0.9)))[HEIGHT:]
        widths.append([share(image, class_colour(c)) for c in (0, 1)])
    assert widths[4][0] == pytest.approx(0.5, abs=0.06)
    assert widths[4][1] == 0
    assert widths[9] == pytest.approx([0.5, 0.5], abs=0.06)


def test_a_timeline_without_an_end_forgets() -> None:
    overlay = Overlay(COCO, CLASSES)
    for second in range(200):
        image = overlay.draw(float(second), {}, {}, (second // 10 % 2, 0.9))
    assert len(overlay._band) <= 5
    band = np.asarray(image)[HEIGHT:]
    assert share(band, class_colour(0)) + share(band, class_colour(1)) > 0.9

"""People over a picture, with what each and the whole scene does, and a timeline below.

Drawn by Pillow, which comes with matplotlib: a frame takes milliseconds, so that a camera's are
shown as they come.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from slim_fast.drawing import style
from slim_fast.drawing.lettering import Letters
from slim_fast.drawing.stick_figures import Floats, joint_sides, person_colours
from slim_fast.skeletons import Topology

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

HEIGHT, ASPECT = 360, 16 / 9  # pixels of a frame without a picture
FINE = 2  # drawn larger by this, then reduced, for smooth lines
BAND, PAD, TITLE, LABEL = 22, 8, 20, 13  # pixels at HEIGHT
SHOWN = 30.0  # seconds of a timeline without an end

Answer = tuple[int, float]
"""A class and its probability."""


def class_colour(label: int) -> str:
    """The colour of a class's number; with many classes some share one."""
    return style.COLOURS[label % len(style.COLOURS)]


class Overlay:
    """Draws frames of one recording.

    Args:
        topology: of the people drawn.
        classes: names of the classes.
        seconds: length of the recording; None when it is unknown.
    """

    def __init__(
        self, topology: Topology, classes: Sequence[str], seconds: float | None = None
    ) -> None:
        self.letters = Letters([*classes, "0123456789 %…"])
        self.names = [self.letters.class_name(*entry) for entry in enumerate(classes)]
        self.topology, self.sides, self.seconds = topology, joint_sides(topology), seconds
        # (start, end, class) of the scene so far
        self._band: list[tuple[float, float, int]] = []

    def draw(
        self,
        seconds: float,
        people: Mapping[int, Floats],
        answers: Mapping[int, Answer],
        scene: Answer | None,
        picture: np.ndarray | None = None,
    ) -> Image:
        """One frame; frames must come in their order.

        Args:
            seconds: its time.
            people: number -> (V, 2) in half image heights from the middle, y down; NaN: undetected.
            answers: number -> what that person does, as far as it is known.
            scene: what all do together.
            picture: (H, W, 3) uint8 RGB behind them; None: white.
        """
        from PIL import Image, ImageDraw

        if picture is None:
            canvas = Image.new("RGB", (round(HEIGHT * ASPECT) * FINE, HEIGHT * FINE), "white")
        else:
            behind = Image.fromarray(picture)
            canvas = behind.resize((behind.width * FINE, behind.height * FINE))
        band = round(BAND * canvas.height / HEIGHT)
        whole = Image.new("RGB", (canvas.width, canvas.height + band), "white")
        whole.paste(canvas)
        pen, unit = ImageDraw.Draw(whole), canvas.height / HEIGHT
        middle = np.array([canvas.width, canvas.height]) / 2
        for place, (number, joints) in enumerate(people.items()):
            points = joints * canvas.height / 2 + middle
            self._figure(pen, points, place, unit)
            if number in answers and np.isfinite(points).all(-1).any():
                self._label(pen, points, answers[number], unit)
        if scene is not None:
            label, confidence = scene
            # in the font's units: a pixel at HEIGHT is a point, 72 of which are an inch
            limit = (canvas.width / unit - 4 * PAD) / 72 - self.letters.width("  100%", TITLE)
            text = f"{self.letters.elide(self.names[label], TITLE, limit)}  {confidence:.0%}"
            self._tag(pen, (PAD * unit, PAD * unit), text, TITLE * unit, label)
        self._draw_band(pen, seconds, scene, canvas.size, band)
        return whole.reduce(FINE)

    def _figure(self, pen: ImageDraw, points: Floats, place: int, unit: float) -> None:
        colours = person_colours(self.sides, place)
        for child, parent in self.topology.bones:
            ends = points[[child, parent]]
            if np.isfinite(ends).all():
                pen.line([tuple(end) for end in ends], colours[child], round(2.4 * unit))
        for joint, colour in zip(points, colours, strict=True):
            if np.isfinite(joint).all():
                pen.circle(tuple(joint), 2.4 * unit, colour)

    def _label(self, pen: ImageDraw, points: Floats, answer: Answer, unit: float) -> None:
        """Above a person's highest joint."""
        label, confidence = answer
        known = points[np.isfinite(points).all(-1)]
        x, y = (known[:, 0].min() + known[:, 0].max()) / 2, known[:, 1].min()
        text = f"{self.names[label]} {confidence:.0%}"
        width = self._font(text, LABEL * unit).getlength(text)
        limit = pen.im.size[0] - width - PAD * unit
        left = min(max(x - width / 2, PAD * unit), limit)
        top = max(y - (LABEL + 3 * PAD) * unit, PAD * unit)
        self._tag(pen, (left, top), text, LABEL * unit, label)

    def _tag(
        self, pen: ImageDraw, corner: tuple[float, float], text: str, size: float, label: int
    ) -> None:
        """Text on white, underlined in the colour of its class."""
        font = self._font(text, size)
        left, top, right, bottom = pen.textbbox(corner, text, font)
        edge = 0.25 * size
        pen.rectangle((left - edge, top - edge, right + edge, bottom + edge), "white")
        colour = class_colour(label)
        pen.rectangle(
            (left - edge, bottom + edge, right + edge, bottom + edge + 0.18 * size), colour
        )
        pen.text(corner, text, style.INK, font)

    def _draw_band(
        self,
        pen: ImageDraw,
        seconds: float,
        scene: Answer | None,
        size: tuple[int, int],
        height: int,
    ) -> None:
        """The scene's classes so far, with their names where there is room."""
        start = self._band[-1][1] if self._band else 0.0
        label = -1 if scene is None else scene[0]
        if self._band and self._band[-1][2] == label:
            self._band[-1] = (self._band[-1][0], seconds, label)
        else:
            self._band.append((start, seconds, label))
        span = self.seconds or max(SHOWN, 1e-9)
        first = 0.0 if self.seconds else max(0.0, seconds - SHOWN)
        while self._band[0][1] < first:
            del self._band[0]
        width, top = size
        pen.rectangle((0, top, width, top + height), style.PALE)
        for begin, end, label in self._band:
            left, right = ((max(t, first) - first) / span * width for t in (begin, end))
            if label < 0 or right <= left:
                continue
            pen.rectangle((left, top, right, top + height), class_colour(label))
            text, small = self.names[label], 0.6 * height
            font = self._font(text, small)
            if font.getlength(text) < right - left - small:
                pen.text((left + small / 2, top + 0.15 * height), text, "white", font)

    @functools.cached_property
    def _fonts(self) -> dict[tuple[str, int], FreeTypeFont]:
        return {}

    def _font(self, text: str, size: float) -> FreeTypeFont:
        from PIL import ImageFont

        key = self.letters.file(text), round(size)
        if key not in self._fonts:
            self._fonts[key] = ImageFont.truetype(*key)
        return self._fonts[key]

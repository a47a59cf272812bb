"""What is shown and kept of a recording that is watched: a window, a film, JSON lines."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from slim_fast.drawing.overlay import Answer, Overlay
from slim_fast.drawing.poses import project
from slim_fast.errors import UserError, describe_os_error
from slim_fast.skeletons import Topology
from slim_fast.watching.extra import import_extra
from slim_fast.watching.poses import Pace, PoseFrame
from slim_fast.watching.session import Moment, Session
from slim_fast.watching.timeline import NOBODY, Segment
from slim_fast.writing import replace_atomically

STANDARD_OUTPUT = "-"
LINES, FILMS = ".jsonl", (".gif", ".mp4")
GIF_RATE = 10.0  # frames a second, at most; a GIF of more is several times as large
GIF_WIDTH, GIF_COLOURS = 480, 64
BODY_METRES = 1.2  # half the height of a picture that shows bodies whose place is unknown


class Painter:
    """Draws moments over their pictures.

    Args:
        seconds: length of the recording; None when it is unknown.
    """

    def __init__(
        self, topology: Topology, classes: Sequence[str], seconds: float | None = None
    ) -> None:
        self.topology, self.overlay = topology, Overlay(topology, classes, seconds)

    def __call__(self, moment: Moment) -> Any:
        """A PIL image."""
        frame, prediction = moment.frame, moment.prediction
        points = self._points(frame)
        people = {
            number: points[place] for place, number in enumerate(moment.people) if number >= 0
        }
        answers: dict[int, Answer] = {}
        scene = None
        if prediction is not None and prediction.probabilities is not None:
            scene = best_answer(prediction.probabilities)
            answers = {
                int(str(person)): best_answer(own)
                for person, own in prediction.person_probabilities.items()
            }
        return self.overlay.draw(frame.seconds, people, answers, scene, frame.picture)

    def _points(self, frame: PoseFrame) -> np.ndarray:
        """(M, V, 2) in half image heights, y down; NaN for undetected joints."""
        if frame.image is not None:
            points = frame.image[..., :2].astype(np.float64)
            return np.where((points != 0).any(-1, keepdims=True), points, np.nan)
        if frame.world is None or not len(frame.world):
            return np.zeros((0, self.topology.num_joints, 2))
        flat = project(frame.world, self.topology) * [1, -1] / BODY_METRES
        # all have the hips at the origin: side by side
        aside = np.arange(len(flat)) - (len(flat) - 1) / 2
        return flat + np.stack([aside, np.zeros_like(aside)], -1)[:, None]


def best_answer(probabilities: Any) -> Answer:
    """The class of the highest probability, and that."""
    label = int(probabilities.argmax())
    return label, float(probabilities[label])


def describe_moment(moment: Moment, classes: Sequence[str]) -> dict[str, Any]:
    """A new prediction as plain data."""

    def plain(probabilities: Any) -> dict[str, Any]:
        label, confidence = best_answer(probabilities)
        return {"class": classes[label], "confidence": round(confidence, 4)}

    prediction = moment.prediction
    assert prediction is not None
    scene = prediction.probabilities
    return {
        "frame": moment.number,
        "seconds": round(moment.frame.seconds, 3),
        "scene": None if scene is None else plain(scene),
        "people": {
            str(person): plain(own) for person, own in prediction.person_probabilities.items()
        },
    }


def describe_segment(
    segment: Segment, classes: Sequence[str], person: int | None
) -> dict[str, Any]:
    """A segment of a person's timeline, or the scene's, as plain data."""
    return {
        "segment": [round(segment.start, 3), round(segment.end, 3)],
        "person": person,
        "class": None if segment.label == NOBODY else classes[segment.label],
        "confidence": round(segment.confidence, 4),
    }


def list_segments(
    session: Session, classes: Sequence[str], smooth: int
) -> Iterator[dict[str, Any]]:
    """`describe_segment` for the scene, then for each person."""
    for person, line in ((None, session.scene), *session.people.items()):
        for segment in line.segments(smooth, session.end):
            if segment.label != NOBODY or person is None:
                yield describe_segment(segment, classes, person)


def is_lines(path: str) -> bool:
    """Whether JSON lines are written there."""
    return path == STANDARD_OUTPUT or Path(path).suffix.lower() == LINES


def check_output(path: str) -> None:
    """Raises: UserError unless it can be told what to write there."""
    if not is_lines(path) and Path(path).suffix.lower() not in FILMS:
        raise UserError(f"Cannot write {path}: name it with the ending .gif, .mp4 or .jsonl.")


Sink = Callable[[Moment], bool]
"""Takes a moment; False: the user wants no more."""


@contextmanager
def open_lines(path: str, classes: Sequence[str]) -> Iterator[tuple[Sink, TextIO]]:
    """JSON lines: one a prediction; and the file for what comes at the end."""

    def sink(moment: Moment) -> bool:
        if moment.is_new:
            print(json.dumps(describe_moment(moment, classes), ensure_ascii=False), file=file)
            if file is sys.stdout:
                file.flush()
        return True

    if path == STANDARD_OUTPUT:
        file: TextIO = sys.stdout
        yield sink, file
        return
    with (
        _explain_writing(path),
        replace_atomically(Path(path)) as temporary,
        temporary.open("w", encoding="utf-8") as file,
    ):
        yield sink, file


@contextmanager
def open_film(path: Path, painter: Painter, rate: float) -> Iterator[Sink]:
    """A film, .gif or .mp4, of at most `rate` frames a second.

    Raises: UserError without OpenCV for .mp4, and when it cannot be written.
    """
    writer = _open_gif if path.suffix.lower() == ".gif" else _open_mp4
    with (
        _explain_writing(path),
        replace_atomically(path) as temporary,
        writer(temporary, painter, rate) as sink,
    ):
        yield sink


@contextmanager
def _explain_writing(path: str | Path) -> Iterator[None]:
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"Cannot write {path} ({describe_os_error(error)}).") from error


@contextmanager
def _open_gif(path: Path, painter: Painter, rate: float) -> Iterator[Sink]:
    pace, images, times = Pace(min(rate, GIF_RATE)), [], []

    def sink(moment: Moment) -> bool:
        if pace.takes(moment.frame.seconds):
            image = painter(moment)
            if image.width > GIF_WIDTH:
                image = image.resize((GIF_WIDTH, round(image.height * GIF_WIDTH / image.width)))
            images.append(image.quantize(GIF_COLOURS, dither=0))
            times.append(moment.frame.seconds)
        return True

    yield sink
    if images:
        # milliseconds from each image to the next; the last one stays a second
        shown = [*(max(20, round(1000 * step)) for step in np.diff(times)), 1000]
        images[0].save(path, save_all=True, append_images=images[1:], duration=shown, loop=0)


@contextmanager
def _open_mp4(path: Path, painter: Painter, rate: float) -> Iterator[Sink]:
    cv2 = import_extra("cv2", "Writing an .mp4")
    writer: Any = None
    written = 0

    def sink(moment: Moment) -> bool:
        nonlocal writer, written
        image = np.asarray(painter(moment))
        height, width = (side - side % 2 for side in image.shape[:2])  # MPEG-4 takes even sides
        if writer is None:
            code = cv2.VideoWriter_fourcc(*"mp4v")
            writer = cv2.VideoWriter(str(path), code, rate, (width, height))
            if not writer.isOpened():
                raise UserError(f"OpenCV cannot write {path.suffix}: choose a name in .gif.")
        image = np.ascontiguousarray(image[:height, :width, ::-1])
        while written <= moment.frame.seconds * rate:  # a film's frames last equally long
            writer.write(image)
            written += 1
        return True

    try:
        yield sink
    finally:
        if writer is not None:
            writer.release()


@contextmanager
def open_window(painter: Painter) -> Iterator[Sink]:
    """A window, until q or Escape is pressed. Raises: UserError without OpenCV or a display."""
    cv2 = import_extra("cv2", "A window")
    title = "slim_fast"

    def sink(moment: Moment) -> bool:
        try:
            cv2.imshow(title, np.ascontiguousarray(np.asarray(painter(moment))[:, :, ::-1]))
            return cv2.waitKey(1) & 0xFF not in (ord("q"), 27)
        except cv2.error as error:
            raise UserError(
                "OpenCV cannot open a window here (no display, or a build without windows): leave "
                "--show out and give --out."
            ) from error

    try:
        yield sink
    finally:
        cv2.destroyAllWindows()

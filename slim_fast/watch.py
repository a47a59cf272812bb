"""python -m slim_fast.watch VIDEO|0|POSES --model NAME: what people in it do, while it is read."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from jsonargparse import Namespace
from tqdm import tqdm

from slim_fast.command import CommandParser, run_command, run_process
from slim_fast.errors import UserError, program_name
from slim_fast.interop.checkpoints.read import read_checkpoint
from slim_fast.interop.classifier import SLiMClassifier
from slim_fast.training.machine import choose_device
from slim_fast.watching import outputs
from slim_fast.watching.mediapipe_finder import make_finder
from slim_fast.watching.pose_files import is_pose_source, open_poses
from slim_fast.watching.poses import PoseSource
from slim_fast.watching.session import Moment, Session
from slim_fast.watching.video import open_video

RATE = 30.0  # frames a second of the recordings that models learn from


def build_parser() -> CommandParser:
    """The command line."""
    parser = CommandParser(
        prog=program_name("watch"),
        description="Say what people in a video, before a camera or in files of poses do: the "
        "class and its confidence for each person and the scene, and a timeline of segments.",
    )
    source = "a video file, a camera's number, or poses: JSON lines (-: standard input), a .json "
    source += "file or a folder of them, as MediaPipe and OpenPose write them"
    parser.add_argument("source", type=str, metavar="SOURCE", help=source)
    model = "folder of a classifier, or owner/name on Hugging Face"
    parser.add_argument("--model", type=str, required=True, metavar="CLASSIFIER", help=model)
    out = "what to write: films (.gif, .mp4) and JSON lines (.jsonl; -: standard output)"
    parser.add_argument("--out", type=str, nargs="+", default=[], metavar="FILE", help=out)
    parser.add_argument("--show", action="store_true", help="in a window, until q is pressed")
    parser.add_argument(
        "--window", type=int, default=64, help="frames that a prediction looks back on"
    )
    parser.add_argument(
        "--every", type=int, default=8, help="frames from one prediction to the next"
    )
    rate = "frames a second to look at, at most: that of the model's training recordings"
    parser.add_argument("--rate", type=float, default=RATE, help=rate)
    smooth = "seconds of the median filter over the timeline, an odd number"
    parser.add_argument("--smooth", type=int, default=3, metavar="SECONDS", help=smooth)
    parser.add_argument("--people", type=int, default=3, help="people to find in a video, at most")
    pose_model = "a .task file of MediaPipe's pose landmarker, instead of what it carries"
    parser.add_argument("--pose-model", type=Path, metavar="FILE", help=pose_model)
    poses_rate = "frames a second of poses that do not say their seconds; 30 by default"
    parser.add_argument("--poses-rate", type=float, metavar="RATE", help=poses_rate)
    size = "width and height in pixels of poses that do not say them"
    parser.add_argument("--image-size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help=size)
    parser.add_argument("--device", type=str, default="auto", help="cpu, cuda or auto")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    return run_command(lambda: run(build_parser().parse(arguments)))


def run(options: Namespace) -> None:
    """What the command does. Raises: UserError for input that does not fit."""
    _check(options)
    classifier = open_classifier(options.model, options.device)
    source = open_source(options)
    session = Session(source, classifier.optimize(), options.window, options.every)
    classes = class_names(classifier)
    speech = sys.stderr if outputs.STANDARD_OUTPUT in options.out else sys.stdout
    with ExitStack() as stack:
        sinks, lines = open_outputs(options, source, classes, stack)
        moments = tqdm(session, "watch", source.total, unit="frame", leave=False, disable=None)
        # a camera is stopped by Ctrl-C, and what was seen until then counts
        with suppress(*((KeyboardInterrupt,) if source.is_live else ())):
            feed(moments, sinks)
        if not session.spent:
            raise UserError(f"{options.source} has no frames.")
        for segment in outputs.list_segments(session, classes, options.smooth):
            for file in lines:
                print(json.dumps(segment, ensure_ascii=False), file=file)
            print(format_segment(segment), file=speech)
    spent = np.array(session.spent)
    print(
        f"{len(spent)} frames of {session.end:.1f} s, {len(session.people)} people; without "
        f"finding poses and drawing {1000 * spent.mean():.3g} ms a frame in the mean, that is "
        f"{1 / spent.mean():.0f} frames a second.",
        file=speech,
    )
    for path in options.out:
        if path != outputs.STANDARD_OUTPUT:
            print(f"{path} is written.", file=speech)


def feed(moments: Iterator[Moment], sinks: Sequence[outputs.Sink]) -> None:
    """Give every moment to all sinks, until one wants no more."""
    for moment in moments:
        if not all([sink(moment) for sink in sinks]):
            return


def _check(options: Namespace) -> None:
    for name in ("rate", "poses_rate", "people", "smooth"):
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"--{name.replace('_', '-')} {value:g}: must be above 0.")
    if options.smooth % 2 == 0:
        raise UserError(f"--smooth {options.smooth}: must be an odd number of seconds.")
    if options.image_size and min(options.image_size) < 1:
        raise UserError("--image-size: both sides must be at least 1 pixel.")
    for path in options.out:
        outputs.check_output(path)
    if is_pose_source(options.source):
        if options.pose_model:
            raise UserError("--pose-model finds people in videos: leave it out for poses.")
    elif options.poses_rate or options.image_size:
        raise UserError("--poses-rate and --image-size are for poses: leave them out for videos.")


def open_source(options: Namespace) -> PoseSource:
    """The poses of SOURCE. Raises: UserError."""
    if is_pose_source(options.source):
        size = options.image_size and (options.image_size[0], options.image_size[1])
        return open_poses(options.source, options.poses_rate or RATE, options.rate, size)
    finder = partial(make_finder, options.people, options.pose_model)
    return open_video(options.source, options.rate, finder)


def open_classifier(source: str, device: str) -> SLiMClassifier:
    """The classifier in `source`, in eval mode. Raises: UserError when it holds an encoder only."""
    checkpoint = read_checkpoint(source)
    if "num_classes" not in checkpoint.about.more:
        raise UserError(
            f"{source} holds an encoder without classes: fit them with slim-fast stream "
            "--save-classifier, or fine-tune it."
        )
    return SLiMClassifier.from_pretrained(checkpoint).to(choose_device(device)).eval()


def class_names(classifier: SLiMClassifier) -> tuple[str, ...]:
    """Its classes' names, or numbers."""
    return classifier.class_names or tuple(f"class {n}" for n in range(classifier.num_classes))


def open_outputs(
    options: Namespace, source: PoseSource, classes: Sequence[str], stack: ExitStack
) -> tuple[list[outputs.Sink], list[TextIO]]:
    """What takes the moments, and the files of JSON lines; all are closed by `stack`."""
    sinks, lines = [], []
    painter = partial(outputs.Painter, source.topology, classes, source.seconds)
    for path in options.out:
        if outputs.is_lines(path):
            sink, file = stack.enter_context(outputs.open_lines(path, classes))
            lines.append(file)
        else:
            sink = stack.enter_context(outputs.open_film(Path(path), painter(), options.rate))
        sinks.append(sink)
    if options.show:
        sinks.append(stack.enter_context(outputs.open_window(painter())))
    return sinks, lines


def format_segment(segment: dict[str, Any]) -> str:
    """A line of the timeline: from, to, who, what."""
    start, end = segment["segment"]
    who = "all" if segment["person"] is None else f"person {segment['person']}"
    what = segment["class"] or "nobody"
    return f"{start:>8.1f}{end:>8.1f} s  {who:<10}{what}, {segment['confidence']:.0%}"


if __name__ == "__main__":
    sys.exit(run_process(main))

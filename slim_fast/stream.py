"""python -m slim_fast.stream RUN --data CACHE: a recorded clip, streamed, as a film."""

import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jsonargparse import Namespace
from tqdm import tqdm

from slim_fast.command import CommandParser, run_command, run_process
from slim_fast.data.cache import ClipCache
from slim_fast.drawing.film import check_film, draw_film
from slim_fast.errors import UserError, program_name
from slim_fast.evaluation.probe import select_labelled_clips
from slim_fast.interop.checkpoints.probes import read_with_probe
from slim_fast.interop.checkpoints.read import read_checkpoint
from slim_fast.interop.classifier import SLiMClassifier
from slim_fast.interop.streaming import Prediction, Stream
from slim_fast.interop.streaming.window_head import fit_window_head
from slim_fast.interop.transfer import match_to_cache
from slim_fast.training.machine import choose_device

RATE = 30  # frames a second of a recording
MOST_CLIPS = 2000  # that a head is fitted to


def build_parser() -> CommandParser:
    """The command line."""
    parser = CommandParser(
        prog=program_name("stream"),
        description="Play a recorded clip to an encoder frame by frame, and draw its predictions "
        "as a film.",
    )
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="a run's, an encoder's or a classifier's folder"
    )
    parser.add_cache_options("cache with the clip")
    probe = "linear probe beside RUN that makes a classifier of it: best, or a classifier's name"
    parser.add_argument("--probe", type=str, metavar="NAME", help=probe)
    clip = "the clip; the first labelled test clip by default"
    parser.add_argument("--clip", type=str, metavar="NAME_OR_NUMBER", help=clip)
    parser.add_argument(
        "--out", type=Path, default=Path("stream.gif"), help="film to write, .gif or .mp4"
    )
    parser.add_argument(
        "--window", type=int, default=64, help="frames that a prediction looks back on"
    )
    parser.add_argument(
        "--every", type=int, default=8, help="frames from one prediction to the next"
    )
    parser.add_argument(
        "--save-classifier", type=Path, metavar="FOLDER", help="save the head that was fitted here"
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    return run_command(lambda: run(build_parser().parse(arguments)))


def run(options: Namespace) -> None:
    """What the command does. Raises: UserError for input that does not fit."""
    check_film(options.out)
    cache = ClipCache.open(options.data)
    if options.clip is None:
        number = int(select_labelled_clips(cache, options.split)[1][0])
    else:
        number = cache.find(options.clip)
    classifier = open_classifier(options, cache)
    played = play(Stream(classifier.optimize(), options.window, options.every), cache.clip(number))
    name, label = cache.names[number], int(cache.label[number])
    recorded = f", recorded as {cache.classes[label]}" if label >= 0 else ""
    shown = cache.clip(number), played.probabilities(len(cache.classes)), cache.classes
    caption = f"{name}{recorded}"
    bar = partial(tqdm, desc="draw", unit="frame", leave=False, disable=None)
    draw_film(*shown, cache.topology, options.out, cache.channels, caption, RATE, bar)
    print(f"{caption}:")
    for prediction in played.predictions:
        if (scores := prediction.probabilities) is not None:
            best = int(scores.argmax())
            print(f"{prediction.frame:>6}  {cache.classes[best]}, {scores[best]:.0%}")
    each = 1000 * played.seconds
    predicting = each[[p.frame - 1 for p in played.predictions]] if played.predictions else each
    print(
        f"{len(each)} frames, {len(played.predictions)} with a prediction: "
        f"{np.median(each):.3g} ms a frame in the median, {np.percentile(each, 95):.3g} ms at the "
        f"95th percentile, {np.median(predicting):.3g} ms with a prediction; "
        f"{played.seconds.sum() * RATE / len(each):.1%} of real time at {RATE} frames a second.\n"
        f"The film is in {options.out}."
    )


def open_classifier(options: Namespace, cache: ClipCache) -> SLiMClassifier:
    """The classifier in RUN, or its encoder with a head fitted to the split's training clips.

    Raises: UserError when it does not fit the cache.
    """
    device = choose_device(options.device)
    run, probe = options.run, options.probe
    checkpoint = read_with_probe(run, probe) if probe else read_checkpoint(run)
    trained = "num_classes" in checkpoint.about.more
    classifier = SLiMClassifier.from_pretrained(checkpoint, num_classes=None if trained else 0)
    classifier = match_to_cache(classifier.to(device), cache, options.match_joints)
    if trained:
        if options.save_classifier:
            raise UserError(f"{options.run} is a classifier already: leave --save-classifier out.")
        if classifier.num_classes != len(cache.classes):
            raise UserError(
                f"The classifier in {options.run} knows {classifier.num_classes} classes, but "
                f"{cache.path} has {len(cache.classes)}: give the cache it was trained for."
            )
        return classifier
    train, _ = select_labelled_clips(cache, options.split, MOST_CLIPS)
    bar = partial(tqdm, desc="fit a head", unit="clip", leave=False, disable=None)
    windows, decay = fit_window_head(classifier, cache, train, options.window, bar)
    print(
        f"{options.run} holds no classifier: one linear layer was fitted to its frozen features "
        f"of {windows} windows of {len(train)} training clips (weight decay {decay:g})."
    )
    if options.save_classifier:
        classifier.save_pretrained(options.save_classifier)
        print(f"It is saved in {options.save_classifier}.")
    return classifier


@dataclass(frozen=True)
class Played:
    """A clip that was streamed: predictions, and seconds each of its frames took, (T,)."""

    predictions: list[Prediction]
    seconds: np.ndarray

    def probabilities(self, classes: int) -> np.ndarray:
        """(T, classes) of the scene as known at each frame, NaN before the first prediction."""
        known = np.full((len(self.seconds), classes), np.nan)
        for prediction in self.predictions:
            now = prediction.probabilities
            known[prediction.frame - 1 :] = np.nan if now is None else now.cpu().numpy()
        return known


def play(stream: Stream, clip: np.ndarray) -> Played:
    """Stream clip (T, V, C, M) frame by frame, as fast as it goes."""
    frames = clip.transpose(0, 3, 1, 2)
    stream.push(frames[: stream.window])  # what is done only once, is not counted
    stream.reset()
    predictions, seconds = [], []
    for frame in tqdm(frames, desc="stream", unit="frame", leave=False, disable=None):
        began = time.perf_counter()
        predictions += stream.push(frame)
        if stream.model.pos_embed.is_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return Played(predictions, np.array(seconds))


if __name__ == "__main__":
    sys.exit(run_process(main))

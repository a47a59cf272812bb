"""python -m slim_fast.stream RUN --data CACHE: one recorded clip, frame by frame as from a camera, as a film."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from slim_fast.data.cache import ClipCache
from slim_fast.drawing.film import check_film, draw_film
from slim_fast.errors import UserError
from slim_fast.evaluation.probe import check_fit, labelled_split
from slim_fast.interop.checkpoint import read_checkpoint
from slim_fast.interop.classifier import SLiMClassifier
from slim_fast.interop.streaming import Answer, Stream
from slim_fast.interop.window_head import fit_window_head
from slim_fast.training.machine import choose_device

RATE = 30  # frames a second of a recording
MOST_CLIPS = 2000  # that a head is fitted to


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m slim_fast.stream",
        description="Play a recorded clip to an encoder frame by frame, and draw what it says as a film.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run's, an encoder's or a classifier's folder")
    parser.add_argument("--data", type=Path, required=True, metavar="CACHE", help="cache with the clip")
    parser.add_argument("--clip", metavar="NAME_OR_NUMBER", help="the clip (the first labelled test clip by default)")
    parser.add_argument("--split", help="split of the cache (its first by default)")
    parser.add_argument("--out", type=Path, default=Path("stream.gif"), help="film, .gif or .mp4 (default stream.gif)")
    parser.add_argument("--window", type=int, default=64, help="frames that an answer looks back on (default 64)")
    parser.add_argument("--every", type=int, default=8, help="frames from one answer to the next (default 8)")
    parser.add_argument("--save-classifier", type=Path, metavar="FOLDER", help="keep the head that was fitted")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto (default)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    options = build_parser().parse_args(arguments)
    try:
        run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    return 0


def run(options: argparse.Namespace) -> None:
    """What the command does. Raises: UserError for input that does not fit."""
    check_film(options.out)
    cache = ClipCache.open(options.data)
    number = find_clip(cache, options.clip, options.split)
    classifier = open_classifier(options, cache)
    played = play(Stream(classifier.optimize(), options.window, options.every), cache.clip(number))
    name, label = cache.names[number], int(cache.label[number])
    true = f", recorded as {cache.classes[label]}" if label >= 0 else ""
    draw_film(
        cache.clip(number),
        played.probabilities(len(cache.classes)),
        cache.classes,
        cache.topology,
        options.out,
        cache.channels,
        f"{name}{true}",
        RATE,
        lambda frames: tqdm(frames, desc="draw", unit="frame", leave=False, disable=None),
    )
    print(f"{name}{true}:")
    for answer in played.answers:
        if answer.probabilities is not None:
            best = int(answer.probabilities.argmax())
            print(f"{answer.frame:>6}  {cache.classes[best]}, {answer.probabilities[best]:.0%}")
    each = 1000 * played.seconds
    answering = each[[answer.frame - 1 for answer in played.answers]] if played.answers else each
    print(
        f"{len(each)} frames, {len(played.answers)} with an answer: {np.median(each):.3g} ms a frame in the median, "
        f"{np.percentile(each, 95):.3g} ms at the 95th percentile, {np.median(answering):.3g} ms with an answer; "
        f"{played.seconds.sum() * RATE / len(each):.1%} of real time at {RATE} frames a second.\n"
        f"The film is in {options.out}."
    )


def find_clip(cache: ClipCache, wanted: str | None, split: str | None) -> int:
    """The clip of that name or number. Raises: UserError when there is none."""
    if wanted is None:
        return int(labelled_split(cache, split)[1][0])
    named = np.flatnonzero(cache.names == wanted)
    if len(named):
        return int(named[0])
    if not wanted.isdecimal() or int(wanted) >= len(cache):
        raise UserError(f"{cache.path} has no clip {wanted!r}: give a name, or a number below {len(cache)}.")
    return int(wanted)


def open_classifier(options: argparse.Namespace, cache: ClipCache) -> SLiMClassifier:
    """The classifier in RUN, or its encoder with a head fitted to the split's training clips.

    Raises: UserError when it does not fit the cache.
    """
    device = choose_device(options.device)
    trained = "num_classes" in read_checkpoint(options.run).about.more
    classifier = SLiMClassifier.from_pretrained(options.run).to(device)
    check_fit(cache, classifier)
    if trained:
        if options.save_classifier:
            raise UserError(f"{options.run} is a classifier already: leave --save-classifier out.")
        if classifier.num_classes != len(cache.classes):
            raise UserError(
                f"The classifier in {options.run} knows {classifier.num_classes} classes, but {cache.path} has "
                f"{len(cache.classes)}: give the cache it was trained for."
            )
        return classifier
    train, _ = labelled_split(cache, options.split, MOST_CLIPS)
    windows, decay = fit_window_head(
        classifier,
        cache,
        train,
        options.window,
        lambda clips: tqdm(clips, desc="fit a head", unit="clip", leave=False, disable=None),
    )
    print(
        f"{options.run} holds no classifier: one linear layer was fitted to its frozen features of {windows} windows "
        f"of {len(train)} training clips (weight decay {decay:g})."
    )
    if options.save_classifier:
        classifier.save_pretrained(options.save_classifier)
        print(f"It is saved in {options.save_classifier}.")
    return classifier


@dataclass(frozen=True)
class Played:
    """A clip that was streamed: the answers, and seconds each of its frames took, (T,)."""

    answers: list[Answer]
    seconds: np.ndarray

    def probabilities(self, classes: int) -> np.ndarray:
        """(T, classes) of the scene as known at each frame, NaN before the first answer."""
        known = np.full((len(self.seconds), classes), np.nan)
        for answer in self.answers:
            now = answer.probabilities
            known[answer.frame - 1 :] = np.nan if now is None else now.cpu().numpy()
        return known


def play(stream: Stream, clip: np.ndarray) -> Played:
    """Stream clip (T, V, C, M) frame by frame, as fast as it goes."""
    frames = clip.transpose(0, 3, 1, 2)
    stream.push(frames[: stream.window])  # what is done only once, is not counted
    stream.reset()
    answers, seconds = [], []
    for frame in tqdm(frames, desc="stream", unit="frame", leave=False, disable=None):
        began = time.perf_counter()
        answers += stream.push(frame)
        if stream.model.pos_embed.is_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return Played(answers, np.array(seconds))


if __name__ == "__main__":
    sys.exit(main())

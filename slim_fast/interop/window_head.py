"""A linear head for streams: fitted to what a stream sees, windows of neighbouring frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch

from slim_fast.data.cache import ClipCache
from slim_fast.errors import UserError
from slim_fast.evaluation.linear import linear_head
from slim_fast.evaluation.probe import check_fit, held_out_rows
from slim_fast.interop.classifier import SLiMClassifier
from slim_fast.interop.streaming import Stream


def fit_window_head(
    classifier: SLiMClassifier,
    cache: ClipCache,
    clips: np.ndarray,
    window: int = 64,
    progress: Callable[[Sequence[int]], Iterable[int]] = lambda steps: steps,
) -> tuple[int, float]:
    """Replace the head by one for the cache's classes: multinomial logistic regression on the frozen features of
    windows that end every half window of the labelled `clips` (N,).

    Evaluation clips, 64 frames spread over a whole recording, show movements at another speed than a stream's windows
    do. Returns how many windows there were and the weight decay.
    Raises: UserError when the classifier does not fit the cache, or when no clip is half a window long.
    """
    check_fit(cache, classifier)
    classifier.reset_classifier(0)
    stream = Stream(classifier.optimize(), window, every=max(1, window // 2))
    features, of = [], []
    for row in progress(range(len(clips))):
        stream.reset()
        for answer in stream.push(cache.clip(clips[row]).transpose(0, 3, 1, 2)):
            if answer.logits is not None:
                features.append(answer.logits.cpu())
                of.append(row)
    if not features:
        raise UserError(f"No training clip of {cache.path} is {window // 2} frames long: choose a shorter window.")
    labels = torch.from_numpy(np.asarray(cache.label[clips[of]], dtype=np.int64))
    held_out = held_out_rows(cache, clips)[of]
    weight, bias, decay = linear_head(torch.stack(features), labels, held_out, len(cache.classes))
    classifier.reset_classifier(len(cache.classes))
    classifier.head.load_state_dict({"weight": weight, "bias": bias})
    classifier.name_classes(cache.classes)
    return len(features), decay

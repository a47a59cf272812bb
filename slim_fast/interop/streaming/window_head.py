"""A linear head for streams, fitted to windows of consecutive frames."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch

from slim_fast.data.cache import ClipCache
from slim_fast.errors import UserError
from slim_fast.evaluation.linear import fit_linear_head
from slim_fast.evaluation.probe import check_encoder_fits, select_held_out
from slim_fast.interop.classifier import SLiMClassifier
from slim_fast.interop.streaming import Stream


def fit_window_head(
    classifier: SLiMClassifier,
    cache: ClipCache,
    clips: np.ndarray,
    window: int = 64,
    progress: Callable[[Sequence[int]], Iterable[int]] = lambda steps: steps,
) -> tuple[int, float]:
    """Fit a head for the cache's classes to frozen features of windows, and set it.

    By multinomial logistic regression; windows of `clips` (N,), labelled, end every half window.
    Evaluation clips, 64 frames sampled from a whole recording, show movements at another speed than
    a stream's windows. Returns the number of windows and the weight decay.
    Raises: UserError when the classifier does not fit the cache, or when no clip is half a window
    long.
    """
    check_encoder_fits(cache, classifier)
    classifier.reset_classifier(0)
    stream = Stream(classifier.optimize(), window, every=max(1, window // 2))
    features, rows = [], []
    for row in progress(range(len(clips))):
        stream.reset()
        for prediction in stream.push(cache.clip(clips[row]).transpose(0, 3, 1, 2)):
            if prediction.logits is not None:
                features.append(prediction.logits.cpu())
                rows.append(row)
    if not features:
        raise UserError(
            f"No training clip of {cache.path} is {window // 2} frames long: choose a shorter "
            "window."
        )
    labels = torch.from_numpy(np.asarray(cache.label[clips[rows]], dtype=np.int64))
    held_out = select_held_out(cache, clips)[rows]
    weight, bias, decay = fit_linear_head(
        torch.stack(features), labels, held_out, len(cache.classes)
    )
    classifier.reset_classifier(len(cache.classes))
    classifier.head.load_state_dict({"weight": weight, "bias": bias})
    classifier.name_classes(cache.classes)
    return len(features), decay

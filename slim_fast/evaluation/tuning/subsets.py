"""A share of the labels: the clips of a semi-supervised protocol."""

import numpy as np

from slim_fast.errors import UserError


def draw_subset(labels: np.ndarray, fraction: float, balanced: bool, seed: int) -> np.ndarray:
    """Numbers, ascending, of the clips whose labels int64 (N,) may be used.

    balanced: the share of every class, rounded, and at least one clip of each (the paper). Else of
    all clips together, so that a class may be left without a clip (MAMP).
    Raises: UserError unless 0 < fraction <= 1.
    """
    if not 0 < fraction <= 1:
        raise UserError(f"A share of {fraction} of the labels: give one above 0, at most 1.")
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(labels))
    if not balanced:
        return np.sort(order[: max(1, round(fraction * len(labels)))])
    chosen = []
    for label in np.unique(labels):
        own = order[labels[order] == label]
        chosen.append(own[: max(1, round(fraction * len(own)))])
    return np.sort(np.concatenate(chosen))

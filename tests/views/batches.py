"""Plain views of made-up clips."""

import numpy as np
import torch
from torch import Tensor

from slim_fast.views.augment import AugmentConfig
from slim_fast.views.pipeline import ViewBatch, ViewSampler, ViewsConfig

STILL = AugmentConfig(
    mirror=0.0, scale=0.0, rotate=0.0, noise_probability=(0.0, 0.0, 0.0), flatten=0.0
)


PLAIN = ViewsConfig(augment=STILL)


def numbered(frames: int, people: int = 1) -> np.ndarray:
    """A clip whose coordinates are 1 + 1000 × person + frame number, everywhere. After centring:
    the frame number.
    """
    code = 1 + 1000 * np.arange(people) + np.arange(frames)[:, None]
    return np.broadcast_to(code[:, None, None, :], (frames, 25, 3, people)).astype(np.float32)


def sample(
    store, config: ViewsConfig = PLAIN, step: int = 0, seed: int = 0, clips: Tensor | None = None
) -> ViewBatch:
    return ViewSampler(store, config, seed)(
        torch.arange(len(store)) if clips is None else clips, step
    )

"""Clips for training a classifier: a random crop in time, and the skeleton-aware augmentations."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from slim_fast.data.cache import ClipCache
from slim_fast.evaluation.clips import gather_clips
from slim_fast.evaluation.features import PEOPLE
from slim_fast.model.encoder import EncoderConfig
from slim_fast.views.augment import AugmentConfig, SkeletonAugmenter
from slim_fast.views.frames import crop, window_positions
from slim_fast.views.random_stream import RandomStream
from slim_fast.views.undetected import detected_joints, fill_undetected

_CROP, _WINDOW, _AUGMENT = range(3)
PUBLISHED = AugmentConfig(turn=np.pi)
"""The augmentations of pre-training with any turn about the vertical (recipe, section 3)."""
# A mirrored "swipe left" is a "swipe right": sides and facing may be what tells classes apart.
CAREFUL = AugmentConfig(mirror=0.0)
AUGMENTATIONS = {"careful": CAREFUL, "published": PUBLISHED}


@dataclass
class AugmentedClips:
    """Draws training clips as a pure function of (seed, step, clip numbers).

    interval: share of a clip's frames that is cropped. All people of a clip are moved alike.
    """

    cache: ClipCache
    config: AugmentConfig
    seed: int
    people: int = PEOPLE
    window: int = EncoderConfig.window
    interval: tuple[float, float] = (0.5, 1.0)
    _augment: SkeletonAugmenter = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._augment = SkeletonAugmenter(self.cache.topology, self.cache.channels, self.config)

    def __call__(self, clips: np.ndarray, step: int) -> Tensor:
        """(N, M, window, V, C) float32 of clips (N,); undetected joints and absent people are 0."""
        stream = RandomStream.of(self.seed, step, torch.from_numpy(np.asarray(clips)))
        length = torch.from_numpy(np.asarray(self.cache.length)[clips])
        start, cropped = crop(length, self.window, self.interval, stream.fold_in(_CROP))
        position = window_positions(cropped, self.window, stream.fold_in(_WINDOW))
        views = gather_clips(self.cache, clips, start[:, None] + position, self.people)
        detected = detected_joints(views, self._augment.dims)
        # the same draw for every person, so that they keep facing each other
        each = RandomStream(stream.fold_in(_AUGMENT).keys[:, None].expand(-1, views.shape[1]))
        if not detected.all():
            views = fill_undetected(views, detected, self.cache.topology)
        return self._augment(views, each) * self._augment.mirrored(detected, each)[..., None]

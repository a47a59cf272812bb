"""Streams: features and class scores of the last frames of a live pose source, every few frames."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from slim_fast.data.clips import count_coordinates
from slim_fast.errors import UserError
from slim_fast.interop.classifier import SLiMClassifier
from slim_fast.interop.encoder import SLiMEncoder
from slim_fast.skeletons import Topology
from slim_fast.views.prepare import centre_on
from slim_fast.views.undetected import detected_joints, find_origin

Ids = Sequence[Hashable] | Tensor | np.ndarray | None


@dataclass(frozen=True, eq=False)
class Prediction:
    """The model's output for the window that ends with frame number `frame` (counted from 1).

    features: person -> (2 D,), CLS and mean patch, in the order in which people appeared, without
    people of whom the window holds no whole token yet.
    logits: (classes,) of the scene, people pooled as the classifier does; None from an encoder, or
    without people.
    person_logits: person -> (classes,), of each person alone.
    """

    frame: int
    features: dict[Hashable, Tensor] = field(default_factory=dict)
    logits: Tensor | None = None
    person_logits: dict[Hashable, Tensor] = field(default_factory=dict)

    @property
    def probabilities(self) -> Tensor | None:
        """(classes,) of the scene."""
        return None if self.logits is None else self.logits.softmax(-1)

    @property
    def person_probabilities(self) -> dict[Hashable, Tensor]:
        """Person -> (classes,)."""
        return {name: logits.softmax(-1) for name, logits in self.person_logits.items()}


@dataclass
class _Person:
    frames: Tensor
    """(window, V, C), frame n in row n % window."""
    first_frame: int
    last_frame: int
    """The last frame in which they were present."""


class Stream:
    """Takes frames as they arrive, and every `every` frames predicts from the last `window`.

    A prediction is the model's output for the clip cut from the whole recording: of each person the
    newest whole tokens (8 frames) since they appeared, at most `window` frames, zeros where they
    were absent or a joint was not detected, the first person centred as in evaluation
    (`slim_fast.views.undetected.find_origin`). People of different lengths go through one packed
    pass. Each window is computed anew: every token attends to every other, and the embedding, which
    alone could be cached, is about a hundredth of the pass.

    Args:
        model: in eval mode; its `optimize()` copy is the fastest. Outputs are on its device.
        window: frames, a multiple of the model's config.patch_frames.
        every: frames between predictions.
        patience: frames of absence after which a person is forgotten, and new when they return.
        centre: joint at the origin; by default the topology's.

    Raises: UserError for a setting that cannot work.
    """

    def __init__(
        self,
        model: SLiMEncoder | SLiMClassifier,
        window: int = 64,
        every: int = 8,
        patience: int = 30,
        centre: int | None = None,
    ) -> None:
        if window < 1 or window % model.config.patch_frames:
            raise UserError(
                f"Stream: window={window} must be a multiple of the model's "
                f"{model.config.patch_frames} frames."
            )
        for name, value in (("every", every), ("patience", patience)):
            if value < 1:
                raise UserError(f"Stream: {name}={value} must be at least 1 frame.")
        if centre is None:
            if not isinstance(model.topology, Topology):
                raise UserError(
                    f"Stream: which of the model's {model.joints} joints is the centre is not "
                    "known: pass centre."
                )
            centre = model.topology.centre
        if not 0 <= centre < model.joints:
            raise UserError(
                f"Stream: centre={centre}, but joints are numbered 0 to {model.joints - 1}."
            )
        if model.training:
            raise UserError("Stream: the model is in training mode: call model.eval() first.")
        self.model, self.window, self.every = model, window, every
        self.patience, self.centre = patience, centre
        self._coordinates = count_coordinates(model.channel_names)
        self.reset()

    def reset(self) -> None:
        """Forget all people and count frames from the start."""
        self._people: dict[Hashable, _Person] = {}
        self._frame = 0

    @property
    def people(self) -> tuple[Hashable, ...]:
        """People who are not forgotten, in the order in which they appeared."""
        return tuple(self._people)

    @torch.no_grad()
    def push(self, frames: Tensor | np.ndarray, ids: Ids = None) -> list[Prediction]:
        """Add frames; returns the predictions that are due, oldest first.

        They are empty where no person has a whole token. A joint is undetected when all its
        coordinates are zero, a number is not finite, or its confidence is 0. A person without a
        detected joint, or who is not listed, is absent in that frame.

        Args:
            frames: (M, V, C), one frame of M people, or (F, M, V, C), several; coordinates before
                centring. They are copied.
            ids: a tracker's M different ids, in any order. Numbers are compared by value, whether
                of Python, numpy or tensors; None: 0 .. M - 1.

        Raises: UserError for frames of another shape, ids that do not fit, and an id None or NaN of
        a person who is present; the stream is then unchanged.
        """
        chunk, present = self._clean(frames)
        names = self._check_ids(ids, present.any(0).tolist())
        predictions = []
        for people, is_present in zip(chunk, present.tolist(), strict=True):
            self._store(
                {name: x for name, x, here in zip(names, people, is_present, strict=True) if here}
            )
            if self._frame % self.every == 0:
                predictions.append(self._predict())
        return predictions

    def _clean(self, frames: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
        """Float32 frames (F, M, V, C), undetected joints zero, and (F, M) bool, who is present."""
        try:
            chunk = torch.as_tensor(frames, dtype=torch.float32, device="cpu")
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"Stream: frames must be an array of numbers ({error}).") from error
        chunk = chunk[None] if chunk.dim() == 3 else chunk
        joints, channels = self.model.joints, self.model.channels
        if chunk.dim() != 4 or chunk.shape[2:] != (joints, channels):
            raise UserError(
                f"Stream: frames must be (M people, {joints} joints, {channels} channels) or (F, "
                f"M, {joints}, {channels}); got {tuple(np.shape(frames))}."
            )
        detected = chunk.isfinite().all(-1) & detected_joints(chunk, self._coordinates)  # (F, M, V)
        if self._coordinates < channels:
            detected &= chunk[..., -1] > 0
        return torch.where(detected[..., None], chunk, 0), detected.any(-1)

    @staticmethod
    def _check_ids(ids: Ids, present: Sequence[bool]) -> list[Hashable]:
        try:
            names: list[Hashable] = (
                list(range(len(present))) if ids is None else list(map(_to_hashable, ids))
            )
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"Stream: ids must be one number or string for each person ({error})."
            ) from error
        if len(names) != len(present):
            raise UserError(
                f"Stream: {len(names)} ids for {len(present)} people: give one for each."
            )
        for index, name in enumerate(names):
            if name is None or name != name:
                if present[index]:
                    raise UserError(
                        f"Stream: the id of person {index} is {name}: leave people whom the "
                        "tracker has not named out of the frame, or name them yourself."
                    )
                names[index] = object()  # an absent person
        try:
            repeated = [name for name, count in Counter(names).items() if count > 1]
        except TypeError as error:
            raise UserError(
                f"Stream: ids must be hashable, as numbers and strings are ({error})."
            ) from error
        if repeated:
            raise UserError(f"Stream: the id {repeated[0]!r} names two people in one frame.")
        return names

    def _store(self, present: dict[Hashable, Tensor]) -> None:
        """Add one frame of the people present, and forget those absent for too long."""
        now, row = self._frame, self._frame % self.window
        for name, joints in present.items():
            if name not in self._people:
                self._people[name] = _Person(joints.new_zeros(self.window, *joints.shape), now, now)
            self._people[name].last_frame = now
        for name, person in list(self._people.items()):
            if now - person.last_frame >= self.patience:
                del self._people[name]
            else:
                person.frames[row] = present.get(name, 0)
        self._frame += 1

    def _clips(self) -> dict[Hashable, Tensor]:
        """Person -> centred clip (T, V, C), T a multiple of patch_frames, of people seen in it."""
        clips = {}
        for name, person in self._people.items():
            frames = min(self.window, self._frame - person.first_frame)
            patch = self.model.config.patch_frames
            rows = torch.arange(self._frame - frames // patch * patch, self._frame)
            clip = person.frames[rows % self.window]
            if clip.any():
                clips[name] = clip
        if not clips:
            return clips
        centre = find_origin(next(iter(clips.values())), self.centre, self._coordinates)
        return {name: centre_on(clip, centre, self._coordinates) for name, clip in clips.items()}

    def _predict(self) -> Prediction:
        """The model's output for the current window."""
        clips, model = self._clips(), self.model
        if not clips:
            return Prediction(self._frame)
        device = model.pos_embed.device
        # People who appeared earlier have at least as many frames: groups keep their order.
        groups: dict[int, list[Tensor]] = {}
        for clip in clips.values():
            groups.setdefault(len(clip), []).append(clip)
        x = [rearrange(group, "m t v c -> 1 c t v m").to(device) for group in groups.values()]
        present = torch.ones(1, len(clips), dtype=torch.bool, device=device)
        out = model.forward_features(
            x, None, present.split([len(group) for group in groups.values()], 1)
        )
        tokens = {
            name: torch.cat([group[name] for group in out])  # (M, D), (M, cls_blocks, D)
            for name in ("x_norm_clstoken", "x_norm_clstokens")
            if name in out[0]
        }
        mean = torch.cat([group["x_norm_patchtokens"].mean(1) for group in out])
        both = torch.cat([tokens["x_norm_clstoken"], mean], 1)
        features = dict(zip(clips, both, strict=True))
        if not isinstance(model, SLiMClassifier):
            return Prediction(self._frame, features)
        # One scene of all people, then each person as a scene.
        scene, own = (
            model.forward_head(
                {**tokens, "x_norm_patchtokens": mean[:, None], "people": people}
            ).float()
            for people in (present, present.t())
        )
        return Prediction(self._frame, features, scene[0], dict(zip(clips, own, strict=True)))


def _to_hashable(name: Any) -> Hashable:
    """An id as a Python number or string; tensors and arrays would be hashed by identity."""
    return name.item() if isinstance(name, Tensor | np.ndarray | np.generic) else name

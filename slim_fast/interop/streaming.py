"""Features and class scores of a live pose source: the last frames are kept, and answered for every few frames."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from slim_fast.data.clips import coordinate_count
from slim_fast.errors import UserError
from slim_fast.interop.classifier import SLiMClassifier
from slim_fast.interop.encoder import SLiMEncoder
from slim_fast.skeletons import Topology


@dataclass(frozen=True, eq=False)
class Answer:
    """What the window that ends with frame number `frame` (counted from 1) says.

    features: person -> (2 D,), CLS and mean patch, in the order in which people came; without those of whom the window
    holds no whole token yet.
    logits: (classes,) of the scene, its people pooled as the classifier pools; None from an encoder, or of nobody.
    person_logits: person -> (classes,), as if nobody else were there.
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
    came: int
    """Their first frame."""
    seen: int
    """The last frame in which they were there."""


class Stream:
    """Takes frames as they come and answers every `every` frames for the last `window`.

    An answer is what the model says of the clip cut from the whole recording: of each person the newest whole tokens
    (8 frames) since they came, at most `window` frames, zeros where they were absent, the centre joint of the first
    person's first frame at the origin. People of different lengths go through one packed pass. All of a window is
    computed anew, because every token attends to every other, and the embedding, which alone could be kept, is
    about a hundredth of the pass.

    Args:
        model: in eval mode; its `optimize()` copy is the fastest. Answers lie on its device.
        window: frames, a multiple of the model's patch_size.
        every: frames from one answer to the next.
        patience: frames of absence after which a person is forgotten; who comes back later is new.
        centre: joint that is put at the origin; by default the topology's.

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
        if window < 1 or window % model.patch_size:
            raise UserError(f"Stream: window={window} must be a multiple of the model's {model.patch_size} frames.")
        for name, value in (("every", every), ("patience", patience)):
            if value < 1:
                raise UserError(f"Stream: {name}={value} must be at least 1 frame.")
        if centre is None and not isinstance(model.topology, Topology):
            raise UserError(
                f"Stream: which of the model's {model.joints} joints is the centre is not known: pass centre."
            )
        centre = model.topology.centre if centre is None and isinstance(model.topology, Topology) else centre
        if centre is None or not 0 <= centre < model.joints:
            raise UserError(f"Stream: centre={centre}, but joints are numbered 0 to {model.joints - 1}.")
        if model.training:
            raise UserError("Stream: the model is in training mode: call model.eval() first.")
        self.model, self.window, self.every, self.patience, self.centre = model, window, every, patience, centre
        self._coordinates = coordinate_count(model.channel_names)
        self.reset()

    def reset(self) -> None:
        """Forget everybody and count frames from the start."""
        self._people: dict[Hashable, _Person] = {}
        self._frame = 0

    @property
    def people(self) -> tuple[Hashable, ...]:
        """Who is known, in the order in which they came."""
        return tuple(self._people)

    @torch.no_grad()
    def push(self, frames: Tensor | np.ndarray, ids: Sequence[Hashable] | None = None) -> list[Answer]:
        """The answers that have become due, oldest first; one to which nobody has a whole token is empty.

        frames: (M, V, C) one frame of M people, or (F, M, V, C) several, as the model's clips are before centring;
        they are copied. ids: M names of the people, all different, in any order (a tracker's); None: 0 .. M - 1. With
        all coordinates zero, or a number that is not finite, a person is absent in that frame; so are those not named.
        Raises: UserError for frames of another shape and for ids that do not fit; nothing is taken then.
        """
        chunk, present = self._cleaned(frames)
        names = self._names(ids, chunk.shape[1])
        answers = []
        for people, there in zip(chunk, present.tolist(), strict=True):
            self._keep({name: x for name, x, here in zip(names, people, there, strict=True) if here})
            if self._frame % self.every == 0:
                answers.append(self._answer())
        return answers

    def _cleaned(self, frames: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
        """(F, M, V, C) float32 on the host, absent people zeros, and (F, M) bool, who is present."""
        try:
            chunk = torch.as_tensor(frames, dtype=torch.float32, device="cpu")
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"Stream: frames must be an array of numbers ({error}).") from error
        chunk = chunk[None] if chunk.dim() == 3 else chunk
        joints, channels = self.model.joints, self.model.channels
        if chunk.dim() != 4 or chunk.shape[2:] != (joints, channels):
            raise UserError(
                f"Stream: frames must be (M people, {joints} joints, {channels} channels) or (F, M, {joints}, "
                f"{channels}); got {tuple(np.shape(frames))}."
            )
        present = chunk.isfinite().flatten(2).all(2) & (chunk[..., : self._coordinates] != 0).flatten(2).any(2)
        return torch.where(present[..., None, None], chunk, 0), present

    @staticmethod
    def _names(ids: Sequence[Hashable] | None, people: int) -> list[Hashable]:
        names: list[Hashable] = list(range(people)) if ids is None else list(ids)
        if len(names) != people:
            raise UserError(f"Stream: {len(names)} ids for {people} people: give one for each.")
        try:
            twice = [name for name in names if names.count(name) > 1] if len(set(names)) < len(names) else []
        except TypeError as error:
            raise UserError(f"Stream: ids must be hashable, as numbers and strings are ({error}).") from error
        if twice:
            raise UserError(f"Stream: the id {twice[0]!r} names two people in one frame.")
        return names

    def _keep(self, present: dict[Hashable, Tensor]) -> None:
        now, row = self._frame, self._frame % self.window
        for name, joints in present.items():
            if name not in self._people:
                self._people[name] = _Person(joints.new_zeros(self.window, *joints.shape), now, now)
            self._people[name].seen = now
        for name, person in list(self._people.items()):
            if now - person.seen >= self.patience:
                del self._people[name]
            else:
                person.frames[row] = present.get(name, 0)
        self._frame += 1

    def _clips(self) -> dict[Hashable, Tensor]:
        """Person -> (T, V, C), T a multiple of patch_size, for whom a frame of theirs is in it; centred."""
        clips = {}
        for name, person in self._people.items():
            frames = min(self.window, self._frame - person.came)
            rows = torch.arange(self._frame - frames // self.model.patch_size * self.model.patch_size, self._frame)
            clip = person.frames[rows % self.window]
            if clip.any():
                clips[name] = clip
        if not clips:
            return clips
        there = {name: clip[..., : self._coordinates].flatten(1).any(1) for name, clip in clips.items()}
        first = next(iter(clips))
        origin = clips[first][there[first].int().argmax(), self.centre].clone()
        origin[self._coordinates :] = 0
        return {name: (clip - origin) * there[name][:, None, None] for name, clip in clips.items()}

    def _answer(self) -> Answer:
        clips, model = self._clips(), self.model
        if not clips:
            return Answer(self._frame)
        device = model.pos_embed.device
        groups: dict[int, list[Tensor]] = {}  # who came earlier has no fewer frames: groups keep the people's order
        for clip in clips.values():
            groups.setdefault(len(clip), []).append(clip)
        x = [torch.stack(group, -1).permute(2, 0, 1, 3)[None].to(device) for group in groups.values()]
        everybody = torch.ones(1, len(clips), dtype=torch.bool, device=device)
        out = model.forward_features(x, None, everybody.split([len(group) for group in groups.values()], 1))
        cls = torch.cat([group["x_norm_clstoken"] for group in out])  # (M, D)
        mean = torch.cat([group["x_norm_patchtokens"].mean(1) for group in out])
        features = dict(zip(clips, torch.cat([cls, mean], 1), strict=True))
        if not isinstance(model, SLiMClassifier):
            return Answer(self._frame, features)
        # One scene of all, then everybody as a scene of their own.
        scene, own = (
            model.forward_head({"x_norm_clstoken": cls, "x_norm_patchtokens": mean[:, None], "people": people}).float()
            for people in (everybody, everybody.t())
        )
        return Answer(self._frame, features, scene[0], dict(zip(clips, own, strict=True)))

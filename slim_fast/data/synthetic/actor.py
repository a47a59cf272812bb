"""One person performing: when things happen, and the vocabulary actions are written in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slim_fast.data.synthetic.bodies import RIGHT, Array, Body, Random
from slim_fast.data.synthetic.kinematics import Controls

SIDES = (0, 1)


@dataclass(frozen=True)
class Timing:
    """When an action happens within a clip of `frames` frames: from `start` to `stop`, in frames."""

    frames: int
    start: float
    stop: float

    @property
    def seconds(self) -> float:
        return (self.stop - self.start) / FRAME_RATE


FRAME_RATE = 30.0


class Actor:
    """A body with its controls, a stream of random numbers and the time it has.

    Attributes:
        near: the side of the hand (and foot) this person acts with; `far` is the other.
        toward: +1 when `near` is right, -1 when it is left: turns and tilts towards the acting side.
        partner: the other person of a mutual action.
    """

    def __init__(self, body: Body, timing: Timing, random: Random) -> None:
        self.body, self.timing, self.random = body, timing, random
        self.controls = Controls.standing(timing.frames, body)
        self.near = int(random.random() < body.right_handed)
        self.far = 1 - self.near
        self.toward = 1 if self.near == RIGHT else -1
        self.partner = body
        self.phase = (np.arange(timing.frames) - timing.start) / (timing.stop - timing.start)
        self._rest()

    def keys(self, times: Sequence[float], values: Sequence[float] | Sequence[Sequence[float]]) -> Array:
        """A smooth course through key values, (T,) or (T, K): every key is reached, and left, at rest.

        `times` are fractions of the action's time, rising; those in between are moved a little at random.
        """
        at, points = np.array(times, float), np.array(values, float)
        gaps = np.diff(at)
        at[1:-1] += self.random.uniform(-0.3, 0.3, len(at) - 2) * np.minimum(gaps[:-1], gaps[1:])
        course = np.clip(np.interp(self.phase, at, np.arange(len(at))), 0, len(at) - 1)
        before = np.minimum(course.astype(int), len(at) - 2)
        share = smooth(course - before)
        share = share if points.ndim == 1 else share[:, None]
        return points[before] + share * (points[before + 1] - points[before])

    def pulse(self, rise: float = 0.3, fall: float = 0.7) -> Array:
        """0 at first, 1 between the fractions `rise` and `fall` of the action, 0 at last: (T,)."""
        return self.keys((0, rise, fall, 1), (0, 1, 1, 0))

    def swing(self, hertz: float) -> Array:
        """An oscillation at about so many cycles a second in this person's tempo: (T,) within [-1, 1]."""
        cycles = hertz * self.body.tempo * self.random.uniform(0.85, 1.2) * self.timing.seconds
        return np.sin(2 * np.pi * (cycles * self.phase + self.random.uniform()))

    def drift(self, scale: float, *shape: int) -> Array:
        """Slow, smooth wandering with standard deviation `scale`: (T, *shape)."""
        seconds = np.arange(self.timing.frames) / FRAME_RATE
        return scale * wander(seconds, self.random, *shape)

    def vary(self, scale: float = 0.15) -> float:
        """A factor about 1: how large this gesture is done this time by this person."""
        return float(self.body.amplitude * self.random.uniform(1 - scale, 1 + scale))

    def reach(self, side: int, target: Sequence[float], weight: Array, loose: float = 1.0) -> None:
        """Bring a wrist to a target (outwards, up, forward from the shoulder, arm lengths) as `weight` goes to 1.

        `loose` scales how far this person, this time, misses the target.
        """
        miss = loose * (self.body.reach + self.random.normal(0, 0.05, 3))
        wrist = self.controls.wrists[:, side]
        wrist += weight[:, None] * (np.array(target) + miss - wrist)
        # Hands travel on arcs, not on chords.
        wrist[:, 2] += self.random.uniform(0, 0.35) * weight * (1 - weight)
        wrist[:, 0] += self.random.uniform(-0.05, 0.25) * weight * (1 - weight)

    def step(self, distance: float, begin: float, end: float, steps: int = 3) -> None:
        """Walk forward (or, below zero, backward) between two fractions of the action, feet planted between steps."""
        travel = smooth((self.phase - begin) / (end - begin))
        self.controls.ground[:, 1] += distance * travel
        first = self.random.integers(2)
        placed, place = np.zeros((2, self.timing.frames)), [0.0, 0.0]
        for i in range(steps):
            foot, there = (first + i) % 2, distance * min(1.0, (i + 1) / (steps - 1))
            moving = smooth(steps * travel - i)
            placed[foot] += moving * (there - place[foot])
            place[foot] = there
            self.controls.feet[:, foot, 1] += 0.12 * np.sin(np.pi * moving)
            self.controls.toes[:, foot] += 0.3 * np.sin(np.pi * moving)
        for foot in SIDES:
            self.controls.feet[:, foot, 2] += (placed[foot] - distance * travel) / self.body.leg

    def shuffle(self, turning: Array) -> None:
        """Lift one foot after the other while the body turns, as `turning` (T,) goes from 0 to 1."""
        for foot, early in zip(SIDES, self.random.permutation([0.0, 0.5]), strict=True):
            self.controls.feet[:, foot, 1] += 0.08 * np.sin(np.pi * smooth(2 * turning - 2 * early))

    def sit(self, down: Array) -> None:
        """Lower the pelvis onto a chair behind, as far as `down` (T,) is 1."""
        self.controls.pelvis[:, 1] -= self.random.uniform(0.40, 0.52) * down
        self.controls.pelvis[:, 2] -= self.random.uniform(0.40, 0.48) * down
        self.controls.feet[:, :, 2] -= np.multiply.outer(down, self.random.uniform(-0.2, 0.1, 2))

    def level(self, height: float) -> float:
        """The height both partners mean, so many arm lengths above their shoulders' mean, seen from my shoulder."""
        own, other = self.body, self.partner
        meeting = (own.shoulder_height + other.shoulder_height) / 2 + height * (own.arm + other.arm) / 2
        return (meeting - own.shoulder_height) / own.arm

    def _rest(self) -> None:
        """What nobody asked for: swaying, and arms that hang, rest on a hip or are held in front."""
        controls, random = self.controls, self.random
        controls.pelvis += self.drift(0.015, 3) * (1, 0.3, 1)
        controls.spine += self.drift(0.03, 3) + random.normal(0, 0.03, 3)
        controls.head += self.drift(0.07, 3) + random.normal(0, (0.15, 0.08, 0.05))
        controls.wrists += self.drift(0.02, 2, 3) + random.normal(0, 0.03, (2, 3))
        controls.feet[:, :, 2] += random.normal(0, 0.05, 2)
        for side in SIDES:
            habit = random.random()
            if habit < 0.12:
                controls.wrists[:, side] += (0.12, 0.30, -0.05)
                controls.elbows[side] = 1.5
            elif habit < 0.3:
                controls.wrists[:, side] += (-0.25, 0.22, 0.40)


def smooth(share: Array) -> Array:
    """0 below 0, 1 above 1, and in between the course with the least jerk."""
    share = np.clip(share, 0, 1)
    return share**3 * (10 - 15 * share + 6 * share**2)


def wander(seconds: Array, random: Random, *shape: int) -> Array:
    """Smooth noise of unit variance, slower than 1 Hz: times (T,) -> (T, *shape)."""
    angle = np.multiply.outer(2 * np.pi * seconds, random.uniform(0.05, 0.9, 5))  # (T, 5)
    waves = np.concatenate([np.sin(angle), np.cos(angle)], 1)
    weights = random.normal(0, 5**-0.5, (10, *shape))
    return np.tensordot(waves, weights, 1)

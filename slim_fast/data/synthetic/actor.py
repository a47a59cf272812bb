"""One person performing: when things happen, and the vocabulary actions are written in."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slim_fast.data.synthetic.bodies import RIGHT, Array, Body, Random
from slim_fast.data.synthetic.kinematics import Controls

SIDES = (0, 1)


FRAME_RATE = 30.0


@dataclass(frozen=True)
class Timing:
    """An action in a clip of `frames` frames: `repeats` times `length` frames, from `start` on."""

    frames: int
    start: float
    length: float
    repeats: int = 1


class Actor:
    """A body with its controls, a stream of random numbers and the time it has.

    Attributes:
        near: the side of the hand (and foot) this person acts with; `far` is the other.
        toward: +1 when `near` is right, -1 when it is left: turns and tilts towards the acting
            side.
        partner: the other person of a mutual action.
        phase: (T,) 0 when the action begins and 1 when it ends, in each repetition; below and
            after it idles.
        progress: (T,) the same over all repetitions.
    """

    def __init__(self, body: Body, timing: Timing, random: Random) -> None:
        self.body, self.timing, self.random = body, timing, random
        self.controls = Controls.standing(timing.frames, body)
        self.near = int(random.random() < body.right_handed)
        self.far = 1 - self.near
        self.toward = 1 if self.near == RIGHT else -1
        self.partner = body
        done = (np.arange(timing.frames) - timing.start) / timing.length
        self.phase = done - np.clip(np.floor(done), 0, timing.repeats - 1)
        self.progress = done / timing.repeats
        self._rest()

    def keys(
        self, times: Sequence[float], values: Sequence[float] | Sequence[Sequence[float]]
    ) -> Array:
        """A smooth course through key values, (T,) or (T, K), at rest at both ends and at extremes.

        `times` are phases, rising; those in between are moved a little at random. Where an action
        is repeated, first and last values must agree.
        """
        at, points = np.array(times, float), np.array(values, float)
        gaps = np.diff(at)
        at[1:-1] += self.random.uniform(-0.3, 0.3, len(at) - 2) * np.minimum(gaps[:-1], gaps[1:])
        phase = np.clip(self.phase, at[0], at[-1])
        course = interpolate_keyframes(at, points.reshape(len(at), -1), phase)
        return course.reshape(len(course), *points.shape[1:])

    def pulse(self, rise: float = 0.3, fall: float = 0.7) -> Array:
        """0 at first, 1 between the fractions `rise` and `fall` of the action, 0 at last: (T,)."""
        return self.keys((0, rise, fall, 1), (0, 1, 1, 0))

    def swing(self, hertz: float) -> Array:
        """An oscillation at about `hertz`, in this person's tempo: (T,) within [-1, 1]."""
        return self.circle(hertz)[:, 0]

    def circle(self, hertz: float) -> Array:
        """Sine and cosine of an oscillation at about `hertz`: (T, 2), on a circle of radius 1."""
        pace = hertz * self.body.tempo * self.random.uniform(0.85, 1.2)
        cycles = pace * self.timing.length / FRAME_RATE
        angle = 2 * np.pi * (cycles * self.phase + self.random.uniform())
        return np.stack([np.sin(angle), np.cos(angle)], 1)

    def drift(self, scale: float, *shape: int) -> Array:
        """Slow, smooth wandering with standard deviation `scale`: (T, *shape)."""
        seconds = np.arange(self.timing.frames) / FRAME_RATE
        return scale * smooth_noise(seconds, self.random, *shape)

    def vary(self, scale: float = 0.15) -> float:
        """A factor about 1: how large this gesture is done this time by this person."""
        return float(self.body.amplitude * self.random.uniform(1 - scale, 1 + scale))

    def reach(self, side: int, target: Sequence[float], weight: Array, loose: float = 1.0) -> None:
        """Move a wrist to a target (outwards, up, forward of the shoulder in arm lengths).

        `loose` scales how far this person, this time, misses the target.
        """
        miss = loose * (self.body.reach + self.random.normal(0, 0.05, 3))
        wrist, midway = self.controls.wrists[:, side], 4 * weight * (1 - weight)
        way = np.array(target) + miss - wrist
        wrist += weight[:, None] * way
        # Hands travel on arcs, and a hand that is raised passes the shoulder in front.
        wrist[:, 2] += midway * (
            self.random.uniform(0, 0.1) + self.random.uniform(0.2, 0.35) * np.maximum(way[:, 1], 0)
        )
        wrist[:, 0] += midway * self.random.uniform(-0.02, 0.06)

    def carry(self, side: int, held: Array, course: Array) -> None:
        """Let a wrist follow a course (T, 3) of such targets as far as `held` (T,) is 1."""
        wrist = self.controls.wrists[:, side]
        wrist += held[:, None] * (course + self.body.reach - wrist)

    def step(self, distance: float, begin: float, end: float, steps: int = 3) -> None:
        """Walk forward (negative: backward) from progress `begin` to `end`, one foot planted."""
        time = (self.progress - begin) / (end - begin)
        travel = distance * minimum_jerk(time)
        self.controls.ground[:, 1] += travel
        first = int(self.random.integers(2))
        placed, place = np.zeros((2, self.timing.frames)), [0.0, 0.0]
        for i in range(steps):
            foot, there = (first + i) % 2, distance * min(1.0, (i + 1) / (steps - 1))
            moving = minimum_jerk(steps * time - i)
            placed[foot] += moving * (there - place[foot])
            place[foot] = there
            self.controls.feet[:, foot, 1] += 0.12 * np.sin(np.pi * moving)
            self.controls.toes[:, foot] += 0.3 * np.sin(np.pi * moving)
        for foot in SIDES:
            self.controls.feet[:, foot, 2] += (placed[foot] - travel) / self.body.leg

    def shuffle(self, turning: Array) -> None:
        """Lift one foot after the other while `turning` (T,) goes from 0 to 1."""
        for foot, early in zip(SIDES, self.random.permutation([0.0, 0.5]), strict=True):
            self.controls.feet[:, foot, 1] += 0.08 * np.sin(
                np.pi * minimum_jerk(2 * turning - 2 * early)
            )

    def sit(self, down: Array) -> None:
        """Lower the pelvis onto a chair behind, as far as `down` (T,) is 1."""
        self.controls.pelvis[:, 1] -= self.random.uniform(0.40, 0.52) * down
        self.controls.pelvis[:, 2] -= self.random.uniform(0.40, 0.48) * down
        self.controls.feet[:, :, 2] -= np.multiply.outer(down, self.random.uniform(-0.2, 0.1, 2))

    def level(self, height: float) -> float:
        """`height` arm lengths above the partners' mean shoulder, relative to one's own."""
        own, other = self.body, self.partner
        meeting = (own.shoulder_height + other.shoulder_height) / 2
        meeting += height * (own.arm + other.arm) / 2
        return (meeting - own.shoulder_height) / own.arm

    def _rest(self) -> None:
        """Add sway, and arms that hang, rest on a hip or are held in front."""
        controls, random = self.controls, self.random
        controls.pelvis += self.drift(0.015, 3) * (1, 0.3, 1)
        controls.spine += self.drift(0.03, 3) + random.normal(0, 0.03, 3)
        controls.head += self.drift(0.07, 3) + random.normal(0, (0.15, 0.08, 0.05))
        controls.wrists += self.drift(0.02, 2, 3) + random.normal(0, 0.03, (2, 3))
        controls.feet[:, :, 2] += random.normal(0, 0.05, 2)
        for side in SIDES:
            habit = random.random()
            if habit < 0.08:
                controls.wrists[:, side] += (0.12, 0.30, -0.05)
                controls.elbows[side] = 1.0
            elif habit < 0.2:
                controls.wrists[:, side] += (-0.25, 0.22, 0.40)


def minimum_jerk(share: Array) -> Array:
    """0 below 0, 1 above 1, and in between the course with the least jerk."""
    share = np.clip(share, 0, 1)
    return share**3 * (10 - 15 * share + 6 * share**2)


def interpolate_keyframes(at: Array, points: Array, phase: Array) -> Array:
    """Cubics (T, D) through points (K, D) at times (K,), without overshoot (Fritsch, Butland)."""
    gaps = np.diff(at)[:, None]
    rise = np.diff(points, axis=0) / gaps
    same = rise[:-1] * rise[1:]
    slopes = np.zeros_like(points)
    slopes[1:-1] = np.where(same > 0, 2 * same / np.where(same > 0, rise[:-1] + rise[1:], 1), 0)
    k = np.clip(np.searchsorted(at, phase, side="right") - 1, 0, len(at) - 2)
    gap = gaps[k]
    share = (phase - at[k])[:, None] / gap
    rest = 1 - share
    ends = points[k] * rest**2 * (1 + 2 * share) + points[k + 1] * share**2 * (1 + 2 * rest)
    return ends + gap * share * rest * (slopes[k] * rest - slopes[k + 1] * share)


def smooth_noise(seconds: Array, random: Random, *shape: int) -> Array:
    """Smooth noise of unit variance, slower than 1 Hz: times (T,) -> (T, *shape)."""
    angle = np.multiply.outer(2 * np.pi * seconds, random.uniform(0.05, 0.9, 5))  # (T, 5)
    waves = np.concatenate([np.sin(angle), np.cos(angle)], 1)
    weights = random.normal(0, 5**-0.5, (10, *shape))
    return np.tensordot(waves, weights, 1)

"""Random motion programs: actions beyond the named ones, each drawn once and done by everybody.

What a program asks for (which limbs, through which points, how often) follows from its number; how
a person does it, from the person, as with the named actions.
"""

from dataclasses import dataclass, field

import numpy as np

from slim_fast.data.synthetic.actor import Actor
from slim_fast.data.synthetic.bodies import Array, Random
from slim_fast.data.synthetic.motions import bend
from slim_fast.data.synthetic.scene import Action

_PROGRAMS = 4  # first word of the key, beside those of `generate`
# a hand's targets (outwards, up, forward of the shoulder in arm lengths)
_LOWEST, _HIGHEST = (-0.5, -0.9, 0.0), (0.9, 0.9, 0.95)
_NEAREST, _FARTHEST = 0.4, 0.97  # an elbow near the shoulder's height would flip


@dataclass(frozen=True)
class HandCourse:
    """Where a hand goes: through points (K, 3), then round circles or to and fro.

    sway: direction and size (3,) of an oscillation at `hertz`; circle: the two axes (2, 3) of one.
    """

    points: Array
    hertz: float
    sway: Array
    circle: Array


@dataclass(frozen=True)
class Program:
    """What everybody who performs it does.

    Attributes:
        hands: of the acting side, then of the other one; None: it stays.
        twist, lean, turn, nod: largest angles (rad) of back, back, body and head.
        times: when they are reached and left, as shares of the action.
        crouch: how far the knees bend, in shares of a deep squat.
        foot: (3,) where the acting side's foot goes, in leg lengths; zeros: it stays.
        walk: metres forward.
    """

    hands: tuple[HandCourse | None, HandCourse | None]
    twist: float = 0.0
    lean: float = 0.0
    turn: float = 0.0
    nod: float = 0.0
    crouch: float = 0.0
    walk: float = 0.0
    foot: Array = field(default_factory=lambda: np.zeros(3))
    times: tuple[float, float] = (0.3, 0.7)

    def __call__(self, actor: Actor) -> None:
        """Write the program's course into the actor's controls."""
        controls, size = actor.controls, actor.vary()
        course = actor.pulse(*self.times)
        for side, hand in zip((actor.near, actor.far), self.hands, strict=True):
            if hand is not None:
                _move_hand(actor, side, hand)
        controls.spine[:, 0] += self.twist * size * actor.toward * course
        controls.head[:, 1] += self.nod * size * course
        controls.turn += self.turn * size * actor.toward * course
        if self.lean or self.crouch:
            depth = self.crouch * min(size, 1.2)
            controls.pelvis[:, 1] -= 0.5 * depth * course
            bend(actor, course, pelvis=self.lean * size + 0.5 * depth, spine=0.5 * self.lean * size)
        if self.foot.any():
            controls.feet[:, actor.near] += course[:, None] * self.foot * size
            controls.pelvis[:, 0] -= 0.10 * actor.toward * course
        if self.walk:
            actor.step(self.walk * size, 0.1, 0.9, steps=3)


def make_program(number: int) -> Action:
    """Draw program `number` (0 or more), the same every time."""
    random = np.random.default_rng([_PROGRAMS, number])
    first, second = _draw_hand(random), _draw_hand(random)
    hands = [(first, None), (first, first), (first, second), (None, None)]
    chosen = hands[int(random.choice(4, p=(0.5, 0.2, 0.2, 0.1)))]
    # without hands something else moves for certain
    likely = 0.3 if chosen[0] is not None else 0.7

    def maybe(low: float, high: float) -> float:
        drawn = float(random.uniform(low, high))
        return drawn if random.random() < likely else 0.0

    foot = random.uniform((-0.1, 0.05, -0.4), (0.3, 0.5, 0.75))
    rise = float(random.uniform(0.25, 0.45))
    program = Program(
        chosen,
        twist=maybe(-0.7, 0.7),
        lean=maybe(0.2, 1.0),
        turn=maybe(-1.2, 1.2),
        nod=maybe(-0.4, 0.6),
        crouch=maybe(0.2, 0.8),
        walk=maybe(-0.7, 0.9),
        foot=foot * (random.random() < likely / 2),
        times=(rise, float(random.uniform(rise + 0.15, 0.75))),
    )
    stops = max([len(hand.points) for hand in chosen if hand is not None], default=1)
    seconds = float(random.uniform(1.0, 2.2)) + 0.5 * stops
    repeats = int(random.integers(1, 4))
    return Action(seconds, repeats, roaming=not program.walk, alone=program)


def _draw_hand(random: Random) -> HandCourse:
    points = random.uniform(_LOWEST, _HIGHEST, (int(random.integers(1, 5)), 3))
    distance = np.linalg.norm(points, axis=1, keepdims=True)
    points *= distance.clip(_NEAREST, _FARTHEST) / distance
    axes = np.linalg.qr(random.normal(size=(3, 3)))[0]
    kind = random.choice(3, p=(0.5, 0.25, 0.25))  # points alone, to and fro, circles
    sway = axes[0] * random.uniform(0.05, 0.25) * (kind == 1)
    circle = axes[1:] * random.uniform(0.1, 0.3) * (kind == 2)
    return HandCourse(points, float(random.uniform(0.6, 2.2)), sway, circle)


def _move_hand(actor: Actor, side: int, hand: HandCourse) -> None:
    # not held at either end of the action, so repetitions join although the points do not
    held, size = actor.pulse(0.2, 0.8), actor.vary(0.1)
    points = [*hand.points[:1], *hand.points, *hand.points[-1:]]
    course = actor.keys(
        np.linspace(0, 1, len(points)).tolist(), [(size * p).tolist() for p in points]
    )
    actor.carry(side, held, course)
    axes = np.stack([hand.sway + hand.circle[0], hand.circle[1]])
    actor.controls.wrists[:, side] += held[:, None] * (actor.circle(hand.hertz) @ axes)

"""The actions, and their staging: people, timing, places."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from slim_fast.data.synthetic import motions, mutual
from slim_fast.data.synthetic.actor import FRAME_RATE, Actor, Timing, minimum_jerk
from slim_fast.data.synthetic.bodies import Array, Body, Random, sample_body
from slim_fast.data.synthetic.kinematics import compute_joints, rotation_matrix

SHORTEST, LONGEST = 40, 200
LONGEST_IDLE = 55
ROAMING = 0.5
FACING, MOST_TURN = 0.25, 1.2


@dataclass(frozen=True)
class Action:
    """What is done by one person `alone`, or by two `together`.

    `seconds` is how long it takes on average. It is done once or up to `repeats` times in a row;
    what can be done `roaming`, that is while walking a few steps, sometimes is.
    """

    seconds: float
    repeats: int = 1
    roaming: bool = False
    alone: Callable[[Actor], None] | None = None
    together: Callable[[Actor, Actor], float] | None = None


CATALOGUE = {
    "drink": Action(2.8, repeats=2, roaming=True, alone=motions.drink),
    "phone call": Action(3.0, roaming=True, alone=motions.phone_call),
    "brush hair": Action(3.0, roaming=True, alone=motions.brush_hair),
    "wave": Action(2.4, roaming=True, alone=motions.wave),
    "clap": Action(2.4, roaming=True, alone=motions.clap),
    "throw": Action(2.0, repeats=2, roaming=True, alone=motions.throw),
    "punch": Action(1.8, repeats=2, roaming=True, alone=motions.punch),
    "kick": Action(1.8, repeats=3, alone=motions.kick),
    "jump": Action(2.2, repeats=3, alone=motions.jump),
    "pick up": Action(2.8, repeats=2, alone=motions.pick_up),
    "sit down": Action(2.2, alone=motions.sit_down),
    "stand up": Action(2.2, alone=motions.stand_up),
    "handshake": Action(2.8, together=mutual.handshake),
    "give": Action(2.8, together=mutual.give),
    "push": Action(2.2, repeats=2, together=mutual.push),
    "hug": Action(3.2, together=mutual.hug),
}


def perform(action: Action, body: Body, random: Random) -> list[Array]:
    """Joints (T, 25, 3) of everybody in metres, the scene's middle at the origin, y up."""
    timing = _timing(action, body.tempo, random)
    first = Actor(body, timing, random)
    actors, distance, facing = [first], 0.0, random.uniform(-FACING, FACING)
    if action.alone is not None:
        action.alone(first)
        if action.roaming and random.random() < ROAMING:
            begin = random.uniform(-0.3, 0.6)
            first.step(random.uniform(-0.4, 0.8), begin, begin + random.uniform(0.35, 0.6), steps=3)
    if action.together is not None:
        # The other person is a stranger drawn for this clip, so that no subject is met on both
        # sides of a split.
        second = Actor(sample_body(random), timing, random)
        first.partner, second.partner = second.body, body
        distance = action.together(first, second)
        actors.append(second)
        # Two who face each other are mostly filmed from the side.
        facing += random.choice([-1, 1]) * np.pi / 2
    turning = minimum_jerk((first.progress - random.uniform(-0.3, 0.7)) / random.uniform(0.3, 0.9))
    course = facing + random.uniform(-MOST_TURN, MOST_TURN) * turning
    people = []
    for actor, turn in zip(actors, (0.0, np.pi), strict=False):
        actor.shuffle(turning)
        people.append(
            _place(compute_joints(actor.body, actor.controls), course + turn, distance / 2)
        )
    return people if random.random() < 0.5 else people[::-1]


def _timing(action: Action, tempo: float, random: Random) -> Timing:
    """Idle, act, idle: the clip is cut around the action with a random margin."""
    length = action.seconds / tempo * FRAME_RATE * random.uniform(0.8, 1.35)
    repeats = min(int(random.integers(1, action.repeats + 1)), max(1, int(LONGEST / length)))
    before, after = random.uniform(-0.1 * length, LONGEST_IDLE, 2)
    frames = int(np.clip(round(before + repeats * length + after), SHORTEST, LONGEST))
    return Timing(frames, before, length, repeats)


def _place(joints: Array, facing: Array, back: float) -> Array:
    """Stand `back` metres behind the scene's middle and turn left by `facing` (T,) about it."""
    return (joints + np.array([0.0, 0.0, back])) @ rotation_matrix(facing).swapaxes(1, 2)

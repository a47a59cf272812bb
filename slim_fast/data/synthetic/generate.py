"""Synthetic clips of skeleton actions: the data set that needs no download."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from slim_fast.data.cache import CacheWriter, ClipCache
from slim_fast.data.clips import Clip
from slim_fast.data.synthetic import motions, mutual
from slim_fast.data.synthetic.actor import FRAME_RATE, Actor, Timing, smooth
from slim_fast.data.synthetic.bodies import NTU_25, Array, Body, Random, draw_body
from slim_fast.data.synthetic.camera import Camera
from slim_fast.data.synthetic.kinematics import pose, rotation
from slim_fast.errors import UserError


@dataclass(frozen=True)
class Action:
    """What is done by one person `alone`, or by two `together`.

    `seconds` is how long it takes on average; what can be done `roaming`, that is while walking a few steps,
    sometimes is.
    """

    seconds: float
    roaming: bool = False
    alone: Callable[[Actor], None] | None = None
    together: Callable[[Actor, Actor], float] | None = None


CATALOGUE = {
    "drink": Action(2.8, roaming=True, alone=motions.drink),
    "phone call": Action(3.0, roaming=True, alone=motions.phone_call),
    "wave": Action(2.4, roaming=True, alone=motions.wave),
    "clap": Action(2.4, roaming=True, alone=motions.clap),
    "throw": Action(2.0, alone=motions.throw),
    "punch": Action(1.8, alone=motions.punch),
    "kick": Action(1.8, alone=motions.kick),
    "jump": Action(1.8, alone=motions.jump),
    "bow": Action(2.6, alone=motions.bow),
    "pick up": Action(2.8, alone=motions.pick_up),
    "sit down": Action(2.2, alone=motions.sit_down),
    "stand up": Action(2.2, alone=motions.stand_up),
    "handshake": Action(2.8, together=mutual.handshake),
    "give": Action(2.8, together=mutual.give),
    "push": Action(2.2, together=mutual.push),
    "hug": Action(3.2, together=mutual.hug),
}
ACTIONS = tuple(CATALOGUE)
SHORTEST, LONGEST = 40, 200
ROAMING, MOST_TURN = 0.5, 1.0


def generate_clip(action: str, subject: int, repetition: int, seed: int = 0) -> Clip:
    """One clip, the same for the same arguments whatever else is generated.

    Returns:
        Clip with positions (T, 25, 3, M) float32 of NTU-25 joints: metres in camera coordinates, y up, x to the
        camera's right as the scene is seen from it, z away from it; 40 <= T <= 200 frames at 30 a second; M is 2 for
        mutual actions, else 1. The label is the action's place in ACTIONS; camera counts from 0 to 2.

    Raises:
        UserError: the action is unknown, or a number is negative.
    """
    index = _known(action)
    if min(subject, repetition, seed) < 0:
        raise UserError("subject, repetition and seed of a synthetic clip must be 0 or more")
    random = np.random.default_rng([CLIPS, seed, subject, index, repetition])
    body = draw_body(np.random.default_rng([BODIES, seed, subject]))
    timing = _timing(CATALOGUE[action].seconds / body.tempo, random)
    people = _perform(CATALOGUE[action], body, timing, random)
    camera = Camera.draw(random)
    seen = np.stack([camera.see(joints, random) for joints in people], -1)
    return Clip(
        positions=seen.astype(np.float32),
        name=f"{action.replace(' ', '_')}-s{subject:03d}-r{repetition:02d}",
        label=index,
        subject=subject,
        camera=camera.number,
    )


def write_synthetic(
    path: str | os.PathLike[str],
    *,
    seed: int = 0,
    subjects: int = 24,
    repetitions: int = 6,
    test_fraction: float = 1 / 3,
    actions: Sequence[str] | None = None,
    progress: bool = True,
) -> ClipCache:
    """Generate a data set and store it as a clip cache: every subject does every action `repetitions` times.

    The cache's split "xsub" holds out whole subjects, drawn by the seed, for testing. `actions` picks some of ACTIONS
    and numbers the classes in that order.

    Raises:
        UserError: an argument is out of range or the cache cannot be written.
    """
    actions = ACTIONS if actions is None else tuple(actions)
    for action in actions:
        _known(action)
    held_out = round(subjects * test_fraction)
    if not actions or len(set(actions)) < len(actions):
        raise UserError("actions must be one or more different names")
    if repetitions < 1 or not 0 < held_out < subjects:
        raise UserError(
            f"{subjects} subjects with {repetitions} repetitions, a fraction of {test_fraction:g} held out, leave"
            " nothing to train or to test on; take more subjects or another fraction"
        )
    test = set(np.random.default_rng([SPLITS, seed]).permutation(subjects)[:held_out].tolist())
    source = f"synthetic, seed {seed}, {subjects} subjects, {repetitions} repetitions"
    todo = [(subject, action, turn) for subject in range(subjects) for action in actions for turn in range(repetitions)]
    with CacheWriter(path, NTU_25, classes=actions, source=source) as writer:
        for subject, action, repetition in tqdm(todo, desc="synthetic clips", unit="clip", disable=not progress):
            clip = generate_clip(action, subject, repetition, seed)
            clip.label = actions.index(action)
            clip.split = {"xsub": "test" if subject in test else "train"}
            writer.add(clip)
    return ClipCache.open(path)


# The first word of every stream's key: streams of different kinds never meet.
CLIPS, BODIES, SPLITS = 1, 2, 3


def _known(action: str) -> int:
    if action not in CATALOGUE:
        raise UserError(f"There is no synthetic action {action!r}; choose among {', '.join(ACTIONS)}.")
    return ACTIONS.index(action)


def _timing(seconds: float, random: Random) -> Timing:
    """Idle, act, idle: the clip is cut around the action with a random margin."""
    action = seconds * FRAME_RATE * random.uniform(0.7, 1.4)
    before, after = random.uniform(-0.1 * action, 55, 2)
    frames = int(np.clip(round(before + action + after), SHORTEST, LONGEST))
    return Timing(frames, start=before, stop=before + action)


def _perform(action: Action, body: Body, timing: Timing, random: Random) -> list[Array]:
    """Joints (T, 25, 3) of everybody in the room: the scene's middle at the origin, y up from the floor."""
    first = Actor(body, timing, random)
    actors, distance, facing = [first], 0.0, random.uniform(-0.3, 0.3)
    if action.alone is not None:
        action.alone(first)
        if action.roaming and random.random() < ROAMING:
            begin = random.uniform(-0.3, 0.6)
            first.step(random.uniform(-0.4, 0.8), begin, begin + random.uniform(0.35, 0.6), steps=3)
    if action.together is not None:
        # The other person is a stranger drawn for this clip, so that no subject is met on both sides of a split.
        second = Actor(draw_body(random), timing, random)
        first.partner, second.partner = second.body, body
        distance = action.together(first, second)
        actors.append(second)
        # Two who face each other are mostly filmed from the side.
        facing += random.choice([-1, 1]) * np.pi / 2
    turning = smooth((first.phase - random.uniform(-0.3, 0.7)) / random.uniform(0.3, 0.9))
    course = facing + random.uniform(-MOST_TURN, MOST_TURN) * turning
    people = []
    for actor, turn in zip(actors, (0.0, np.pi), strict=False):
        actor.shuffle(turning)
        people.append(_placed(pose(actor.body, actor.controls), course + turn, distance / 2))
    return people if random.random() < 0.5 else people[::-1]


def _placed(joints: Array, facing: Array, back: float) -> Array:
    """Stand `back` metres behind the scene's middle and turn left by `facing` (T,) about it."""
    return (joints + (0.0, 0.0, back)) @ rotation(facing).swapaxes(1, 2)

"""Synthetic clips of skeleton actions: the data set that needs no download."""

import os
from collections.abc import Sequence
from itertools import product

import numpy as np
from tqdm import tqdm

from slim_fast.data.cache import ClipCache
from slim_fast.data.cache_writer import CacheWriter
from slim_fast.data.clips import Clip
from slim_fast.data.synthetic.bodies import NTU_25, sample_body
from slim_fast.data.synthetic.camera import Camera
from slim_fast.data.synthetic.programs import make_program
from slim_fast.data.synthetic.scene import CATALOGUE, Action, perform
from slim_fast.errors import UserError

ACTIONS = tuple(CATALOGUE)
# The first word of every stream's key: streams of different kinds never meet.
CLIPS, BODIES, SPLITS = 1, 2, 3
_PROGRAM = "program "


def generate_clip(
    action: str, subject: int, repetition: int, seed: int = 0, noisy: bool = True
) -> Clip:
    """One clip, a function of its arguments alone; without noise bones keep their lengths.

    action: one of ACTIONS, or "program N", a random motion that everybody who does it shares.

    Returns: a clip with positions (T, 25, 3, M) float32 of NTU-25 joints: metres in camera
    coordinates, y up, x to the camera's right as the scene is seen from it, z away from it; 40 <= T
    <= 200 frames at 30 a second; M is 2 for mutual actions, else 1. The label is the action's place
    in ACTIONS, behind which come the programs; camera counts from 0 to 2.

    Raises: UserError when the action is unknown, or a number is negative.
    """
    index, course = find_action(action)
    if min(subject, repetition, seed) < 0:
        raise UserError("subject, repetition and seed of a synthetic clip must be 0 or more")
    random = np.random.default_rng([CLIPS, seed, subject, index, repetition])
    body = sample_body(np.random.default_rng([BODIES, seed, subject]))
    people = perform(course, body, random)
    camera = Camera.sample(random, noisy)
    seen = np.stack([camera.record(joints, random) for joints in people], -1)
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
    programs: int = 0,
    progress: bool = True,
    overwrite: bool = False,
) -> ClipCache:
    """Generate a data set as a clip cache: every subject does every action `repetitions` times.

    The cache's split "xsub" holds out whole subjects, drawn by the seed, for testing. `actions`
    picks some of ACTIONS and numbers the classes in that order; behind them come so many random
    `programs`. overwrite: replace a cache that is
    at `path`.

    Raises: UserError when an argument is out of range or the cache cannot be written.
    """
    actions = ACTIONS if actions is None else tuple(actions)
    if programs < 0:
        raise UserError("the number of random programs must be 0 or more")
    actions += tuple(f"{_PROGRAM}{number}" for number in range(programs))
    for action in actions:
        find_action(action)
    if seed < 0:
        raise UserError("the seed of synthetic clips must be 0 or more")
    held_out = round(subjects * test_fraction)
    if not actions or len(set(actions)) < len(actions):
        raise UserError("actions must be one or more different names")
    if repetitions < 1 or not 0 < held_out < subjects:
        raise UserError(
            f"{subjects} subjects with {repetitions} repetitions, a fraction of {test_fraction:g} "
            "held out, leave nothing to train or to test on; take more subjects or another "
            "fraction"
        )
    test = set(np.random.default_rng([SPLITS, seed]).permutation(subjects)[:held_out].tolist())
    source = f"synthetic, seed {seed}, {subjects} subjects, {repetitions} repetitions"
    todo = list(product(range(subjects), actions, range(repetitions)))
    with CacheWriter(path, NTU_25, classes=actions, source=source, overwrite=overwrite) as writer:
        for subject, action, repetition in tqdm(
            todo, desc="synthetic clips", unit="clip", disable=None if progress else True
        ):
            clip = generate_clip(action, subject, repetition, seed)
            clip.label = actions.index(action)
            clip.split = {"xsub": "test" if subject in test else "train"}
            writer.add(clip)
    return ClipCache.open(path)


def find_action(name: str) -> tuple[int, Action]:
    """The number of an action's class, and what is done. Raises: UserError when it is unknown."""
    if name in CATALOGUE:
        return ACTIONS.index(name), CATALOGUE[name]
    number = name.removeprefix(_PROGRAM)
    if number == name or not number.isdecimal():
        raise UserError(
            f"There is no synthetic action {name!r}; choose among {', '.join(ACTIONS)}, or "
            f'"{_PROGRAM}N" with a number N.'
        )
    return len(ACTIONS) + int(number), make_program(int(number))

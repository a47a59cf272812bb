"""What one person does: each action writes its course into an actor's controls.

Hands are given as (outwards, up, forward) of the shoulder in arm lengths, so an action reads the
same for both sides.
"""

import numpy as np

from slim_fast.data.synthetic.actor import SIDES, Actor
from slim_fast.data.synthetic.bodies import Array

MOUTH = (-0.30, 0.20, 0.38)
EAR = (-0.02, 0.36, 0.12)
CROWN = (-0.12, 0.62, 0.10)


def drink(actor: Actor) -> None:
    lift = actor.pulse(0.3, 0.7)
    actor.reach(actor.near, MOUTH, lift, loose=0.6)
    actor.controls.elbows[actor.near] += 0.4
    actor.controls.hands[:, actor.near, 0] -= 0.8 * lift
    actor.controls.head[:, 1] -= (
        0.35 * actor.vary() * actor.keys((0, 0.3, 0.45, 0.65, 0.75, 1), (0, 0, 1, 1, 0, 0))
    )


def phone_call(actor: Actor) -> None:
    lift = actor.pulse(0.2, 0.85)
    actor.reach(actor.near, EAR, lift, loose=0.6)
    actor.controls.elbows[actor.near] += 0.3
    actor.controls.hands[:, actor.near, 0] -= 0.5 * lift
    actor.controls.head[:, 2] += 0.2 * actor.toward * lift
    actor.controls.head[:, 1] += 0.05 * lift * actor.swing(0.8)


def brush_hair(actor: Actor) -> None:
    lift = actor.pulse(0.2, 0.82)
    stroke = lift * actor.swing(0.9) * actor.vary()
    actor.reach(actor.near, CROWN, lift, loose=0.6)
    actor.controls.wrists[:, actor.near] += np.multiply.outer(stroke, (0.06, -0.07, -0.16))
    actor.controls.hands[:, actor.near, 0] -= 0.8 * lift
    actor.controls.elbows[actor.near] += 0.6
    actor.controls.head[:, 2] -= 0.12 * actor.toward * lift


def wave(actor: Actor) -> None:
    lift = actor.pulse(0.2, 0.82)
    actor.reach(actor.near, (0.28, 0.35 + 0.25 * (actor.vary() - 1), 0.35), lift, loose=1.5)
    sway = lift * actor.swing(1.3) * actor.vary()
    actor.controls.wrists[:, actor.near, 0] += 0.20 * sway
    actor.controls.hands[:, actor.near, 0] += 0.5 * sway
    actor.controls.hands[:, actor.near, 1] += 0.4 * lift
    actor.controls.elbows[actor.near] += 0.3


def clap(actor: Actor) -> None:
    lift = actor.pulse(0.2, 0.82)
    height = actor.random.uniform(-0.5, 0.0)
    apart = 0.5 + 0.5 * actor.swing(1.8)
    for side in SIDES:
        actor.reach(side, (-0.28, height, 0.60), lift, loose=0.3)
        actor.controls.wrists[:, side, 0] += 0.25 * actor.vary() * lift * apart
        actor.controls.hands[:, side, 1] += 0.3 * lift


def punch(actor: Actor) -> None:
    size = min(actor.vary(), 1.05)
    once = actor.random.random() < 0.5
    guard, hit = (-0.05, -0.10, 0.30), (-0.25, 0.0, 0.95 * size)
    course = [guard, guard, hit, guard, guard if once else hit, guard, guard]
    times = (0, 0.3, 0.42, 0.54, 0.64, 0.76, 1)
    actor.carry(actor.near, actor.keys((0, 0.25, 0.8, 1), (0, 1, 1, 0)), actor.keys(times, course))
    actor.reach(actor.far, guard, actor.random.uniform(0, 1) * actor.pulse(0.2, 0.8))
    turn = actor.keys(times, (0, -0.5, 1, -0.2, -0.2 if once else 1, 0, 0))
    actor.controls.spine[:, 0] += 0.35 * actor.body.liveliness * actor.toward * turn


def throw(actor: Actor) -> None:
    size = actor.vary()
    raised, back, released = (
        (0.25, -0.25, 0.45),
        (0.35, 0.30 * size, -0.25 * size),
        (0.05, 0.45, 0.75),
    )
    course = actor.keys(
        (0, 0.2, 0.4, 0.58, 0.75, 1), [raised, raised, back, released, (-0.35, -0.35, 0.65), raised]
    )
    actor.carry(actor.near, actor.pulse(0.2, 0.75), course)
    times = (0, 0.4, 0.58, 0.75, 1)
    live = actor.body.liveliness
    actor.controls.spine[:, 0] += (
        0.45 * live * actor.toward * actor.keys(times, (0, -1, 0.6, 0.8, 0))
    )
    actor.controls.spine[:, 1] += 0.25 * live * actor.keys(times, (0, -0.6, 0.5, 1, 0))
    actor.controls.turn += 0.25 * live * actor.toward * actor.keys(times, (0, -1, 0.5, 0.7, 0))
    actor.reach(
        actor.far, (0.15, -0.5, 0.6), 0.6 * live * actor.keys((0, 0.4, 0.65, 1), (0, 1, 0.2, 0))
    )
    if actor.random.random() < 0.5:
        actor.step(0.35 * actor.vary(), 0.2, 0.7, steps=2)


def jump(actor: Actor) -> None:
    times = (0, 0.36, 0.62, 0.84, 1)
    height = 0.32 * actor.vary() * actor.keys(times, (0, -0.8, 1, -0.5, 0))
    air, crouch = np.maximum(height - 0.03, 0), np.maximum(-height, 0)
    actor.controls.pelvis[:, 1] += height
    actor.controls.feet[:, :, 1] += air[:, None]
    actor.controls.toes += 0.5 * np.tanh(air / 0.05)[:, None]
    bend(actor, crouch, pelvis=1.6, spine=0.6)
    arms = actor.keys(times, (0, -0.5, 1, 0.2, 0)) * min(actor.body.liveliness, 1)
    for side in SIDES:
        actor.reach(side, (0.25, -0.1, 0.75), np.clip(arms, 0, 0.9))
        actor.controls.wrists[:, side, 2] += np.minimum(arms, 0)


def kick(actor: Actor) -> None:
    size, live, near = actor.vary(), actor.body.liveliness, actor.near
    times = (0, 0.38, 0.56, 0.68, 1)
    course = [(0, 0, 0), (0.02, 0.18, -0.35), (0, 0.50 * size, 0.75), (0, 0.40, 0.5), (0, 0, 0)]
    actor.controls.feet[:, near] += actor.keys(times, course)
    actor.controls.toes[:, near] += 0.4 * actor.keys(times, (0, 1, -0.5, -0.5, 0))
    actor.controls.pelvis[:, 0] -= 0.10 * actor.toward * actor.pulse(0.3, 0.75)
    actor.controls.pitch += 0.25 * live * actor.keys(times, (0, 0.6, -1, -0.7, 0))
    actor.controls.spine[:, 0] += (
        0.3 * live * actor.toward * actor.keys(times, (0, -0.7, 1, 0.7, 0))
    )
    for side, forward in ((near, -0.45), (actor.far, 0.45)):
        actor.reach(side, (0.30, -0.65, forward), 0.8 * live * actor.pulse(0.5, 0.7))


def pick_up(actor: Actor) -> None:
    down = actor.pulse(0.4, 0.6)
    squat = actor.random.uniform(0.1, 0.9)
    actor.controls.pelvis[:, 1] -= 0.5 * squat * down
    actor.controls.pelvis[:, 2] -= 0.12 * squat * down
    bend(actor, down, pelvis=1.0 - 0.55 * squat, spine=0.55)
    reach = actor.keys((0, 0.4, 0.6, 0.8, 1), (0, 1, 1, 0.3, 0))
    actor.reach(actor.near, (-0.10, -0.45 - 0.2 * squat, 0.8), reach)
    if actor.random.random() < 0.3:
        actor.reach(actor.far, (-0.10, -0.45 - 0.2 * squat, 0.8), reach)
    else:
        actor.reach(actor.far, (0.05, -0.55, 0.35), down * actor.random.uniform(0, 1))


def sit_down(actor: Actor) -> None:
    _seated(actor, actor.keys((0, 0.15, 0.85, 1), (0, 0, 1, 1)))


def stand_up(actor: Actor) -> None:
    _seated(actor, actor.keys((0, 0.15, 0.85, 1), (1, 1, 0, 0)))


def bend(actor: Actor, down: Array, pelvis: float, spine: float) -> None:
    """Bend hips and back (radians at `down` = 1); the pelvis moves back over the feet."""
    actor.controls.pitch += pelvis * down
    actor.controls.spine[:, 1] += spine * down
    actor.controls.head[:, 1] -= 0.3 * actor.random.uniform(-0.5, 1) * down
    actor.controls.pelvis[:, 2] -= 0.22 * np.sin(pelvis) * down
    # Arms hang: what is down for them turns in the frame of the bending chest.
    lean = (pelvis + spine) * down * actor.random.uniform(0.3, 1)
    for side in SIDES:
        wrist = actor.controls.wrists[:, side]
        up, forward = wrist[:, 1].copy(), wrist[:, 2].copy()
        wrist[:, 1] = np.cos(lean) * up + np.sin(lean) * forward
        wrist[:, 2] = np.cos(lean) * forward - np.sin(lean) * up


def _seated(actor: Actor, down: Array) -> None:
    """From standing (`down` = 0) to sitting on a chair (1), leaning forward on the way."""
    moving = 4 * down * (1 - down)
    actor.sit(down)
    actor.controls.pitch += actor.random.uniform(0.3, 0.7) * moving
    actor.controls.spine[:, 1] += (
        0.25 * moving + actor.random.uniform(-0.1, 0.25) * down
    ) * actor.body.liveliness
    both = actor.random.random() < 0.7
    for side in SIDES if both else (actor.near,):
        actor.reach(side, (-0.05, -0.55, 0.55), np.clip(down + 0.3 * moving, 0, 1), loose=1.5)

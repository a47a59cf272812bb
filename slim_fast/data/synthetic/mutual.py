"""Actions of two people face to face: each writes into the controls of both.

Each returns the distance in metres between the places where the two stand when nobody has moved
yet.
"""

from slim_fast.data.synthetic.actor import SIDES, Actor
from slim_fast.data.synthetic.bodies import RIGHT


def handshake(first: Actor, second: Actor) -> float:
    hold = first.pulse(0.3, 0.75)
    shake = hold * first.swing(1.6) * first.vary()
    for actor in (first, second):
        actor.reach(RIGHT, (-0.32, actor.level(-0.45), 0.62), hold, loose=0.3)
        actor.controls.wrists[:, RIGHT, 1] += 0.10 * shake
        actor.controls.pitch += 0.12 * actor.body.liveliness * hold
    return _meeting(first, second, 0.62) + _approach(first, second)


def give(first: Actor, second: Actor) -> float:
    height = first.random.uniform(-0.55, -0.2)
    offer = first.pulse(0.35, 0.6)
    take = second.keys((0, 0.2, 0.42, 0.62, 0.85, 1), (0, 0, 1, 1, 0.35, 0.3))
    for actor, weight in ((first, offer), (second, take)):
        actor.reach(actor.near, (-0.30, actor.level(height), 0.62), weight, loose=0.5)
        actor.controls.pitch += 0.10 * actor.body.liveliness * weight
    return _meeting(first, second, 0.66) + _approach(first, second)


def push(first: Actor, second: Actor) -> float:
    times = (0, 0.28, 0.45, 0.6, 1)
    both, ready = first.random.random() < 0.75, (-0.05, -0.15, 0.30)
    course = first.keys(times, [ready, ready, (-0.12, -0.05, 0.92), (-0.1, -0.1, 0.85), ready])
    held = first.keys(times, (0, 1, 1, 1, 0))
    for side in SIDES if both else (first.near,):
        first.carry(side, held, course)
        first.controls.hands[:, side, 1] += 0.8 * held
    first.controls.pitch += 0.3 * first.body.liveliness * first.keys(times, (0, -0.2, 1, 0.6, 0))
    first.step(0.25 * first.vary(), 0.15, 0.5, steps=2)
    hit = second.keys((0, 0.40, 0.52, 0.75, 1), (0, 0, 1, 0.5, 0))
    second.controls.pitch -= 0.25 * second.vary() * hit
    second.controls.head[:, 1] += 0.25 * hit
    for side in SIDES:
        second.reach(side, (0.35, -0.45, 0.5), 0.7 * hit * second.random.uniform(0.3, 1.2), loose=2)
    second.step(-0.4 * second.vary(), 0.44, 0.75, steps=3)
    return 0.25 + 0.85 * first.body.arm + 0.1


def hug(first: Actor, second: Actor) -> float:
    apart, over = first.random.uniform(0.7, 1.0), first.random.integers(2)
    for actor, share in ((first, 0.55), (second, 0.45)):
        hold = actor.pulse(0.42, 0.72)
        actor.step(share * apart, 0.02, 0.40, steps=3)
        for side in SIDES:
            higher = 0.1 if side == over else -0.35
            actor.reach(side, (-0.05, higher, 0.62), hold, loose=0.7)
            actor.controls.hands[:, side, 0] -= 0.9 * hold
            actor.controls.elbows[side] += 0.8
        actor.controls.pitch += 0.10 * hold
        actor.controls.head[:, 2] += 0.25 * (1 if over == RIGHT else -1) * hold
        actor.controls.pelvis[:, 0] -= 0.06 * hold
        _part(actor, share * apart)
    return apart + 0.34


def _meeting(first: Actor, second: Actor, forward: float) -> float:
    """Distance at which two hands that reach `forward` arm lengths meet."""
    return sum(
        forward * actor.body.arm + actor.body.bone("right_hand") + 0.04 for actor in (first, second)
    )


def _approach(first: Actor, second: Actor) -> float:
    """Let one of the two walk up first, sometimes; returns the distance that this adds."""
    if first.random.random() < 0.5:
        return 0.0
    walker, distance = (first, second)[first.random.integers(2)], first.random.uniform(0.25, 0.5)
    walker.step(distance, -0.1, 0.28, steps=3)
    return float(distance)


def _part(actor: Actor, distance: float) -> None:
    """Step back again, now and then."""
    if actor.random.random() < 0.5:
        actor.step(-distance * actor.random.uniform(0.5, 1), 0.75, 1.05, steps=3)

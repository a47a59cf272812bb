"""From controls to joints: forward kinematics of the trunk, two-bone chains for arms and legs.

A person's own frame has x to the right, y up and the face towards -z, so that somebody who faces a
camera at the origin, looking along +z, has the left side at the smaller x as depth cameras report
it. Positions of hands and feet are given as (outwards, up, forward), which means the same for both
sides.
"""

from dataclasses import dataclass

import numpy as np

from slim_fast.data.synthetic.bodies import ARM, LEFT, LEG, NTU_25, RIGHT, Array, Body

UP = np.array([0.0, 1.0, 0.0])


@dataclass
class Controls:
    """What T frames of one person's body do; every array is free to be written by an action.

    Attributes:
        ground: (T, 2) sideways (to the right) and forward displacement of the body on the floor,
            metres.
        pelvis: (T, 3) right, up, forward displacement of the pelvis from upright standing, leg
            lengths.
        turn, pitch, roll: (T,) rotation of the pelvis: left, forward, to the right; radians.
        spine: (T, 3) turn, pitch, roll of the chest against the pelvis.
        head: (T, 3) turn, pitch, roll of the head against the chest.
        wrists: (T, 2, 3) left and right wrist from the own shoulder in the frame of the chest, arm
            lengths.
        hands: (T, 2, 3) where the hand bends away from the forearm to, same frame; zero is
            straight.
        elbows: (2,) how far out each elbow points.
        feet: (T, 2, 3) left and right ankle from its place in standing, leg lengths; it moves with
            `ground`.
        toes: (T, 2) how far each foot points down.
    """

    ground: Array
    pelvis: Array
    turn: Array
    pitch: Array
    roll: Array
    spine: Array
    head: Array
    wrists: Array
    hands: Array
    elbows: Array
    feet: Array
    toes: Array

    @classmethod
    def standing(cls, frames: int, body: Body) -> "Controls":
        """Upright in the body's habitual posture with both arms hanging."""
        sizes: dict[str, tuple[int, ...]]
        sizes = {name: (frames, 3) for name in ("pelvis", "spine", "head")}
        sizes |= {name: (frames, 2, 3) for name in ("wrists", "hands", "feet")}
        sizes |= {"ground": (frames, 2), "toes": (frames, 2), "elbows": (2,)}
        sizes |= {name: (frames,) for name in ("turn", "pitch", "roll")}
        controls = cls(**{name: np.zeros(size) for name, size in sizes.items()})
        controls.spine[:, 1:] = body.stoop, body.lean
        controls.head[:, 1] = body.head_pitch
        controls.wrists[:] = (0.10 + 0.1 * body.elbow_out, -0.95, 0.05)
        controls.elbows[:], controls.toes[:] = body.elbow_out, 0.3
        return controls


def compute_joints(body: Body, controls: Controls) -> Array:
    """Joints of a person in its own frame: (T, 25, 3) metres, the floor at y = 0."""
    joints = np.empty((len(controls.turn), NTU_25.num_joints, 3))
    _trunk(joints, body, controls)
    pelvis = rotation_matrix(controls.turn, controls.pitch, controls.roll)
    chest = pelvis @ rotation_matrix(*controls.spine.T)
    for side, name in ((LEFT, "left_"), (RIGHT, "right_")):
        _arm(joints, name, side, chest, body, controls)
        _leg(joints, name, side, pelvis, body, controls)
    joints[:, :, 0] += controls.ground[:, None, 0]
    joints[:, :, 2] -= controls.ground[:, None, 1]
    return joints


def rotation_matrix(
    turn: Array | float, pitch: Array | float = 0.0, roll: Array | float = 0.0
) -> Array:
    """Rotate by roll to the right, then pitch forward, then turn left: (...) -> (..., 3, 3)."""
    (sy, cy), (sx, cx), (sz, cz) = (
        (np.sin(angle), np.cos(angle)) for angle in (turn, -pitch, -roll)
    )
    rows = (
        (cy * cz + sy * sx * sz, sy * sx * cz - cy * sz, sy * cx),
        (cx * sz, cx * cz, -sx),
        (cy * sx * sz - sy * cz, sy * sz + cy * sx * cz, cy * cx),
    )
    entries = np.broadcast_arrays(*(entry for row in rows for entry in row))
    return np.stack(entries, -1).reshape(*np.shape(turn), 3, 3)


def solve_two_bones(
    start: Array, target: Array, first: float, second: float, pole: Array
) -> tuple[Array, Array]:
    """Bend a chain of two bones from `start` to `target`, its middle joint towards `pole`.

    Targets out of reach are approached smoothly, so that a chain never snaps straight.

    Returns: middle and end joints, (T, 3) each: the chain's bones measure exactly `first` and
    `second`.
    """
    reach = first + second
    line = target - start
    distance = np.linalg.norm(line, axis=-1, keepdims=True) + 1e-9
    line = line / distance
    soft = 0.9 * reach + 0.095 * reach * np.tanh((distance - 0.9 * reach) / (0.095 * reach))
    distance = np.where(distance > 0.9 * reach, soft, np.maximum(distance, 0.3 * reach))
    along = (first**2 - second**2 + distance**2) / (2 * distance)
    across = np.sqrt(np.maximum(first**2 - along**2, 0))
    middle = (
        start + along * line + across * _unit(pole - (pole * line).sum(-1, keepdims=True) * line)
    )
    return middle, start + distance * line


def _trunk(joints: Array, body: Body, controls: Controls) -> None:
    base = joints[:, _at("spine_base")]
    base[:] = _to_body_axes(1, controls.pelvis * body.leg) + body.hip_height * UP
    pelvis = rotation_matrix(controls.turn, controls.pitch, controls.roll)
    waist = pelvis @ rotation_matrix(*(0.4 * controls.spine.T))
    chest = pelvis @ rotation_matrix(*controls.spine.T)
    neck = chest @ rotation_matrix(*(0.5 * controls.head.T))
    head = chest @ rotation_matrix(*controls.head.T)
    parent = base
    frames = {"spine_mid": waist, "spine_shoulder": chest, "neck": neck, "head": head}
    for joint, frame in frames.items():
        joints[:, _at(joint)] = parent + body.bone(joint) * frame[:, :, 1]
        parent = joints[:, _at(joint)]


def _arm(joints: Array, name: str, side: int, chest: Array, body: Body, controls: Controls) -> None:
    sign = 1 if side == RIGHT else -1
    shoulder, elbow, wrist, hand, tip, thumb = (_at(name + joint) for joint in ARM)
    bone = body.bones
    slope = np.array([sign * 0.97, -0.24, 0.05])
    joints[:, shoulder] = joints[:, _at("spine_shoulder")] + bone[shoulder] * chest @ _unit(slope)
    target = joints[:, shoulder] + _rotate(
        chest, _to_body_axes(sign, controls.wrists[:, side] * body.arm)
    )
    pole = chest @ np.array([sign * controls.elbows[side], -1.0, 0.4])
    ends = solve_two_bones(joints[:, shoulder], target, bone[elbow], bone[wrist], pole)
    joints[:, elbow], joints[:, wrist] = ends
    forearm = _unit(joints[:, wrist] - joints[:, elbow])
    along = _unit(forearm + _rotate(chest, _to_body_axes(sign, controls.hands[:, side])))
    inward = chest @ np.array([-sign * 0.5, 0.3, -0.8])
    beside = _unit(inward - (inward * along).sum(-1, keepdims=True) * along)
    joints[:, hand] = joints[:, wrist] + bone[hand] * along
    joints[:, tip] = joints[:, hand] + bone[tip] * along
    joints[:, thumb] = joints[:, hand] + bone[thumb] * _unit(0.6 * along + beside)


def _leg(
    joints: Array, name: str, side: int, pelvis: Array, body: Body, controls: Controls
) -> None:
    sign = 1 if side == RIGHT else -1
    hip, knee, ankle, foot = (_at(name + joint) for joint in LEG)
    bone = body.bones
    joints[:, hip] = joints[:, _at("spine_base")] + bone[hip] * pelvis @ _unit(
        np.array([sign * 0.87, -0.5, 0.0])
    )
    place = _to_body_axes(sign, controls.feet[:, side] * body.leg)
    place += (sign * body.stance, body.ankle_height, 0.0)
    ahead = np.array([sign * np.sin(body.toes_out), 0.0, -np.cos(body.toes_out)])
    joints[:, knee], joints[:, ankle] = solve_two_bones(
        joints[:, hip], place, bone[knee], bone[ankle], ahead
    )
    down = controls.toes[:, side, None]
    joints[:, foot] = joints[:, ankle] + bone[foot] * (np.cos(down) * ahead - np.sin(down) * UP)


def _at(joint: str) -> int:
    return NTU_25.joints.index(joint)


def _to_body_axes(sign: int, vectors: Array) -> Array:
    """(outwards, up, forward) of one side to the person's own axes."""
    return vectors * (sign, 1, -1)


def _rotate(frames: Array, vectors: Array) -> Array:
    """(T, 3, 3) applied to (T, 3)."""
    return np.einsum("tij,tj->ti", frames, vectors)


def _unit(vectors: Array) -> Array:
    return vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-12)

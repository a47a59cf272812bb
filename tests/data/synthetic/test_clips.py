"""What generated clips are like: reproducible, in metres, on the floor, with the right people."""

from itertools import pairwise

import numpy as np
import pytest

from slim_fast.data.synthetic import ACTIONS, generate_clip
from slim_fast.data.synthetic.actor import Actor, Timing
from slim_fast.data.synthetic.bodies import NTU_25, sample_body
from slim_fast.data.synthetic.generate import find_action
from slim_fast.data.synthetic.programs import make_program
from slim_fast.data.synthetic.scene import CATALOGUE, perform
from slim_fast.errors import UserError

MUTUAL = {"handshake", "give", "push", "hug"}
PROGRAMS = tuple(f"program {number}" for number in range(12))


def at(*names):
    return [NTU_25.joints.index(name) for name in names]


def test_there_are_enough_actions():
    assert len(ACTIONS) == len(set(ACTIONS)) >= 14
    assert set(ACTIONS) >= MUTUAL


@pytest.mark.parametrize("action", ACTIONS + PROGRAMS)
class TestEach:
    def test_shape_and_range(self, action):
        for subject in range(3):
            clip = generate_clip(action, subject, 0, seed=5)
            frames, joints, channels, people = clip.positions.shape
            assert clip.positions.dtype == np.float32
            assert 40 <= frames <= 200
            assert (joints, channels) == (25, 3)
            assert people == (2 if action in MUTUAL else 1)
            assert np.isfinite(clip.positions).all()
            assert (clip.label, clip.subject) == ((ACTIONS + PROGRAMS).index(action), subject)
            assert clip.camera in (0, 1, 2)
            depth, sideways = clip.positions[:, 0, 2], clip.positions[:, 0, 0]
            assert depth.min() > 1.5
            assert depth.max() < 5.5
            assert np.abs(sideways).max() < 2.5
            tall = clip.positions[:, 3, 1] - clip.positions[:, [15, 19], 1].min(1)
            assert 1.1 < tall.max() < 2.4

    def test_same_arguments_same_bytes(self, action):
        clip, again = (generate_clip(action, 2, 1, seed=3) for _ in range(2))
        assert clip.positions.tobytes() == again.positions.tobytes()
        assert (clip.name, clip.label, clip.camera) == (again.name, again.label, again.camera)
        for other in [(action, 2, 1, 4), (action, 2, 2, 3), (action, 3, 1, 3)]:
            assert generate_clip(*other).positions.tobytes() != clip.positions.tobytes()

    def test_bones_keep_their_length_before_noise(self, action):
        child, parent = np.array(NTU_25.bones).T
        for subject in range(3):
            positions = generate_clip(action, subject, 0, seed=5, noisy=False).positions
            # (T, 24, M)
            length = np.linalg.norm(positions[:, child] - positions[:, parent], axis=2)
            np.testing.assert_allclose(length, length[:1].repeat(len(length), 0), atol=2e-6)
            noise = np.abs(generate_clip(action, subject, 0, seed=5).positions - positions)
            assert 0.003 < noise.mean() < 0.1

    def test_the_same_subject_has_the_same_body_in_every_clip(self, action):
        if action in MUTUAL:
            return
        child, parent = np.array(NTU_25.bones).T
        first = generate_clip(action, 7, 0, seed=1, noisy=False).positions[0, :, :, 0]
        other = generate_clip("clap", 7, 3, seed=1, noisy=False).positions[0, :, :, 0]
        lengths = [
            np.linalg.norm(joints[child] - joints[parent], axis=1) for joints in (first, other)
        ]
        np.testing.assert_allclose(*lengths, atol=2e-6)

    def test_feet_are_on_the_floor_and_motion_is_smooth(self, action):
        for seed in range(6):
            random = np.random.default_rng(seed)
            course = find_action(action)[1]
            for joints in perform(course, sample_body(random), random):
                ankles = joints[:, at("left_ankle", "right_ankle"), 1]
                assert ankles.min() > 0
                if action != "jump":
                    assert ankles.min(1).max() < 0.2, "somebody floats"
                assert np.median(ankles.min(1)) < 0.12
                speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1) * 30
                assert speed.max() < 20
                assert speed[:, 0].max() < 5


def room(action, seed):
    random = np.random.default_rng(seed)
    return perform(CATALOGUE[action], sample_body(random), random)


def nearest(first, second, hands):
    """Smallest distance of any hand of one person from any hand (or any joint) of the other,
    metres.
    """
    gap = np.linalg.norm(first[:, hands, None] - second[:, None, :], axis=-1)
    return gap.min()


def test_actions_are_what_they_are_called():
    for seed in range(8):
        (sitting,) = room("sit down", seed)
        assert sitting[-1, 0, 1] < sitting[:, 0, 1].max() - 0.2
        (standing,) = room("stand up", seed)
        assert standing[-1, 0, 1] > standing[:, 0, 1].min() + 0.2
        (jumping,) = room("jump", seed)
        assert jumping[:, at("left_ankle", "right_ankle"), 1].min(1).max() > 0.15
        (picking,) = room("pick up", seed)
        assert picking[:, at("left_hand", "right_hand"), 1].min() < 0.55
        (kicking,) = room("kick", seed)
        assert kicking[:, at("left_ankle", "right_ankle"), 1].max() > 0.3
        (waving,) = room("wave", seed)
        raised = (
            waving[:, at("left_hand", "right_hand"), 1].max(1)
            - waving[:, at("spine_shoulder")[0], 1]
        )
        assert raised.max() > 0
        (drinking,) = room("drink", seed)
        gap = np.linalg.norm(
            drinking[:, at("left_hand", "right_hand")] - drinking[:, at("head")], axis=-1
        )
        assert gap.min() < 0.32


def test_partners_touch():
    hands = at("left_hand_tip", "right_hand_tip", "left_hand", "right_hand")
    for action, within in (("handshake", 0.2), ("give", 0.3), ("hug", 0.15)):
        gaps = [nearest(*(joints for joints in room(action, seed)), hands) for seed in range(10)]
        assert np.median(gaps) < within, action
    for action in MUTUAL:
        for seed in range(5):
            first, second = room(action, seed)
            apart = np.linalg.norm(first[:, 0, ::2] - second[:, 0, ::2], axis=-1)
            assert apart.min() > 0.12
            assert apart.max() < 3


def test_a_program_is_the_same_motion_for_everybody():
    """Hands of two performances of a program agree better than those of two programs."""

    def hands(number, subject):  # (64, 6) at even times, from the shoulder, in arm lengths
        action = make_program(number)
        random = np.random.default_rng([subject, number])
        actor = Actor(sample_body(random), Timing(96, 0.0, 96.0), random)
        actor.near, actor.far, actor.toward = 1, 0, 1
        action.alone(actor)
        return actor.controls.wrists.reshape(96, 6)

    def apart(a, b):
        return np.abs(a - b).mean()

    moving = [number for number in range(30) if make_program(number).alone.hands[0] is not None]
    same = [apart(hands(number, 0), hands(number, 1)) for number in moving]
    other = [apart(hands(a, 0), hands(b, 1)) for a, b in pairwise(moving)]
    assert len(moving) > 20
    assert np.mean(same) < 0.75 * np.mean(other)


def test_bad_arguments_are_named():
    with pytest.raises(UserError, match=r"no synthetic action 'program x'.*program N"):
        generate_clip("program x", 0, 0)
    with pytest.raises(UserError, match=r"no synthetic action 'fly'.*drink"):
        generate_clip("fly", 0, 0)
    with pytest.raises(UserError, match="0 or more"):
        generate_clip("wave", -1, 0)

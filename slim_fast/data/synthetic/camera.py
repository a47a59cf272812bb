"""How a depth camera sees people: from where, how tilted and how noisily."""

from dataclasses import dataclass

import numpy as np

from slim_fast.data.synthetic.actor import FRAME_RATE, smooth_noise
from slim_fast.data.synthetic.bodies import NTU_25, Array, Random
from slim_fast.data.synthetic.kinematics import rotation_matrix

CAMERA_YAWS = (-0.6, 0.0, 0.6)

# Ends of limbs are tracked worse than the trunk.
NOISE_SCALE = {
    "elbow": 1.3,
    "wrist": 1.6,
    "hand": 2.0,
    "hand_tip": 2.6,
    "thumb": 2.6,
    "ankle": 1.5,
    "foot": 2.0,
}
NOISE_SCALES = np.array([NOISE_SCALE.get(joint.split("_", 1)[-1], 1.0) for joint in NTU_25.joints])


@dataclass(frozen=True)
class Camera:
    """A camera: its number from left to right, turn, tilt and place of the scene, and noise."""

    number: int
    yaw: float
    tilt: float
    roll: float
    place: Array
    jitter: float
    drift: float

    @classmethod
    def sample(cls, random: Random, noisy: bool = True) -> "Camera":
        """One of three cameras 34 degrees apart, varied by 14 degrees, 2.5 to 4 m away."""
        number = int(random.integers(len(CAMERA_YAWS)))
        return cls(
            number=number,
            yaw=CAMERA_YAWS[number] + random.uniform(-0.25, 0.25),
            tilt=random.uniform(-0.12, 0.12),
            roll=random.normal(0, 0.02),
            place=np.array(
                [random.uniform(-0.6, 0.6), -random.uniform(0.8, 1.3), random.uniform(2.5, 4.0)]
            ),
            jitter=noisy * random.uniform(0.003, 0.012),
            drift=noisy * random.uniform(0.005, 0.025),
        )

    def record(self, joints: Array, random: Random) -> Array:
        """Joints (T, 25, 3), y up, in the camera's coordinates with its noise; metres."""
        turned = joints @ rotation_matrix(self.yaw).T + self.place
        seconds = np.arange(len(joints)) / FRAME_RATE
        slow = self.drift * smooth_noise(seconds, random, *joints.shape[1:])
        fast = self.jitter * random.standard_normal(joints.shape)
        return (
            turned @ rotation_matrix(0.0, self.tilt, self.roll).T
            + (slow + fast) * NOISE_SCALES[:, None]
        )

"""Who acts: the proportions of a body, its posture and its habits."""

from dataclasses import dataclass, replace

import numpy as np

from slim_fast.skeletons import get_topology

Array = np.ndarray  # float64
Random = np.random.Generator

NTU_25 = get_topology("ntu-25")
LEFT, RIGHT = 0, 1
ARM = ("shoulder", "elbow", "wrist", "hand", "hand_tip", "thumb")
LEG = ("hip", "knee", "ankle", "foot")

# Bone lengths as fractions of the body's height, at the joints a depth camera reports (child joint,
# without its side).
BONES = {
    "spine_mid": 0.170,
    "spine_shoulder": 0.135,
    "neck": 0.045,
    "head": 0.080,
    "shoulder": 0.106,
    "elbow": 0.165,
    "wrist": 0.145,
    "hand": 0.045,
    "hand_tip": 0.045,
    "thumb": 0.035,
    "hip": 0.058,
    "knee": 0.245,
    "ankle": 0.238,
    "foot": 0.070,
}
ANKLE_HEIGHT = 0.045
HEAD_HEIGHT = 0.94


@dataclass(frozen=True)
class Body:
    """One person. Lengths in metres, angles in radians.

    Attributes:
        height: from the sole to the top of the head.
        bones: (25,) length of the bone between each joint and its parent, 0 at the root.
        stoop: habitual forward bend of the spine.
        lean: habitual side bend of the trunk, positive to the right.
        head_pitch: habitual nod, positive downwards.
        stance: half the distance between the feet.
        toes_out: outward turn of the feet.
        elbow_out: how far the elbows stick out (0 close to the body, 1 wide).
        tempo: speed of everything this person does, about 1.
        amplitude: size of free gestures, about 1.
        liveliness: share the trunk takes in gestures of the limbs, about 1.
        right_handed: probability of acting with the right hand.
        reach: (3,) personal bias of where the acting hand goes, in arm lengths.
    """

    height: float
    bones: Array
    stoop: float
    lean: float
    head_pitch: float
    stance: float
    toes_out: float
    elbow_out: float
    tempo: float
    amplitude: float
    liveliness: float
    right_handed: float
    reach: Array

    def bone(self, joint: str) -> float:
        return float(self.bones[NTU_25.joints.index(joint)])

    @property
    def arm(self) -> float:
        """Shoulder to wrist, stretched."""
        return self.bone("right_elbow") + self.bone("right_wrist")

    @property
    def leg(self) -> float:
        """Hip to ankle, stretched."""
        return self.bone("right_knee") + self.bone("right_ankle")

    @property
    def ankle_height(self) -> float:
        return ANKLE_HEIGHT * self.height

    @property
    def hip_height(self) -> float:
        """Height of the pelvis above the floor when standing upright, the knees a little bent."""
        return self.ankle_height + 0.98 * self.leg + 0.5 * self.bone("right_hip")

    @property
    def shoulder_height(self) -> float:
        """Height of the shoulders above the floor when standing upright."""
        return self.hip_height + self.bone("spine_mid") + self.bone("spine_shoulder") - 0.04


def sample_body(random: Random) -> Body:
    """Draw a person: 1.5 to 1.95 m tall, limbs varied a few per cent each, both sides alike."""
    height = random.uniform(1.5, 1.95)
    limb = {kind: random.normal(1, 0.04) for kind in ("trunk", "arm", "leg")}
    lengths = {
        joint: height * fraction * random.normal(1, 0.03) for joint, fraction in BONES.items()
    }
    bones = np.zeros(NTU_25.num_joints)
    for part, members in NTU_25.parts.items():
        for joint in members:
            if joint != NTU_25.root:
                name = NTU_25.joints[joint].removeprefix("left_").removeprefix("right_")
                bones[joint] = lengths[name] * limb[part.split("_")[-1]]
    body = Body(
        height=height,
        bones=bones,
        stoop=random.normal(0.08, 0.07),
        lean=random.normal(0, 0.035),
        head_pitch=random.normal(0.05, 0.1),
        stance=height * random.uniform(0.05, 0.10),
        toes_out=random.uniform(0, 0.4),
        elbow_out=random.uniform(0.15, 0.9),
        tempo=random.uniform(0.8, 1.25),
        amplitude=random.uniform(0.75, 1.2),
        liveliness=random.uniform(0.4, 1.5),
        right_handed=float(random.choice([0.9, 0.5, 0.1], p=[0.5, 0.2, 0.3])),
        reach=random.normal(0, 0.06, 3),
    )
    trunk = sum(body.bone(joint) for joint in ("spine_mid", "spine_shoulder", "neck", "head"))
    head = body.hip_height - body.ankle_height + trunk
    return replace(body, bones=bones * (HEAD_HEIGHT - ANKLE_HEIGHT) * height / head)

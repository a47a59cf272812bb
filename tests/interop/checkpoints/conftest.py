"""Small encoders as public checkpoints hold them."""

import pytest
import torch

from slim_fast import SLiMEncoder
from slim_fast.model.encoder import EncoderConfig
from slim_fast.skeletons import Topology

# heads of 32 features, as a .pth is read
PUBLIC = EncoderConfig(width=64, depth=2, heads=2, registers=3)


STICK = Topology.from_dict(
    {
        "name": "stick-5",
        "joints": ["hip", "head", "left_hand", "right_hand", "feet"],
        "parents": {"head": "hip", "left_hand": "head", "right_hand": "head", "feet": "hip"},
        "parts": {
            "trunk": ["hip", "head"],
            "left_arm": ["left_hand"],
            "right_arm": ["right_hand"],
            "leg": ["feet"],
        },
    }
)


def clips_for(encoder: SLiMEncoder, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, encoder.channels, 16, encoder.joints, 2)


def same_answers(a: SLiMEncoder, b: SLiMEncoder) -> bool:
    x = clips_for(a)
    return torch.equal(a.forward_features(x)["x_prenorm"], b.forward_features(x)["x_prenorm"])


@pytest.fixture
def public(make_encoder) -> SLiMEncoder:
    return make_encoder(config=PUBLIC)

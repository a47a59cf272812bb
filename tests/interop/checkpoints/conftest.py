"""Small encoders as public checkpoints hold them, and a server that holds the hub's."""

import os
from collections.abc import Callable, Iterator

import pytest
import torch

from slim_fast import SLiMEncoder
from slim_fast.model.encoder import EncoderConfig
from slim_fast.skeletons import Topology
from tests.interop.checkpoints.fake_hub import FakeHub

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


@pytest.fixture
def point_to(monkeypatch, tmp_path) -> Callable[..., None]:
    """Makes the client ask `address` alone, without this machine's token and cache."""
    constants = pytest.importorskip(
        "huggingface_hub.constants", reason="this test needs huggingface_hub"
    )

    def point(address: str, offline: bool = False) -> None:
        for name, value in (
            ("ENDPOINT", address),
            ("HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"),
            ("HF_HUB_OFFLINE", offline),
            ("HF_HUB_CACHE", str(tmp_path / "default cache")),
            ("HF_TOKEN_PATH", str(tmp_path / "no token")),
            ("AGENT_HARNESSES_PATH", str(tmp_path / "no list")),
            ("HF_HUB_DISABLE_XET", True),
        ):
            monkeypatch.setattr(constants, name, value, raising=False)  # not every version has all

    for name in [
        name for name in os.environ if name.lower().endswith("_proxy") or name.startswith("HF_")
    ]:
        monkeypatch.delenv(name)
    return point


@pytest.fixture
def server(point_to) -> Iterator[FakeHub]:
    fake = FakeHub()
    point_to(fake.address)
    yield fake
    fake.server.shutdown()
    fake.server.server_close()

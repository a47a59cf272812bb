"""Small encoders whose every weight matters."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from slim_fast import SLiMClassifier, SLiMEncoder
from slim_fast.model.encoder import EncoderConfig

SMALL = EncoderConfig(width=16, depth=3, heads=2, registers=2)


def noisy(module: torch.nn.Module, scale: float = 0.3) -> Any:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += scale * torch.randn_like(parameter)
    return module.eval()


@pytest.fixture
def make_encoder() -> Callable[..., SLiMEncoder]:
    """SLiMEncoder of SMALL sizes and random weights; topology: 5 nameless joints."""

    def make(
        topology: Any = 5, channels: str = "xyz", config: EncoderConfig = SMALL, **options: Any
    ) -> SLiMEncoder:
        return noisy(SLiMEncoder(topology, channels, config, **options))

    return make


@pytest.fixture
def make_classifier() -> Callable[..., SLiMClassifier]:
    def make(
        classes: int = 4, topology: Any = 5, config: EncoderConfig = SMALL, **options: Any
    ) -> SLiMClassifier:
        return noisy(SLiMClassifier(classes, topology, config=config, **options))

    return make

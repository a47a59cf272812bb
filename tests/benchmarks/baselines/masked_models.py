"""Small masked baselines and clips to test them on."""

import pytest
import torch

from benchmarks.baselines.gfp import GFP, GFPConfig
from benchmarks.baselines.mae import MAEConfig, MaskedAutoencoder
from benchmarks.baselines.masking import split_tokens
from benchmarks.baselines.s_jepa import SJEPA, SJEPAConfig

TOY = {
    "frames": 24,
    "joints": 5,
    "patch_frames": 2,
    "width": 32,
    "depth": 2,
    "heads": 4,
    "mask_ratio": 0.8,
}


MODELS = {
    "mae": lambda **more: MaskedAutoencoder(MAEConfig(**TOY, decoder_depth=1, **more)),
    "s-jepa": lambda **more: SJEPA(SJEPAConfig(**TOY, decoder_depth=1, **more)),
    "gfp": lambda **more: GFP(
        GFPConfig(
            **TOY,
            windows=(2, 4, 12),
            level_blocks=(1, 1, 1, 1),
            local_hidden=16,
            global_hidden=24,
            **more,
        )
    ),
}


every_model = pytest.mark.parametrize("name", MODELS)


def walk(batch=4, frames=24, joints=5, seed=0):
    """Moving people (B, T, V, 3)."""
    return 0.3 * torch.randn(batch, frames, joints, 3, generator=seeded(seed)).cumsum(1)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def hidden_of(model, clips, seed):
    """The tokens that the loss with this seed hides."""
    config = model.config
    return split_tokens(
        clips, 2, config.visible, config.masking, config.motion_temperature, seeded(seed)
    )[1]


def numbers(module):
    return sum(p.numel() for p in module.parameters())

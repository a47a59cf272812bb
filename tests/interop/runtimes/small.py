"""Small models with weights that were never trained, and how near answers are."""

from typing import Any

import torch

from slim_fast.model.encoder import EncoderConfig

SMALL = EncoderConfig(width=16, depth=2, heads=2, registers=2, window=16)


def made(kind: Any, *arguments: Any, **options: Any) -> Any:
    torch.manual_seed(3)
    model = kind(*arguments, config=SMALL, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model.eval().requires_grad_(False)


def is_near(got: torch.Tensor, want: torch.Tensor, limit: float) -> bool:
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    return bool((got - want).norm() <= limit * want.norm())

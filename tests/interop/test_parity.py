"""The shared fixture: a random checkpoint in the public format, with float64 features of another implementation."""

import math
import os
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from slim_fast import SLiMEncoder

SHARED = Path(os.environ.get("SLIM_FAST_SHARED", Path(__file__).resolve().parents[2].parent / "shared"))
PARITY = SHARED / "parity"

pytestmark = pytest.mark.skipif(
    not PARITY.is_dir(), reason=f"{PARITY} is missing: set SLIM_FAST_SHARED to the shared folder"
)


@pytest.fixture(scope="module")
def encoder() -> SLiMEncoder:
    return SLiMEncoder.from_pretrained(PARITY)


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    with np.load(PARITY / "expected.npz", allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 2e-6), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("frames", [64, 32, 8])
def test_features_agree(frames, dtype, tolerance, encoder, expected):
    clips = expected[f"clips_{frames}"]
    flat = clips.permute(0, 4, 2, 3, 1).flatten(0, 1)
    mask = expected[f"mask_{frames}"].view(len(flat), frames // 8, -1)
    half = dtype == torch.bfloat16
    if not half:
        encoder, clips, flat = encoder.to(dtype), clips.to(dtype), flat.to(dtype)
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype) if half else nullcontext():
        layers = encoder.get_intermediate_layers(clips, 4, return_class_token=True)
        masked = encoder.last_blocks(flat, mask, 1)[0]
    encoder.float()
    names = [(f"patch_{frames}_{i}", f"cls_{frames}_{i}") for i in range(4)]
    names.append((f"masked_patch_{frames}", f"masked_cls_{frames}"))
    for pair, layer in zip(names, [*layers, masked], strict=True):
        off = [(got.double() - expected[name].double()).norm() for name, got in zip(pair, layer, strict=True)]
        size = [expected[name].double().norm() for name in pair]
        assert [got.shape for got in layer] == [expected[name].shape for name in pair]
        if half:  # the CLS alone, one token, is off by up to 0.022, as it is in plain eager PyTorch
            assert math.hypot(*off) / math.hypot(*size) < tolerance, pair
        else:
            assert all(o / s < tolerance for o, s in zip(off, size, strict=True)), pair

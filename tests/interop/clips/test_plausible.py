"""Encoders say once that their first clips are in other units, or far from the origin."""

import warnings

import numpy as np
import pytest
import torch

import slim_fast
from slim_fast.interop.ctrgcn import Model
from slim_fast.interop.streaming import Stream

_RNG = np.random.default_rng(0)
_POSE = _RNG.uniform(-0.8, 0.8, (25, 3))
_POSE[[0, 1, 20]] = [[0, 0, 0], [0, 0.2, 0], [0, 0.5, 0]]  # an upright spine
RAW = (_POSE + _RNG.normal(0, 0.01, (70, 25, 3)) + 3).astype(np.float32)
CENTRED = slim_fast.preprocess(RAW, "ntu-25")


def said(call, x) -> list[str]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        call(x)
    return [str(warning.message) for warning in told]


def as_clip(raw: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(raw[:64]).permute(2, 0, 1)[None, ..., None]


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (as_clip(RAW), "the first clips are not centred, spine_mid is"),
        (CENTRED * 1000, "looks like millimetres"),
        (as_clip(RAW) * 100, "looks like centimetres"),
        (CENTRED, None),
        (torch.zeros(2, 3, 64, 25, 2), None),
        (torch.randn(2, 3, 64, 25, 2), None),
        (CENTRED * torch.nan, None),
    ],
)
def test_one_sentence_or_none(make_encoder, x, says):
    for model in (make_encoder("ntu-25"), make_encoder("ntu-25").optimize(), Model(3).eval()):
        told = said(model, x)
        assert len(told) == (says is not None)
        assert says is None or says in told[0]
        assert said(model, x) == []


def test_streams_centre_by_themselves_and_look_at_units(make_encoder):
    frames = RAW[:16, None]  # (T, M, V, C)
    assert said(Stream(make_encoder("ntu-25")).push, frames) == []
    (told,) = said(Stream(make_encoder("ntu-25")).push, frames * 1000)
    assert "looks like millimetres: multiply by 0.001" in told


def test_nameless_joints_are_not_looked_at(make_encoder):
    assert said(make_encoder(5), torch.randn(1, 3, 8, 5, 1) + 90) == []

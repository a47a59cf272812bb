"""Folding for another runtime: the same people as PyTorch's, whatever the clips hold."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slim_fast import SLiMEncoder
from slim_fast.interop import people_encoder
from slim_fast.interop.clips.host import fold_on_host
from slim_fast.interop.clips.people import find_present_people, fold_people
from slim_fast.interop.runtimes.programs import Runtimes

KINDS = ("body", "zeros", "point", "speck", "nan", "inf")


def person(kind: str, frames: int, joints: int, channels: int) -> torch.Tensor:
    """(C, T, V)."""
    body = torch.randn(channels, frames, joints)
    if kind == "zeros":
        return torch.zeros_like(body)
    if kind == "point":
        return body[:, :1, :1].expand_as(body)
    if kind == "speck":
        return body * 1e-5
    if kind in ("nan", "inf"):
        body[0, 0, 0] = float(kind)
    return body


@settings(max_examples=60)
@given(
    people=st.lists(st.tuples(*[st.sampled_from(KINDS)] * 2), min_size=1, max_size=3),
    joints=st.sampled_from([1, 5]),
    channels=st.sampled_from(["xyz", "xyc"]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    skip_empty=st.booleans(),
    is_told=st.booleans(),
)
def test_it_folds_whom_pytorch_folds(people, joints, channels, dtype, skip_empty, is_told):
    clips = [torch.stack([person(kind, 8, joints, 3) for kind in pair], -1) for pair in people]
    x = torch.stack(clips).to(dtype)  # (B, C, T, V, M)
    told = torch.rand(len(people), 2) > 0.5 if is_told else None
    present = find_present_people(x.float(), channels) if skip_empty else None
    present = told if is_told else present
    want = fold_people(x, None, present, True, torch.float32)
    got = fold_on_host(x, told, skip_empty, channels)
    assert torch.equal(got.present, want.present)
    torch.testing.assert_close(got.clips, want.clips, rtol=0, atol=0, equal_nan=True)
    assert got.clips.is_contiguous()
    answer = torch.randn(len(got.clips), 6, 4)
    scattered = got.scatter(answer)
    assert scattered.dtype == dtype
    assert torch.equal(scattered, want.scatter(answer))
    assert got.scatter(answer.requires_grad_()).requires_grad


def test_gradients_are_left_to_pytorch(monkeypatch):
    encoder = SLiMEncoder(5)
    encoder._runtimes = Runtimes({}, {})  # PyTorch answers
    x = torch.randn(1, 3, 8, 5, 1, requires_grad=True)
    (encoder(x) * torch.randn(encoder.embed_dim)).sum().backward()
    assert x.grad.abs().sum() > 0
    monkeypatch.setattr(people_encoder, "fold_people", pytest.fail)
    assert encoder(x.detach()).isfinite().all()

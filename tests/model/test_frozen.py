"""A frozen encoder answers as the encoder does."""

import copy
import pickle

import pytest
import torch

from slim_fast.errors import UserError
from slim_fast.model.encoder import Encoder, EncoderConfig
from slim_fast.model.frozen import freeze


def encoder(attention="all", dtype=torch.float32):
    torch.manual_seed(0)
    made = (
        Encoder(EncoderConfig(width=32, depth=3, heads=4, attention=attention), joints=5)
        .to(dtype)
        .eval()
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return made


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.02)]
)
@pytest.mark.parametrize("attention", ["all", "visible"])
def test_same_answers(dtype, tolerance, attention):
    ours = encoder(attention, dtype)
    frozen = freeze(ours)
    views = [torch.randn(n, t, 5, 3, dtype=dtype) for n, t in ((3, 16), (2, 8))]
    masks = [torch.rand(3, 2, 5) < 0.5, None]
    packed = ours.pack(views, masks)
    read = packed.select([None, None])
    with torch.no_grad():
        for given in ({}, {"packed": packed}, {"packed": packed, "selection": read}):
            want, got = (
                ours.encode_packed(views, masks, **given)[0],
                frozen.encode_packed(views, masks, **given)[0],
            )
            assert (got - want).norm() <= tolerance * want.norm()
        clips = torch.randn(4, 16, 5, 3, dtype=dtype)
        pairs = zip(
            ours.encode_last_blocks(clips, None, 2),
            frozen.encode_last_blocks(clips, None, 2),
            strict=True,
        )
        for want, got in pairs:
            assert all(
                (a - b).norm() <= tolerance * b.norm() for a, b in zip(got, want, strict=True)
            )


def test_a_frozen_copy_stays_as_it_was_and_leaves_the_encoder_alone():
    ours, clips = encoder(), torch.randn(2, 16, 5, 3)
    frozen = freeze(ours, torch.bfloat16)
    assert ours.pos_embed.dtype == torch.float32
    before = frozen.encode_packed([clips], [None])[0]
    assert before.dtype == torch.float32
    want = ours.encode_packed([clips], [None])[0]
    assert 1e-4 < (before - want).norm() / want.norm() < 0.02
    assert not before.requires_grad
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.zero_()
    assert torch.equal(frozen.encode_packed([clips], [None])[0], before)


def test_nobody_present_is_no_clip():
    frozen = freeze(encoder(), torch.bfloat16)
    assert frozen.encode_packed([torch.zeros(0, 16, 5, 3)], [None])[0].shape == (0, 32)


def test_what_a_frozen_encoder_cannot_do_is_said():
    frozen = freeze(encoder())
    assert frozen.to("cpu").float() is frozen
    for attempt in (frozen.bfloat16, frozen.double):
        with pytest.raises(UserError, match="keeps its dtype and device"):
            attempt()
    with pytest.raises(UserError, match="can't be saved"):
        frozen.state_dict()
    for attempt in (freeze, copy.deepcopy, pickle.dumps):
        with pytest.raises(UserError, match="can't be copied"):
            attempt(frozen)


def test_compiled_it_answers_the_same():
    frozen, clips = freeze(encoder()), torch.randn(2, 16, 5, 3)
    want = frozen.encode_packed([clips], [None])[0]
    got = torch.compile(frozen.encode_packed, backend="eager")([clips], [None])[0]
    torch.testing.assert_close(got, want)


def test_a_dtype_without_fractions_is_refused():
    with pytest.raises(UserError, match="holds no floating-point numbers"):
        freeze(encoder(), torch.int8)

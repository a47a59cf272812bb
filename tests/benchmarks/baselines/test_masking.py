"""Masking, patches and the layers that the masked baselines have in common."""

import math

import pytest
import torch

from benchmarks.baselines.masking import motion, patches, split_tokens, take
from benchmarks.baselines.transformer import MaskedConfig, MaskTokens, SkeletonEncoder
from tests.benchmarks.baselines.masked_models import TOY, seeded, walk


def test_visible_tokens():
    assert MaskedConfig().tokens == 750
    assert MaskedConfig().visible == 74  # 750 * (1 - 0.9) is a little less than 75
    assert MaskedConfig(num_visible=75).visible == 75
    assert MaskedConfig(**TOY).visible == int(60 * (1 - 0.8))


@pytest.mark.parametrize("masking", ["random", "motion"])
def test_masks_split_the_tokens(masking):
    visible, hidden = split_tokens(walk(16), 2, 13, masking)
    assert visible.shape == (16, 13)
    assert torch.equal(
        torch.cat([visible, hidden], 1).sort(1).values, torch.arange(60).expand(16, -1)
    )
    assert len(visible.sort(1).values.unique(dim=0)) == 16  # every clip has its own


def test_masks_refuse_what_makes_no_sense():
    with pytest.raises(ValueError, match="1 to 60 tokens; got 61"):
        split_tokens(walk(), 2, 61)
    with pytest.raises(ValueError, match="random or motion"):
        split_tokens(walk(), 2, 3, "motions")


def test_motion_masking_draws_by_the_softmax_of_motion():
    """One token of four is hidden; joints move by 0, 1, 2 and 4 a frame, in metres or millimetres,
    or not at all.
    """
    speed, batch = torch.tensor([0.0, 1.0, 2.0, 4.0]), 20000
    clips = (torch.arange(4)[:, None, None] * speed[:, None]).expand(batch, 4, 4, 3)
    prior, even = torch.softmax(speed / 4 / 0.5, 0), torch.full((4,), 0.25)
    cases = [("motion", 1, prior), ("motion", 1e3, prior), ("motion", 0, even), ("random", 1, even)]
    for masking, scale, chances in cases:
        _, hidden = split_tokens(clips * scale, 4, 3, masking, temperature=0.5, generator=seeded(0))
        fraction = torch.bincount(hidden[:, 0], minlength=4) / batch
        torch.testing.assert_close(fraction, chances, atol=4 * math.sqrt(0.25 / batch), rtol=0)


def test_patches_and_motion():
    clips = walk(2)
    rows = patches(clips, 2)
    assert torch.equal(rows[1, 3 * 5 + 4], clips[1, 6:8, 4].flatten())
    moved = motion(clips)
    torch.testing.assert_close(moved[:, 7], clips[:, 8] - clips[:, 7])
    assert not moved[:, -1].any()


def test_explicit_attention_equals_sdpa():
    clips = walk().double()
    fused, explicit = (
        SkeletonEncoder(MaskedConfig(**TOY, attention=a)).double() for a in ("sdpa", "explicit")
    )
    explicit.load_state_dict(fused.state_dict())
    torch.testing.assert_close(explicit(clips), fused(clips), atol=1e-10, rtol=1e-10)


def test_the_encoder_takes_tokens_with_their_positions():
    """All tokens in another order come out in that order: each keeps its coordinates and its
    position.
    """
    encoder, clips = SkeletonEncoder(MaskedConfig(**TOY)).double(), walk().double()
    order = torch.stack([torch.randperm(60) for _ in range(4)])
    torch.testing.assert_close(encoder(clips, order), take(encoder(clips), order))
    first, second = encoder(torch.zeros_like(clips))[0, :2]  # equal but for their positions
    assert (first - second).abs().max() > 1e-4


def test_mask_tokens_stand_where_nothing_was_seen():
    fill = MaskTokens(MaskedConfig(**TOY))
    visible, indices = torch.randn(2, 3, 32), torch.tensor([[4, 0, 59], [7, 8, 9]])
    tokens = fill(visible, indices) - fill.positions()
    torch.testing.assert_close(take(tokens, indices), visible)
    torch.testing.assert_close(tokens[0, [1, 2, 3, 58]], fill.token.expand(4, 32))

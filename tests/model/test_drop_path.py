"""Stochastic depth: what is left out, how often, and that none changes nothing."""

import copy
from itertools import pairwise

import pytest
import torch

from slim_fast.errors import UserError
from slim_fast.model.block import drop_branch
from slim_fast.model.encoder import Encoder, EncoderConfig
from slim_fast.model.packing import pack_sequences


@pytest.fixture
def encoder() -> Encoder:
    made = Encoder(EncoderConfig(width=16, depth=3, heads=2, registers=1), joints=3)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return made


def test_rates_grow_from_none_in_the_first_block_to_the_last(encoder):
    encoder.set_drop_path(0.3)
    assert [block.drop_path for block in encoder.blocks] == pytest.approx([0, 0.15, 0.3])
    encoder.set_drop_path(0)
    assert [block.drop_path for block in encoder.blocks] == [0, 0, 0]


def test_without_a_rate_and_in_eval_mode_nothing_changes(encoder):
    clips = [torch.randn(4, 16, 3, 3), torch.randn(2, 8, 3, 3)]
    plain = encoder.encode_packed(clips, [None, None])[0]
    state = torch.random.get_rng_state()
    encoder.set_drop_path(0.0)
    assert torch.equal(encoder.encode_packed(clips, [None, None])[0], plain)
    encoder.set_drop_path(0.5)
    assert torch.equal(encoder.eval().encode_packed(clips, [None, None])[0], plain)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(encoder.train().encode_packed(clips, [None, None])[0], plain)


def test_each_sequence_keeps_or_loses_the_branches_of_a_block(encoder):
    """Of one block: x, x + attention, x + feed-forward or both, enlarged by 1 / keep."""
    block, keep = encoder.blocks[2], 0.75
    packed = pack_sequences(((40, 1), (20, 2)), 2, 3, torch.device("cpu"))
    x = torch.randn(len(packed.time), 16)
    block.drop_path = 1 - keep
    with torch.no_grad():
        got = block(x, packed)
        attention = block._attend(x, packed, None) - x
        wanted = []
        for a in (0.0, 1.0):
            once = x + a / keep * attention
            for b in (0.0, 1.0):
                wanted.append(once + b / keep * (block._feed_forward(once, packed) - once))
    bounds, kinds = packed.cu_seqlens.tolist(), []
    for begin, end in pairwise(bounds):
        near = [torch.allclose(got[begin:end], w[begin:end], atol=1e-4) for w in wanted]
        assert sum(near) == 1
        kinds.append(near.index(True))
    counts = torch.bincount(torch.tensor(kinds), minlength=4)
    assert counts[3] > counts[1:3].max() > 0  # 9/16 keep both, 3/16 each keep one


def test_the_rows_of_a_selection_are_those_of_their_sequences(encoder):
    block = encoder.blocks[2]
    packed = pack_sequences(((30, 2),), 2, 3, torch.device("cpu"))
    selection = packed.select([torch.arange(30 * 6)[::5]])
    x = torch.randn(len(packed.time), 16)
    block.drop_path = 0.5
    with torch.no_grad():
        torch.manual_seed(1)
        whole = block(x, packed)
        torch.manual_seed(1)
        some = block(x, packed, selection)
    torch.testing.assert_close(some, whole[selection.rows], rtol=1e-4, atol=1e-5)


def test_the_mean_stays_and_gradients_reach_what_is_kept():
    x, more = torch.zeros(4000, 3, 2), torch.ones(4000, 3, 2, requires_grad=True)
    out = drop_branch(x, more, 0.4, None)  # type: ignore[arg-type]
    assert float(out.detach().mean()) == pytest.approx(1, abs=0.05)
    assert {round(v, 4) for v in out.unique().tolist()} == {0.0, round(1 / 0.6, 4)}
    out.sum().backward()
    assert torch.equal(more.grad, out.detach())


def test_copies_keep_the_rate_and_others_are_refused(encoder):
    encoder.set_drop_path(0.2)
    assert copy.deepcopy(encoder).blocks[2].drop_path == 0.2
    assert "drop_path" not in "".join(encoder.state_dict())
    for rate in (-0.1, 1.0, float("nan")):
        with pytest.raises(UserError, match=r"drop path .*: must be at least 0"):
            encoder.set_drop_path(rate)

"""encoder.attention: visible. Mask tokens ask and are not asked; those that nobody reads are left
out.
"""

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from slim_fast.errors import UserError
from slim_fast.model.encoder import Encoder, EncoderConfig
from slim_fast.model.heads import HeadConfig
from slim_fast.model.packing import Packing, masked_indices, pack_sequences
from slim_fast.model.slim import ModelConfig, SLiM

CONFIG = EncoderConfig(width=16, depth=3, heads=2, registers=2, attention="visible")


def noisy(module: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return module


def encoder() -> Encoder:
    return noisy(Encoder(CONFIG, joints=5)).double()


def one_clip(model: Encoder, clip: Tensor, mask: Tensor) -> Tensor:
    """(5 T + 3, D): a clip (8 T, 5, 3) with mask (T, 5) through the blocks, scores written out."""
    t, heads = len(mask), CONFIG.heads
    patches = torch.stack(
        [
            F.conv2d(clip[None].permute(0, 3, 1, 2), p, stride=(8, 1))[0]
            for p in [model.patch_embed.proj.weight]
        ]
    )[0]
    tokens = patches.permute(1, 2, 0) + model.patch_embed.proj.bias  # (T, V, D)
    tokens = torch.where(mask[..., None], model.mask_token[0], tokens) + model.pos_embed[0, 1:]
    x = torch.cat(
        [
            model.cls_token[0] + model.pos_embed[0, :1],
            model.register_tokens[0],
            tokens.flatten(0, 1),
        ]
    )
    asked = torch.cat([torch.ones(3, dtype=torch.bool), ~mask.flatten()])
    when = torch.cat([torch.zeros(3), torch.arange(t).repeat_interleave(5)]).double()
    half = CONFIG.width // heads // 2
    angle = when[:, None] * 10000.0 ** (-torch.arange(half).double() / half)

    def turn(y: Tensor) -> Tensor:  # (H, n, d)
        a, b = y.chunk(2, -1)
        return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)

    for block in model.blocks:
        q, k, v = block.attn.qkv(block.norm1(x)).unflatten(1, (3, heads, -1)).permute(1, 2, 0, 3)
        scores = turn(q) @ turn(k).transpose(1, 2) / (2 * half) ** 0.5
        scores = scores.masked_fill(~asked, -torch.inf).softmax(-1)
        x = x + block.attn.proj((scores @ v).transpose(0, 1).flatten(1))
        gate, value = block.mlp.w12(block.norm2(x)).chunk(2, 1)
        x = x + block.mlp.w3(F.silu(gate) * value)
    return model.norm(x)


def test_equals_an_explicit_matrix_of_who_asks_whom():
    model = encoder()
    views = [torch.randn(2, 24, 5, 3).double(), torch.randn(3, 8, 5, 3).double()]
    masks = [torch.rand(2, 3, 5) < 0.5, torch.rand(3, 1, 5) < 0.5]
    got, _ = model.encode_packed(views, masks)
    want = [
        one_clip(model, x, m)
        for view, mask in zip(views, masks, strict=True)
        for x, m in zip(view, mask, strict=True)
    ]
    torch.testing.assert_close(got, torch.cat(want), rtol=1e-9, atol=1e-9)


def test_tokens_that_nobody_reads_are_left_out_and_change_nothing():
    model = encoder()
    views = [torch.randn(2, 24, 5, 3).double(), torch.randn(4, 16, 5, 3).double()]
    masks = [torch.rand(2, 3, 5) < 0.5, torch.rand(4, 2, 5) < 0.6]
    whole, without = (model.pack(views, masks, [False, out]) for out in (False, True))
    assert whole.index is None
    assert len(without.time) == len(whole.time) - int(masks[1].sum())
    assert without.visible is not None
    assert int((~without.visible).sum()) == int(masks[0].sum())
    places = masked_indices(masks[0].flatten(1), None)[0]
    outs = [
        model.encode_packed(views, masks, packed, packed.select([places, None]))[0]
        for packed in (whole, without)
    ]
    torch.testing.assert_close(*outs, rtol=1e-10, atol=1e-10)
    parameters = list(model.parameters())
    for a, b in zip(
        *(torch.autograd.grad(x.square().sum(), parameters) for x in outs), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_without_masks_it_is_attention_to_all():
    model = encoder()
    views = [torch.randn(2, 24, 5, 3).double()]
    packed = model.pack(views, [None], [True])
    assert packed.visible is None and packed.index is None  # noqa: PT018
    got = model.encode_packed(views, [None])[0]
    model.config = EncoderConfig(width=16, depth=3, heads=2, registers=2)
    assert torch.equal(got, model.encode_packed(views, [None])[0])


def test_packing_without_tokens_says_where_the_others_lie():
    # (2, T = 2, V = 2)
    mask = torch.tensor([[[True, False], [True, True]], [[False, False], [False, True]]])
    packed = pack_sequences(((2, 2),), 1, 2, torch.device("cpu")).restrict_keys([mask], [True])
    assert packed.cu_seqlens.tolist() == [0, 2, 6]
    assert packed.index.tolist() == [0, 2, 5, 6, 7, 8]
    assert packed.time.tolist() == [-1, 0, -1, 0, 0, 1]
    assert packed.cls_rows.tolist() == [0, 2]
    assert packed.visible.all()
    assert packed.max_seqlen == 5


@pytest.mark.parametrize("everything", [True, False])
def test_all_or_nothing_masked(everything):
    model = encoder()
    views = [torch.randn(2, 16, 5, 3).double()]
    mask = torch.full((2, 2, 5), everything)
    packed = model.pack(views, [mask], [True])
    out, _ = model.encode_packed(views, [mask], packed, packed.select([None]))
    assert out.isfinite().all()
    assert len(packed.time) == (2 * 3 if everything else 2 * 13)


def test_the_objective_is_the_same_whether_tokens_are_left_out_or_not(make_views, monkeypatch):
    config = ModelConfig(encoder=CONFIG, head=HeadConfig(hidden=16, bottleneck=8, prototypes=20))
    model = noisy(SLiM(config, 5, 3)).double()
    views = make_views(dtype=torch.float64)
    packing_of = Encoder.pack

    def keep_all(
        self: Encoder,
        views: Sequence[Tensor],
        masks: Sequence[Tensor | None] | None = None,
        drop_masked: Sequence[bool] | None = None,
    ) -> Packing:
        return packing_of(self, views, masks, None)

    losses = [model(views, 0.05)]
    monkeypatch.setattr(Encoder, "pack", keep_all)
    losses.append(model(views, 0.05))
    for name in losses[0]:
        torch.testing.assert_close(losses[0][name], losses[1][name], rtol=1e-10, atol=1e-10)
    parameters = list(model.student.parameters())
    both = (torch.autograd.grad(terms["loss"], parameters, allow_unused=True) for terms in losses)
    for a, b in zip(*both, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


def test_an_unknown_kind_of_attention_is_refused():
    with pytest.raises(UserError, match="attention='some'"):
        EncoderConfig(attention="some")

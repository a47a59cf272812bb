"""Layers that were replaced, wrapped, hooked or reparametrised do what they do in any nn.Module."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils import parametrizations

from slim_fast.model.encoder import Encoder
from slim_fast.model.frozen import freeze
from tests.model.changed_layers import JOINTS, OTHER, encoder, of_linears, put


def inputs() -> tuple[list[Tensor], list[Tensor | None]]:
    views = [
        torch.randn(n, t, JOINTS, 3, dtype=torch.float64) for n, t in ((2, 32), (3, 16), (1, 8))
    ]
    return views, [torch.rand(2, 4, JOINTS) < 0.5, None, torch.rand(1, 1, JOINTS) < 0.5]


def answers(model: Encoder, views: list[Tensor], masks: list[Tensor | None]) -> list[Tensor]:
    """Of every token, and of those that are read."""
    packed = model.pack(views, masks)
    read = packed.select([None] * len(views))
    return [model.encode_packed(views, masks, packed, rows)[0] for rows in (None, read)]


ALIKE: dict[str, Callable[[Encoder], Any]] = {  # changes that change no answer
    "forward hooks": lambda m: [x.register_forward_hook(lambda *_: None) for x in m.modules()],
    "forward pre-hooks": lambda m: [
        x.register_forward_pre_hook(lambda *_: None) for x in m.modules()
    ],
    "backward hooks": lambda m: [
        x.register_full_backward_hook(lambda *_: None) for x in m.modules()
    ],
    "backward pre-hooks": lambda m: [
        x.register_full_backward_pre_hook(lambda *_: None) for x in m.modules()
    ],
    "weight_norm": of_linears(parametrizations.weight_norm),
    "checkpointed blocks": lambda m: [
        setattr(m.blocks, str(i), checkpoint_wrapper(b)) for i, b in enumerate(m.blocks)
    ],
    "checkpointed halves": lambda m: [put(path, checkpoint_wrapper)(m) for path in ("attn", "mlp")],
    "wrapped in Sequential": of_linears(lambda x: nn.Sequential(x, nn.Dropout(0.0))),
    "patch embedding in Sequential": lambda m: setattr(
        m, "patch_embed", nn.Sequential(m.patch_embed)
    ),
}


def eagerly(model: Encoder, clips: Tensor) -> Tensor:
    """Every token of clips (N, T, V, C), by calling each module as usual, written apart."""
    heads, half = model.config.heads, model.config.width // model.config.heads // 2
    patches = model.patch_embed(clips) + model.pos_embed[0, 1:]  # (N, T / 8, V, D)
    n, times = patches.shape[:2]
    cls = (model.cls_token + model.pos_embed[:, :1]).expand(n, -1, -1)
    h = torch.cat([cls, model.register_tokens.expand(n, -1, -1), patches.flatten(1, 2)], 1)
    when = torch.cat(
        [torch.zeros(1 + model.config.registers), torch.arange(times).repeat_interleave(JOINTS)]
    ).double()
    angle = when[:, None] * 10000.0 ** (-torch.arange(half).double() / half)

    class Turned:
        def attend(self, qkv: Tensor, _: int) -> Tensor:
            q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in qkv.chunk(3, -1))
            q, k = (
                torch.cat(
                    [a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1
                )
                for a, b in (x.chunk(2, -1) for x in (q, k))
            )
            shares = (q @ k.transpose(-1, -2) / (2 * half) ** 0.5).softmax(-1)
            return (shares @ v).transpose(1, 2).flatten(2)

    for block in model.blocks:
        h = h + block.attn(block.norm1(h), Turned())
        h = h + block.mlp(block.norm2(h))
    return model.norm(h)


@pytest.mark.parametrize("attention", ["all", "visible"])
@pytest.mark.parametrize("change", ALIKE)
def test_calling_layers_answers_as_the_fused_operations_do(change, attention):
    ours, (views, masks) = encoder(attention), inputs()
    called = copy.deepcopy(ours)
    ALIKE[change](called)
    pairs = list(zip(answers(ours, views, masks), answers(called, views, masks), strict=True))
    for want, got in pairs:
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    grads = []
    for number, model in enumerate((ours, called)):
        sum(pair[number].square().sum() for pair in pairs).backward()  # type: ignore[union-attr]
        grads.append(
            torch.stack(
                [
                    model.pos_embed.grad.sum(),
                    model.mask_token.grad.sum(),
                    model.cls_token.grad.sum(),
                ]
            )
        )
    torch.testing.assert_close(*grads, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("change", OTHER)
def test_changed_layers_have_their_effect_and_learn(change):
    ours = encoder().eval()
    changed = copy.deepcopy(ours)
    OTHER[change](changed)
    clips = torch.randn(2, 16, JOINTS, 3, dtype=torch.float64)
    got = changed.encode_packed([clips], [None])[0]
    torch.testing.assert_close(got.view(2, 13, 16), eagerly(changed, clips), rtol=1e-9, atol=1e-9)
    before = ours.encode_packed([clips], [None])[0]
    assert (got - before).norm() > 1e-3 * before.norm()
    got.square().sum().backward()
    idle = {name for name, p in changed.named_parameters() if p.grad is None}
    assert not idle


@pytest.mark.parametrize("change", [*ALIKE, *OTHER])
def test_frozen_they_answer_the_same(change):
    model = encoder().eval()
    {**ALIKE, **OTHER}[change](model)
    clips = torch.randn(2, 16, JOINTS, 3, dtype=torch.float64)
    with torch.no_grad():  # else hooks that recompute weights leave ones that can't be copied
        want = model.encode_packed([clips], [None])[0]
        got = freeze(model).encode_packed([clips], [None])[0]
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_in_bfloat16_autocast_called_layers_answer_as_fused_ones():
    model = encoder(dtype=torch.float32)
    called, clips = copy.deepcopy(model), torch.randn(2, 16, JOINTS, 3)
    ALIKE["forward hooks"](called)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        want, got = (m.encode_packed([clips], [None])[0] for m in (model, called))
    assert (got - want).norm() < 0.03 * want.norm()

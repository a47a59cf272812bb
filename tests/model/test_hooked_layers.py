"""Hooks, compilation, quantisation and saving of encoders whose layers were changed."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import prune

from slim_fast.errors import UserError
from slim_fast.model import packing
from slim_fast.model.block import SwiGLU, is_plain, is_plain_patch_embed
from slim_fast.model.encoder import Encoder
from slim_fast.model.files import save_encoder
from slim_fast.model.frozen import freeze
from tests.model.changed_layers import JOINTS, OTHER, each_linear, encoder


def test_hooks_fire_on_every_module_frozen_ones_too():
    model, fired = encoder(), []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: fired.append(name))
    wanted = {
        name for name, x in model.named_modules() if not isinstance(x, Encoder | nn.ModuleList)
    }
    clips = torch.randn(2, 16, JOINTS, 3, dtype=torch.float64)
    for asked in (model, copy.deepcopy(model), freeze(model)):
        fired.clear()
        asked.encode_packed([clips], [None])
        assert sorted(fired) == sorted(wanted)


def test_a_hook_on_a_block_or_a_half_alone_is_no_less():
    clips = torch.randn(2, 16, JOINTS, 3, dtype=torch.float64)
    for name in ("blocks.1", "blocks.1.attn", "blocks.1.mlp", "blocks.1.norm2", "patch_embed"):
        model = encoder()
        before = model.encode_packed([clips], [None])[0]
        model.get_submodule(name).register_forward_hook(lambda _, __, out: 2 * out)
        after, frozen = (m.encode_packed([clips], [None])[0] for m in (model, freeze(model)))
        assert (after - before).norm() > 1e-3 * before.norm(), name
        torch.testing.assert_close(frozen, after, rtol=1e-9, atol=1e-9)


def test_hooks_on_all_modules_of_the_process():
    model, seen = encoder(), []
    handle = register_module_forward_hook(lambda module, *_: seen.append(type(module).__name__))
    try:
        model.encode_packed([torch.randn(2, 16, JOINTS, 3, dtype=torch.float64)], [None])
    finally:
        handle.remove()
    assert {name: seen.count(name) for name in set(seen)} == {
        "Block": 3,
        "Attention": 3,
        "SwiGLU": 3,
        "Linear": 12,
        "LayerNorm": 7,
        "PatchEmbed": 1,
        "Conv2d": 1,
    }


def test_backward_hooks_see_gradients():
    model, seen = encoder(), {}
    for name, module in model.blocks[1].named_modules():
        module.register_full_backward_hook(
            lambda _, __, grads, name=name: seen.update({name: grads[0]})
        )
    model.encode_packed([torch.randn(2, 16, JOINTS, 3, dtype=torch.float64)], [None])[
        0
    ].square().sum().backward()
    assert seen.keys() == {
        "",
        "attn",
        "attn.qkv",
        "attn.proj",
        "mlp",
        "mlp.w12",
        "mlp.w3",
        "norm1",
        "norm2",
    }
    assert all(grad.any() for grad in seen.values())


@pytest.mark.parametrize("change", ["LoRA", "parametrize", "RMSNorm"])
def test_changed_layers_compile_in_one_graph(change):
    model, clips = encoder(), torch.randn(2, 16, JOINTS, 3, dtype=torch.float64)
    OTHER[change](model)
    run = torch.compile(
        lambda x: model.encode_packed([x], [None])[0], fullgraph=True, backend="aot_eager"
    )
    torch.testing.assert_close(
        run(clips), model.encode_packed([clips], [None])[0], rtol=1e-9, atol=1e-9
    )


def test_dynamic_quantisation_has_its_effect():
    model = encoder(dtype=torch.float32).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch deprecates it
        quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    assert type(quantised.blocks[0].attn.qkv) is not nn.Linear
    clips = torch.randn(2, 16, JOINTS, 3)
    want, got = (m.encode_packed([clips], [None])[0] for m in (model, quantised))
    assert 1e-4 < (got - want).norm() / want.norm() < 0.1


def test_what_recomputes_weights_is_refused_where_it_cannot_be_copied():
    model = encoder()
    OTHER["pruning"](model)
    model.encode_packed([torch.randn(2, 16, JOINTS, 3, dtype=torch.float64)], [None])
    with pytest.raises(UserError, match=r"can't be copied as it is.*prune\.remove"):
        freeze(model)
    each_linear(model, lambda x: prune.remove(x, "weight") and None)
    freeze(model)


@pytest.mark.parametrize("change", ["LoRA", "pruning", "parametrize", "RMSNorm"])
def test_the_public_format_takes_no_changed_layers(change, tmp_path):
    model = encoder()
    OTHER[change](model)
    with pytest.raises(UserError, match=r"can't hold this encoder.*blocks\.0\..*merge or remove"):
        save_encoder(model, tmp_path / "encoder", JOINTS, "xyz")
    assert not (tmp_path / "encoder").exists()


def test_a_patch_embedding_of_another_grid_is_refused():
    model = encoder()
    model.patch_embed.proj.stride = (4, 1)
    with pytest.raises(UserError, match=r"gives \(2, 3, 5, 16\) instead of \(2, 2, 5, 16\)"):
        model.encode_packed([torch.randn(2, 16, JOINTS, 3, dtype=torch.float64)], [None])


def test_plain_layers_take_the_fused_operations(monkeypatch):
    model = encoder()
    assert all(map(is_plain, model.blocks))
    assert is_plain_patch_embed(model.patch_embed)
    monkeypatch.setattr(packing, "packed_attention", None)  # what a called attention computes with
    clips = torch.randn(2, 16, JOINTS, 3, dtype=torch.float64)
    before = model.encode_packed([clips], [None])[0]
    monkeypatch.undo()
    monkeypatch.setattr(SwiGLU, "forward", lambda _, x: 2 * x)  # as some tools do to a whole class
    assert (model.encode_packed([clips], [None])[0] - before).norm() > 1e-3 * before.norm()

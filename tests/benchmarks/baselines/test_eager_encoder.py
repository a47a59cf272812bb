"""The eager encoder is the published one: otherwise being faster would mean nothing."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.baselines.eager_encoder import Encoder

PARITY = (
    Path(os.environ.get("SLIM_FAST_SHARED", Path(__file__).resolve().parents[4] / "shared"))
    / "parity"
)


def test_encoder_has_the_published_size():
    assert sum(p.numel() for p in Encoder().parameters()) == 6_368_768


def test_encoder_equals_its_formula_in_float64():
    """For one clip and one block: rotations as complex numbers, attention head by head."""
    encoder = Encoder(joints=3, width=8, depth=1, heads=2, registers=2).double()
    for p in encoder.parameters():
        p.data = torch.randn_like(p)
    w = {name: p.detach().numpy() for name, p in encoder.named_parameters()}
    rng = np.random.default_rng(0)
    clip, mask = rng.normal(size=(16, 3, 3)), np.array([[True, False, True], [False, False, True]])

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"blocks.0.{name}.weight"].T + w[f"blocks.0.{name}.bias"]

    patches = np.stack(
        [
            w["mask_token"][0]
            if mask[t, v]
            else np.einsum(
                "fc,dcf->d", clip[8 * t : 8 * t + 8, v], w["patch_embed.proj.weight"][..., 0]
            )
            + w["patch_embed.proj.bias"]
            for t in range(2)
            for v in range(3)
        ]
    )
    patches += np.tile(w["pos_embed"][0, 1:], (2, 1))
    x = np.concatenate(
        [w["cls_token"][0] + w["pos_embed"][0, :1], w["register_tokens"][0], patches]
    )
    q, k, v = (
        linear(norm(x, "blocks.0.norm1"), "attn.qkv").reshape(9, 3, 2, 4).transpose(1, 2, 0, 3)
    )
    rotation = np.exp(1j * np.outer([0, 0, 0, 0, 0, 0, 1, 1, 1], [1, 10000 ** (-1 / 2)]))
    q, k = ((y[..., :2] + 1j * y[..., 2:]) * rotation for y in (q, k))
    attention = np.exp((q @ k.conj().transpose(0, 2, 1)).real / 2)
    attention /= attention.sum(-1, keepdims=True)
    x = x + linear((attention @ v).transpose(1, 0, 2).reshape(9, 8), "attn.proj")
    gate, value = np.split(linear(norm(x, "blocks.0.norm2"), "mlp.w12"), 2, axis=1)
    x = x + linear(gate / (1 + np.exp(-gate)) * value, "mlp.w3")
    with torch.no_grad():
        got = encoder(torch.from_numpy(clip)[None], torch.from_numpy(mask)[None])[0]
    # The rotation is done in fp32, as in the released encoders.
    np.testing.assert_allclose(got.numpy(), norm(x, "norm"), atol=1e-5)


@pytest.mark.parametrize("frames", [64, 32, 8])
def test_encoder_reproduces_the_parity_fixture(frames):
    safetensors = pytest.importorskip("safetensors.torch")
    if not PARITY.is_dir():
        pytest.skip("../shared/parity is missing")
    config = json.loads((PARITY / "config.json").read_text())
    encoder = Encoder(joints=config["img_size"][1], registers=config["num_register_tokens"]).eval()
    encoder.load_state_dict(safetensors.load_file(PARITY / "model.safetensors"))
    with np.load(PARITY / "expected.npz") as file:
        expected = {name: torch.from_numpy(file[name]) for name in file}

    clips = expected[f"clips_{frames}"].permute(0, 4, 2, 3, 1).flatten(0, 1)  # (B * M, T, V, C)
    with torch.no_grad():
        pairs = [
            (got, expected[f"{kind}_{frames}_{i}"])
            for i, block in enumerate(encoder.encode_last_blocks(clips, 4))
            for got, kind in zip(block, ("patch", "cls"), strict=True)
        ]
        mask = expected[f"mask_{frames}"].view(len(clips), frames // 8, -1)
        patch, cls = encoder.encode_last_blocks(clips, 1, mask)[0]
    pairs += [(patch, expected[f"masked_patch_{frames}"]), (cls, expected[f"masked_cls_{frames}"])]
    for got, want in pairs:
        assert (got - want).norm() / want.norm() < 1e-4

"""The masked autoencoder's loss equals a plain float64 computation, one view after the other."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.baselines import mae as baseline
from slim_fast.model.encoder import EncoderConfig
from slim_fast.model.mae import MAEConfig, MaskedAutoencoder

SIZES = EncoderConfig(width=16, depth=2, heads=2, registers=2)
JOINTS = 5


def make(**changes) -> MaskedAutoencoder:
    """A float64 model whose weights are none of the initial ones."""
    model = MaskedAutoencoder(SIZES, MAEConfig(decoder_depth=2, **changes), JOINTS, 3).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model


def rotate(x: Tensor, time: Tensor) -> Tensor:
    """Rotary embedding of x (H, N, d) at time (N,); -1: none."""
    half = x.shape[-1] // 2
    angle = time.clamp(min=0)[:, None] * 10000.0 ** (-torch.arange(half, dtype=x.dtype) / half)
    first, second = x[..., :half], x[..., half:]
    turned = first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()
    return torch.cat(turned, -1)


def run_block(block: nn.Module, x: Tensor, time: Tensor) -> Tensor:
    """A block on one sequence (N, D)."""
    qkv = block.attn.qkv(block.norm1(x)).view(len(x), 3, SIZES.heads, -1).permute(1, 2, 0, 3)
    q, k, v = rotate(qkv[0], time), rotate(qkv[1], time), qkv[2]
    weights = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1)
    x = x + block.attn.proj((weights @ v).transpose(0, 1).flatten(1))
    gate, value = block.mlp.w12(block.norm2(x)).chunk(2, -1)
    return x + block.mlp.w3(F.silu(gate) * value)


def plain_errors(model: MaskedAutoencoder, clip: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Squared errors at the masked tokens of one view (T, V, C), and which of them count."""
    encoder, decoder, times = model.encoder, model.decoder, len(clip) // 8
    prefix = torch.cat(
        [encoder.cls_token[0] + encoder.pos_embed[0, :1], encoder.register_tokens[0]]
    )
    tokens, places, targets, counted = [], [], [], []
    for t in range(times):
        for v in range(JOINTS):
            joint, first = clip[:, v], 8 * t
            weight = encoder.patch_embed.proj.weight[..., 0]  # (D, C, 8)
            patch = torch.einsum("dct,tc->d", weight, joint[first : first + 8])
            token = patch + encoder.patch_embed.proj.bias + encoder.pos_embed[0, 1 + v]
            places.append((t, v))
            tokens.append(token)
            target, known = [], []
            for frame in range(first, first + 8):
                seen = bool(joint[frame].any())
                value = joint[frame]
                if model.config.target == "motion":
                    later = min(frame + 1, len(joint) - 1)
                    value, seen = joint[later] - joint[frame], seen and bool(joint[later].any())
                target.append(value)
                known.append(torch.full((3,), float(seen)))
            numbers = torch.cat(target)
            if model.config.normalised:
                spread = numbers.var(correction=0)
                numbers = (numbers - numbers.mean()) / (spread + 1e-6).sqrt()
            targets.append(numbers)
            counted.append(torch.cat(known))
    hidden = mask.flatten()
    visible = [number for number in range(len(tokens)) if not hidden[number]]
    time = torch.tensor([-1] * len(prefix) + [places[number][0] for number in visible])
    x = torch.cat([prefix, *(tokens[number][None] for number in visible)])
    for block in encoder.blocks:
        x = run_block(block, x, time)
    encoded = decoder.embed(encoder.norm(x))
    rows = [*encoded[: len(prefix)]]
    for number, (_, v) in enumerate(places):
        row = decoder.mask_token[0]
        if number in visible:
            row = encoded[len(prefix) + visible.index(number)]
        rows.append(row + decoder.pos_embed[v])
    time = torch.tensor([-1] * len(prefix) + [t for t, _ in places])
    x = torch.stack(rows)
    for block in decoder.blocks:
        x = run_block(block, x, time)
    predicted = decoder.head(decoder.norm(x))[len(prefix) :]
    errors = (predicted - torch.stack(targets)).square()
    return errors[hidden], torch.stack(counted)[hidden]


@pytest.mark.parametrize("target", ["motion", "coordinates"])
@pytest.mark.parametrize("normalised", [True, False])
def test_the_loss_is_the_plain_one(target, normalised, make_views):
    model = make(target=target, normalised=normalised)
    views = make_views(2, JOINTS, {32: 2, 16: 2}, masked=1.0, dtype=torch.float64)
    clips, masks = views.groups[0].clips.flatten(0, 1), views.groups[0].mask.flatten(0, 1)
    clips[0, 3:14, 2] = 0  # not detected
    clips[2, :, 4] = 0
    masks[1] = torch.arange(JOINTS) > 0  # a view with another number of visible tokens
    parts = [plain_errors(model, clip, mask) for clip, mask in zip(clips, masks, strict=True)]
    errors, counted = (torch.cat(part) for part in zip(*parts, strict=True))
    expected = (errors * counted).sum() / counted.sum()
    views.groups[0].clips, views.groups[0].mask = (
        clips.unflatten(0, (2, 2)),
        masks.unflatten(0, (2, 2)),
    )
    losses = model.losses(views, None)
    assert list(losses) == ["loss"]
    torch.testing.assert_close(losses["loss"], expected, rtol=1e-10, atol=0)
    assert 0 < counted.mean() < 1
    got = torch.autograd.grad(losses["loss"], list(model.parameters()), allow_unused=True)
    wanted = torch.autograd.grad(expected, list(model.parameters()), allow_unused=True)
    for (name, _), ours, plain in zip(model.named_parameters(), got, wanted, strict=True):
        if name == "encoder.mask_token":  # the encoder sees visible tokens alone
            assert ours is None or not ours.any()
        else:
            torch.testing.assert_close(ours, plain, rtol=1e-8, atol=1e-12)
            assert ours.abs().sum() > 0, name


def test_predictions_see_nothing_of_masked_tokens(make_views):
    model, group = make(), make_views(3, JOINTS, {32: 2}, 1.0, torch.float64).groups[0]
    clips, mask = group.clips.flatten(0, 1), group.mask.flatten(0, 1)
    masked = mask.flatten().nonzero()[:, 0]
    hidden = mask.repeat_interleave(8, 1)[..., None]
    before = model.predict(clips, mask, masked)
    assert torch.equal(model.predict(clips + 3.0 * hidden, mask, masked), before)
    assert not torch.allclose(model.predict(clips + 3.0 * ~hidden, mask, masked), before)


@pytest.mark.parametrize("target", ["motion", "coordinates"])
@pytest.mark.parametrize("normalised", [True, False])
def test_targets_are_those_of_the_published_baseline(target, normalised):
    sizes = baseline.MAEConfig(
        frames=32,
        joints=JOINTS,
        patch_frames=8,
        width=16,
        depth=1,
        heads=1,
        target=target,
        normalised=normalised,
    )
    clips = torch.randn(3, 32, JOINTS, 3, dtype=torch.float64)
    targets, known = make(target=target, normalised=normalised).targets(clips)
    torch.testing.assert_close(targets, baseline.MaskedAutoencoder(sizes).targets(clips))
    assert known.all()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_views_without_a_masked_or_a_visible_token_give_a_number(share, make_views):
    model, group = make(), make_views(2, JOINTS, {16: 2}, 1.0, torch.float64).groups[0]
    mask = torch.full_like(group.mask.flatten(0, 1), bool(share))
    loss = model(group.clips.flatten(0, 1), mask)
    loss.backward()
    assert loss.isfinite()
    assert (loss == 0) == (share == 0)

"""The encoder against an independent one and against itself: packing, masks, partial reading."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.baselines import eager_encoder
from slim_fast.errors import UserError
from slim_fast.model.encoder import Encoder, EncoderConfig
from slim_fast.model.packing import masked_indices, pack_sequences

SMALL = EncoderConfig(width=16, depth=3, heads=2, registers=2)


def noisy(module: torch.nn.Module, scale: float = 0.3) -> torch.nn.Module:
    """Weights of a size at which every part matters."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += scale * torch.randn_like(parameter)
    return module


def groups(
    joints: int = 5, dtype: torch.dtype = torch.float64
) -> tuple[list[Tensor], list[Tensor | None]]:
    views = [
        torch.randn(n, t, joints, 3, dtype=dtype) for n, t in ((2, 64), (3, 16), (1, 8), (2, 32))
    ]
    masks = [torch.rand(len(v), v.shape[1] // 8, joints) < 0.5 for v in views]
    return views, [masks[0], None, *masks[2:]]


def test_the_published_encoder_has_6_368_768_parameters():
    encoder = Encoder(EncoderConfig())
    assert sum(p.numel() for p in encoder.parameters()) == 6_368_768
    assert EncoderConfig().hidden == 688


def test_names_and_shapes_are_the_public_checkpoints():
    shapes = {name: tuple(t.shape) for name, t in Encoder(EncoderConfig()).state_dict().items()}
    expected: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, 256),
        "pos_embed": (1, 26, 256),
        "register_tokens": (1, 4, 256),
        "mask_token": (1, 256),
        "patch_embed.proj.weight": (256, 3, 8, 1),
        "patch_embed.proj.bias": (256,),
        "norm.weight": (256,),
        "norm.bias": (256,),
    }
    linear = {
        "attn.qkv": (768, 256),
        "attn.proj": (256, 256),
        "mlp.w12": (1376, 256),
        "mlp.w3": (256, 688),
    }
    for i in range(8):
        for name, shape in linear.items():
            expected |= {f"blocks.{i}.{name}.weight": shape, f"blocks.{i}.{name}.bias": shape[:1]}
        for norm in ("norm1", "norm2"):
            expected |= {f"blocks.{i}.{norm}.weight": (256,), f"blocks.{i}.{norm}.bias": (256,)}
    assert shapes == expected


def test_initial_weights():
    encoder = Encoder(EncoderConfig())
    for name, parameter in encoder.named_parameters():
        if name.endswith("bias") or name == "mask_token":
            assert not parameter.any(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        elif name in ("cls_token", "register_tokens"):
            assert 3e-7 < parameter.std() < 3e-6, name
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1), name


def test_unmasked_and_masked_features_equal_the_independent_encoder():
    ours = noisy(Encoder(SMALL, joints=5))
    theirs = eager_encoder.Encoder(joints=5, width=16, depth=3, heads=2, registers=2)
    theirs.load_state_dict(ours.state_dict())
    views, masks = groups(dtype=torch.float32)
    features, packed = ours.encode_packed(views, masks)
    sequences = features.split(packed.cu_seqlens.diff().tolist())
    expected = [s for v, m in zip(views, masks, strict=True) for s in theirs(v, m)]
    for got, want in zip(sequences, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    for (patches, cls), (want_patches, want_cls) in zip(
        ours.encode_last_blocks(views[0], masks[0], 3),
        theirs.encode_last_blocks(views[0], 3, masks[0]),
        strict=True,
    ):
        torch.testing.assert_close(patches, want_patches, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(cls, want_cls, rtol=1e-4, atol=1e-4)


def test_groups_packed_together_equal_separate_passes():
    encoder = noisy(Encoder(SMALL, joints=5)).double()
    views, masks = groups()
    together, packed = encoder.encode_packed(views, masks)
    apart = torch.cat(
        [encoder.encode_packed([v], [m])[0] for v, m in zip(views, masks, strict=True)]
    )
    torch.testing.assert_close(together, apart, rtol=1e-10, atol=1e-10)
    one_by_one = [
        encoder.encode_packed([v[i : i + 1]], [None if m is None else m[i : i + 1]])[0]
        for v, m in zip(views, masks, strict=True)
        for i in range(len(v))
    ]
    torch.testing.assert_close(together, torch.cat(one_by_one), rtol=1e-10, atol=1e-10)
    assert len(together) == packed.cu_seqlens[-1] == 2 * 43 + 3 * 13 + 8 + 2 * 23


def test_rows_that_are_read_equal_the_full_pass_and_so_do_their_gradients():
    encoder = noisy(Encoder(SMALL, joints=5)).double()
    views, masks = groups()
    full, packed = encoder.encode_packed(views, masks)
    hidden = [None, torch.rand(len(views[1]), 10) < 0.4, *[None] * (len(views) - 2)]
    hidden[1][0] = False
    chosen = [None if mask is None else masked_indices(mask, None)[0] for mask in hidden]
    for read in (packed.select(chosen), packed.select([None] * len(views))):
        some, _ = encoder.encode_packed(views, masks, selection=read)
        torch.testing.assert_close(some, full[read.rows], rtol=1e-10, atol=1e-10)
        upstream = torch.randn_like(some)
        parameters = list(encoder.parameters())
        outputs = (full[read.rows], some)
        grads = [
            torch.autograd.grad((x * upstream).sum(), parameters, retain_graph=True)
            for x in outputs
        ]
        for a, b in zip(*grads, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


def test_masked_coordinates_are_not_read():
    encoder = noisy(Encoder(SMALL, joints=5))
    clips, mask = torch.randn(4, 32, 5, 3), torch.rand(4, 4, 5) < 0.5
    changed = torch.where(mask.repeat_interleave(8, 1)[..., None], torch.randn_like(clips), clips)
    before, after = (encoder.encode_packed([x], [mask])[0] for x in (clips, changed))
    assert torch.equal(before, after)
    assert not torch.equal(before, encoder.encode_packed([clips], [None])[0])


def test_the_mask_token_and_every_joint_get_a_gradient():
    encoder = noisy(Encoder(SMALL, joints=5))
    views, masks = groups(dtype=torch.float32)
    encoder.encode_packed(views, masks)[0].square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    assert encoder.pos_embed.grad.abs().amax(-1).min() > 0


def test_layers_of_several_lengths_are_each_ones_own():
    encoder = noisy(Encoder(SMALL, joints=5))
    clips = [torch.randn(2, 16, 5, 3), torch.randn(3, 8, 5, 3), torch.zeros(0, 8, 5, 3)]
    first, last = encoder.encode_layers(clips, [None] * 3, (0, SMALL.depth - 1))
    final, packed = encoder.encode_packed(clips, [None] * 3)
    torch.testing.assert_close(torch.cat([x.flatten(0, 1) for x in last]), final)
    assert [x.shape for x in first] == [(n, packed.prefix + t * 5, 16) for n, t in packed.groups]
    raw = encoder.encode_layers(clips[:1], [None], (0,), norm=False)[0][0]
    torch.testing.assert_close(encoder.norm(raw), first[0])


def test_any_number_of_channels_and_no_registers():
    encoder = noisy(
        Encoder(EncoderConfig(width=8, depth=1, heads=2, registers=0), joints=3, channels=4)
    )
    theirs = eager_encoder.Encoder(joints=3, channels=4, width=8, depth=1, heads=2, registers=0)
    theirs.load_state_dict(encoder.state_dict())
    clips = torch.randn(2, 16, 3, 4)
    torch.testing.assert_close(
        encoder.encode_packed([clips], [None])[0].view(2, 7, 8), theirs(clips), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("shape", [(2, 12, 5, 3), (2, 16, 4, 3), (2, 16, 5, 2)])
def test_clips_that_do_not_fit_are_refused(shape):
    with pytest.raises(UserError, match="The encoder takes clips"):
        Encoder(SMALL, joints=5).encode_packed([torch.zeros(shape)], [None])


@pytest.mark.parametrize(
    "sizes", [{"width": 10, "heads": 4}, {"width": 12, "heads": 4}, {"heads": 0}, {"width": 0}]
)
def test_sizes_that_do_not_fit_are_refused(sizes):
    with pytest.raises(UserError, match="even whole number"):
        EncoderConfig(**sizes)


def test_packing_says_where_everything_lies():
    packed = pack_sequences(((2, 2), (1, 1)), 3, 4, torch.device("cpu"))
    assert packed.cu_seqlens.tolist() == [0, 11, 22, 29]
    assert packed.cls_rows.tolist() == [0, 11, 22]
    assert packed.max_seqlen == 11
    one = [-1] * 3 + [0] * 4
    assert packed.time.tolist() == [*one, *[1] * 4] * 2 + one
    assert packed.time.dtype == packed.cu_seqlens.dtype == torch.int32
    assert packed.buckets == [2, 11, 1, 7]
    mask = torch.zeros(2, 8, dtype=torch.bool)
    mask[0, 7] = mask[1, 0] = mask[1, 3] = True
    places, real = masked_indices(mask, None)
    assert real is None
    one, both, none = (
        packed.select(m) for m in ([places, None], [places, torch.arange(4)], [None, None])
    )
    assert one.rows.tolist() == [0, 11, 22, 10, 14, 17]
    assert one.queries.tolist() == [11, 11, 1]
    assert both.rows.tolist() == [0, 11, 22, 10, 14, 17, 25, 26, 27, 28]
    assert both.queries.tolist() == [11, 11, 7]
    assert none.rows.tolist() == [0, 11, 22]
    assert none.queries.tolist() == [1, 1, 1]
    mask[0] = False
    assert packed.select([masked_indices(mask, None)[0], None]).queries.tolist() == [1, 11, 1]


@pytest.mark.parametrize("room", [3, 5, 16])
def test_masked_places_padded_to_a_fixed_number(room):
    mask = torch.zeros(2, 8, dtype=torch.bool)
    mask[0, 7] = mask[1, 0] = mask[1, 3] = True
    places, real = masked_indices(mask, room)
    assert places[:3].tolist() == masked_indices(mask, None)[0].tolist() == [7, 8, 11]
    assert len(set(places.tolist())) == room
    assert real.tolist() == [True] * 3 + [False] * (room - 3)


def test_nothing_to_pack():
    packed = pack_sequences((), 5, 25, torch.device("cpu"))
    assert packed.cu_seqlens.tolist() == [0]
    assert packed.max_seqlen == 0
    assert len(packed.time) == 0


def test_this_file_does_not_lean_on_the_encoder_it_tests():
    """The oracle is written apart: it imports nothing of the project."""
    source = Path(eager_encoder.__file__).read_text(encoding="utf-8")
    assert "slim_fast" not in source
    assert "slim_kernels" not in source


def test_the_patch_embedding_can_start_as_in_the_release():
    bound = (3 * 8) ** -0.5  # of PyTorch's convolutions
    conv = Encoder(EncoderConfig(width=64, depth=1, heads=2, patch_init="conv")).patch_embed.proj
    assert conv.weight.abs().max() <= bound
    assert conv.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
    assert conv.bias.any()
    normal = Encoder(EncoderConfig(width=64, depth=1, heads=2)).patch_embed.proj
    assert normal.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not normal.bias.any()
    with pytest.raises(UserError, match="patch_init='x' is not known: it is normal or conv"):
        EncoderConfig(patch_init="x")

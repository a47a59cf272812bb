"""The public interface: layouts, people, lengths, blocks, masks."""

import pytest
import torch

from slim_fast import SLiMEncoder, UserError
from slim_fast.interop.clips.people import resample

CLIPS = (2, 3, 16, 5, 3)


def crowd() -> torch.Tensor:
    """(2, 3, 16, 5, 3): of three places the second is empty in the first clip, the first and last
    in the other.
    """
    x = torch.randn(CLIPS)
    x[0, ..., 1] = x[1, ..., 0] = x[1, ..., 2] = 0
    return x


PRESENT = torch.tensor([[True, False, True], [False, True, False]])


def test_intermediate_layers_are_the_last_blocks_oldest_first(make_encoder):
    encoder = make_encoder()
    x = torch.randn(2, 3, 16, 5, 2)  # (B, C, T, V, M)
    clips = torch.stack([x[b, :, :, :, m].permute(1, 2, 0) for b in range(2) for m in range(2)])
    layers = encoder.get_intermediate_layers(x, 3, return_class_token=True)
    for (patches, cls), (want_patches, want_cls) in zip(
        layers, encoder.encode_last_blocks(clips, None, 3), strict=True
    ):
        assert torch.equal(patches, want_patches)
        assert torch.equal(cls, want_cls)
    final = encoder.encode_packed([clips], [None])[0].view(4, -1, 16)
    torch.testing.assert_close(layers[-1][0], final[:, 3:])
    torch.testing.assert_close(layers[-1][1], final[:, 0])
    assert not torch.allclose(layers[0][1], layers[1][1])
    (only,) = encoder.get_intermediate_layers(x)
    assert torch.equal(only, layers[-1][0])
    one_person = encoder.get_intermediate_layers(x[..., :1], 1)[0]
    torch.testing.assert_close(one_person, only[::2])


def test_blocks_by_number_as_a_grid_without_norm(make_encoder):
    encoder, x = make_encoder(), torch.randn(CLIPS)
    layers = encoder.get_intermediate_layers(x, 3)
    torch.testing.assert_close(encoder.get_intermediate_layers(x, [2, 0]), (layers[0], layers[2]))
    (grid,) = encoder.get_intermediate_layers(x, 1, reshape=True)
    assert grid.shape == (6, 16, 2, 5)  # (B * M, D, T / 8, V)
    torch.testing.assert_close(grid.flatten(2).transpose(1, 2), layers[2])
    (raw,) = encoder.get_intermediate_layers(x, [1], norm=False)
    torch.testing.assert_close(encoder.norm(raw), layers[1])
    for wrong in (0, 4, -1, [], [3], [-1]):
        with pytest.raises(UserError, match="names no blocks of this encoder's 3"):
            encoder.get_intermediate_layers(x, wrong)


def test_forward_features_and_forward_agree_with_the_layers(make_encoder):
    encoder, x = make_encoder(), torch.randn(CLIPS)
    mask = torch.rand(6, 10) < 0.5
    out = encoder.forward_features(x, mask)
    assert {k: tuple(v.shape) for k, v in out.items()} == {
        "x_norm_clstoken": (6, 16),
        "x_norm_regtokens": (6, 2, 16),
        "x_norm_patchtokens": (6, 10, 16),
        "x_prenorm": (6, 13, 16),
        "masks": (6, 10),
        "people": (2, 3),
    }
    flat = x.permute(0, 4, 2, 3, 1).flatten(0, 1)
    ((patches, cls),) = encoder.encode_last_blocks(flat, mask.view(6, 2, 5), 1)
    torch.testing.assert_close(out["x_norm_patchtokens"], patches)
    torch.testing.assert_close(out["x_norm_clstoken"], cls)
    torch.testing.assert_close(encoder.norm(out["x_prenorm"])[:, 1:3], out["x_norm_regtokens"])
    torch.testing.assert_close(encoder(x, mask), cls)
    torch.testing.assert_close(encoder(x, mask, is_training=True)["x_norm_patchtokens"], patches)
    assert not torch.allclose(encoder(x), cls)


def test_a_list_of_lengths_goes_in_one_pass(make_encoder):
    encoder = make_encoder()
    x = [crowd(), torch.randn(3, 3, 8, 5, 1)]
    masks = [torch.rand(6, 10) < 0.5, None]
    together = encoder(x, masks, is_training=True)
    for group, mask, out in zip(x, masks, together, strict=True):
        alone = encoder.forward_features(group, mask)
        for name in ("x_norm_clstoken", "x_norm_patchtokens", "x_prenorm"):
            torch.testing.assert_close(out[name], alone[name])
    with pytest.raises(UserError, match="is_training=True"):
        encoder(x)


@pytest.mark.parametrize("how", ["detected", "told"])
def test_empty_people_are_zeros_and_the_others_as_they_were(make_encoder, how):
    skipping, whole = make_encoder(), make_encoder(skip_empty=False)
    whole.load_state_dict(skipping.state_dict())
    x, mask = crowd(), torch.rand(6, 10) < 0.5
    told = None if how == "detected" else PRESENT
    here = PRESENT.flatten()
    for ask in (
        lambda e, p: e(x, mask, people=p),
        lambda e, p: e.forward_features(x, mask, p)["x_norm_patchtokens"],
        lambda e, p: e.get_intermediate_layers(x, 2, people=p)[0],
    ):
        got, want = ask(skipping, told), ask(whole, None)
        assert (got[here] - want[here]).norm() <= 1e-6 * want[here].norm()
        assert not got[~here].any()
        assert want[~here].any()
    assert torch.equal(skipping.forward_features(x)["people"], PRESENT)
    assert whole.forward_features(x)["people"].all()


def test_empty_people_cost_nothing(make_encoder, monkeypatch):
    encoder, seen = make_encoder(), []
    embed = encoder.embed
    monkeypatch.setattr(
        encoder, "embed", lambda views, *more: (seen.append(len(views[0])), embed(views, *more))[1]
    )
    encoder(crowd())
    encoder(torch.zeros(CLIPS))
    assert seen == [3, 0]
    assert not encoder(torch.zeros(CLIPS)).any()


def test_a_confidence_alone_is_nobody(make_encoder):
    encoder = make_encoder(channels="xyc")
    x = torch.zeros(1, 3, 8, 5, 2)
    x[:, 2] = 0.7
    x[0, 0, 3, 1, 1] = 1
    assert encoder.forward_features(x)["people"].tolist() == [[False, True]]


def test_gradients_pass_through_people(make_encoder):
    encoder, x = make_encoder().train(), crowd().requires_grad_()
    encoder(x).square().sum().backward()
    given = x.grad.abs().amax((1, 2, 3)) > 0
    assert torch.equal(given, PRESENT)
    assert all(p.grad is not None for n, p in encoder.named_parameters() if n != "mask_token")


def test_other_lengths_are_refused_or_resampled(make_encoder):
    encoder = make_encoder()
    with pytest.raises(UserError, match=r"multiple of 8 frames; got T=20\. .*resample=True"):
        encoder(torch.randn(2, 3, 20, 5, 1))
    with pytest.raises(UserError, match="got T=0"):
        encoder(torch.randn(2, 3, 0, 5, 1))
    encoder.resample = True
    for frames, tokens in ((16, 2), (20, 2), (21, 3), (3, 1), (1, 1), (100, 12)):
        x = torch.randn(2, 3, frames, 5, 1)
        got = encoder.get_intermediate_layers(x, 1, reshape=True)[0]
        assert got.shape[2] == tokens
        torch.testing.assert_close(
            got, encoder.get_intermediate_layers(resample(x, 8 * tokens, "xyz"), reshape=True)[0]
        )


def test_resampling_is_linear_and_keeps_absences_and_undetected_joints():
    ramp = torch.arange(10.0).view(1, 1, 10, 1, 1).expand(1, 2, 10, 3, 1) + 1
    up, down = resample(ramp, 20, "xy"), resample(ramp, 5, "xy")
    assert torch.equal(resample(ramp, 10, "xy"), ramp)
    torch.testing.assert_close(up[0, 0, 1:-1, 0, 0], (torch.arange(1, 19) + 0.5) / 2 + 0.5)
    torch.testing.assert_close(down[0, 0, :, 0, 0], torch.tensor([1.5, 3.5, 5.5, 7.5, 9.5]))
    x = torch.cat([torch.zeros(1, 3, 4, 5, 1), torch.full((1, 3, 4, 5, 1), 8.0)], 2)
    assert set(resample(x, 24, "xyz").unique().tolist()) == {0.0, 8.0}
    x = torch.full((1, 3, 4, 5, 1), 8.0)
    x[:, :2, 1:3, 2] = 0  # undetected for two frames, whatever its confidence
    assert set(resample(x, 24, "xyc")[:, :2].unique().tolist()) == {0.0, 8.0}


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((2, 1, 16, 5, 3), r"PYSKL's \(N, M, T, V, C\): pass x\.permute\(0, 4, 2, 3, 1\)"),
        ((2, 3, 16, 5), r"people missing: pass x\[\.\.\., None\]"),
        ((2, 16, 5, 3), r"people missing"),
        ((16, 5, 3), r"one clip \(T, V, C\)"),
        ((2, 16, 15), r"\(N, T, V \* C\)"),
        ((2, 3, 16, 17, 1), r"17 joints look like coco-17 or h36m-17: .*to_skeleton"),
        ((2, 2, 16, 5, 1), "It has 2 channels"),
        ((7,), r"got \(7,\)\."),
    ],
)
def test_wrong_layouts_are_recognised(make_encoder, shape, says):
    with pytest.raises(UserError, match=says):
        make_encoder()(torch.randn(shape))


def test_remedies_that_the_sentences_name_work(make_encoder):
    encoder, x = make_encoder(), torch.randn(2, 3, 16, 5, 1)
    want = encoder(x)
    torch.testing.assert_close(encoder(x.permute(0, 4, 2, 3, 1).permute(0, 4, 2, 3, 1)), want)
    torch.testing.assert_close(
        encoder(x[..., 0].permute(0, 2, 3, 1).permute(0, 3, 1, 2)[..., None]), want
    )
    torch.testing.assert_close(encoder(x.permute(0, 2, 3, 1, 4).permute(0, 3, 1, 2, 4)), want)
    rows = x[..., 0].permute(0, 2, 3, 1).flatten(2)  # (N, T, V * C)
    torch.testing.assert_close(
        encoder(rows.unflatten(2, (5, 3)).permute(0, 3, 1, 2)[..., None]), want
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"x": torch.zeros(CLIPS, dtype=torch.int32)}, "floating-point"),
        ({"x": [[1.0]]}, "is_training=True"),
        (
            {"x": torch.randn(CLIPS), "masks": torch.zeros(6, 9, dtype=torch.bool)},
            r"masks must be bool .*= \(6, 10\)",
        ),
        ({"x": torch.randn(CLIPS), "masks": torch.zeros(6, 10)}, "masks must be bool"),
        (
            {"x": torch.randn(CLIPS), "people": torch.ones(2, 2, dtype=torch.bool)},
            r"people must be bool .*\(2, 3\)",
        ),
        ({"x": torch.randn(CLIPS), "people": torch.ones(2, 3)}, "people must be bool"),
        ({"x": torch.randn(CLIPS, device="meta")}, r"on cpu but the clips are on meta"),
        ({"x": torch.randn(CLIPS), "people": PRESENT.to("meta")}, r"people are on meta"),
    ],
)
def test_bad_arguments(make_encoder, arguments, says):
    with pytest.raises(UserError, match=says):
        make_encoder()(**arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_optimized_it_answers_the_same(make_encoder, dtype):
    encoder, x = make_encoder(), crowd()
    fast = encoder.optimize(dtype)
    assert isinstance(fast, SLiMEncoder)
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    pairs = [
        (fast(x), encoder(x)),
        *zip(
            fast.get_intermediate_layers(x, 3), encoder.get_intermediate_layers(x, 3), strict=True
        ),
        (
            fast.forward_features(x)["x_norm_patchtokens"],
            encoder.forward_features(x)["x_norm_patchtokens"],
        ),
    ]
    for got, want in pairs:
        assert got.dtype == torch.float32
        assert not got.requires_grad
        assert (got - want).norm() <= tolerance * want.norm()
        assert not got[~PRESENT.flatten()].any()


def test_what_optimize_cannot_do_is_said(make_encoder):
    with pytest.raises(UserError, match="cuda_graphs=True needs the encoder on CUDA"):
        make_encoder().optimize(cuda_graphs=True)
    with pytest.raises(UserError, match="dtype='half'"):
        make_encoder().optimize("half")
    with pytest.raises(UserError, match="no floating-point"):
        make_encoder().optimize(torch.int8)


def test_who_was_seen_only_between_resampled_frames_is_nobody_everywhere(make_encoder):
    encoder = make_encoder(resample=True)
    x = torch.arange(5.0).view(1, 1, 1, 5, 1).repeat(1, 3, 100, 1, 2)
    kept = ((torch.arange(96) + 0.5) * (100 / 96) - 0.5).long()
    (between, *_) = sorted(set(range(100)) - set(kept.tolist()))
    x[..., 1] = 0
    x[:, :, between, :, 1] = x[:, :, between, :, 0]
    out = encoder.forward_features(x)
    assert out["people"].tolist() == [[True, False]]
    assert out["x_norm_clstoken"].any(1).tolist() == [True, False]


def test_a_frozen_copy_leaves_no_folder_behind(make_encoder, tmp_path):
    with pytest.raises(UserError, match="can't be saved"):
        make_encoder().optimize().save_pretrained(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()

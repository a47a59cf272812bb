"""to_skeleton: an encoder on clips that were changed, with weights that were changed alike, answers
as before.
"""

import runpy
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from slim_fast import SLiMClassifier, SLiMEncoder, UserError
from slim_fast.interop.transfer import axis_map
from slim_fast.model.encoder import EncoderConfig
from slim_fast.skeletons import get_topology, topology_names
from slim_fast.skeletons.topology import UP_AXES, Topology

KINECT, UTD, COCO, NTU = (
    get_topology(name) for name in ("kinect-v1-20", "utd-mhad-20", "coco-17", "ntu-25")
)
OWN = replace(KINECT, name="own")
EXAMPLE = Path(__file__).parents[2] / "examples" / "transfer.py"
# What a clip's x, y, z become when y up is turned to another axis; the person's left is where it
# was.
TURNS = {
    "y": lambda x, y, z: (x, y, z),
    "-y": lambda x, y, z: (x, -y, -z),
    "z": lambda x, y, z: (x, -z, y),
    "-z": lambda x, y, z: (x, z, -y),
}


def clips(joints: int, channels: str = "xyz") -> torch.Tensor:
    """(2, C, 16, V, 2), of which one person is absent."""
    x = torch.randn(2, len(channels), 16, joints, 2)
    if channels.endswith("c"):
        x[:, -1] = torch.rand_like(x[:, -1]) + 0.1
    x[1, ..., 1] = 0
    return x


def same(
    got: SLiMEncoder,
    x: torch.Tensor,
    want: SLiMEncoder,
    before: torch.Tensor,
    order: list[int] | None = None,
):
    """All tokens of `got` on x are those of `want` on the clips before; patches in another order of
    joints.
    """
    (patches, cls), (old_patches, old_cls) = (
        encoder.get_intermediate_layers(c, 1, reshape=True, return_class_token=True)[0]
        for encoder, c in ((got, x), (want, before))
    )
    torch.testing.assert_close(cls, old_cls, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        patches, old_patches if order is None else old_patches[..., order], rtol=1e-4, atol=1e-5
    )
    assert cls.abs().max() > 0.1


def test_to_itself_nothing_changes_and_the_old_one_is_left_alone(make_encoder):
    encoder = make_encoder(KINECT, skip_empty=False, resample=True).train()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    moved = encoder.to_skeleton("kinect-v1-20")
    assert all(torch.equal(tensor, before[name]) for name, tensor in moved.state_dict().items())
    assert moved.training
    assert (moved.skip_empty, moved.resample, moved.config) == (False, True, encoder.config)
    (
        moved.pos_embed.data.zero_(),
        moved.patch_embed.proj.bias.data.zero_(),
        moved.norm.weight.data.zero_(),
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_joints_in_another_order(make_encoder):
    encoder, x = make_encoder(KINECT), clips(20)
    moved = encoder.to_skeleton("utd-mhad-20")
    order = [KINECT.joints.index(joint) for joint in UTD.joints]
    assert order != list(range(20))
    same(moved, x[:, :, :, order], encoder, x, order)
    assert not torch.allclose(encoder(x[:, :, :, order]), encoder(x), atol=1e-3)
    assert (moved.topology, moved.channel_names, moved.joints) == (UTD, "xyz", 20)


@pytest.mark.parametrize("old", UP_AXES)
@pytest.mark.parametrize("new", UP_AXES)
def test_up_stays_up(make_encoder, old, new):
    source, target = (replace(KINECT, name="own", up=up) for up in (old, new))
    encoder, upright = make_encoder(source), clips(20)
    x, turned = (torch.stack(TURNS[up](*upright.unbind(1)), 1) for up in (old, new))
    same(encoder.to_skeleton(target), turned, encoder, x)
    if old != new:
        assert not torch.allclose(encoder(turned), encoder(x), atol=1e-3)


def test_left_stays_left_between_kinects_and_pictures(make_encoder):
    encoder, x = make_encoder(KINECT), clips(20)
    # a Kinect has x to the left and y up, both look along z
    picture = x * torch.tensor([-1, -1, 1]).view(3, 1, 1, 1)
    moved = encoder.to_skeleton(replace(KINECT, name="own", up="-y"))
    same(moved, picture, encoder, x)
    same(moved.to_skeleton(KINECT), x, encoder, x)


def test_axes_of_all_shipped_pairs_are_turns_that_keep_up_and_go_back():
    # where left is, of people facing the camera
    kinect = ("ntu-25", "kinect-v1-20", "utd-mhad-20", "sbu-15")
    sides = dict.fromkeys(kinect, -1.0)
    for source in map(get_topology, topology_names()):
        for target in map(get_topology, topology_names()):
            axes = axis_map(source, target, "xyz", "xyz")
            assert torch.linalg.det(axes) == 1
            assert torch.equal(axes @ axis_map(target, source, "xyz", "xyz"), torch.eye(3))
            standing = torch.tensor(
                [[sides.get(t.name, 1.0), -1.0 if t.up == "-y" else 1.0] for t in (target, source)]
            )
            assert torch.equal(standing[0] @ axes[:2, :2], standing[1])


@pytest.mark.parametrize(
    ("old", "new"), [("xyz", "xy"), ("xyzc", "xyc"), ("xyz", "xyc"), ("xyzc", "xy")]
)
def test_flat_clips(make_encoder, old, new):
    """Without z, as clips in the plane z = 0; without a confidence, as if all were sure; one that
    is new is ignored.
    """
    encoder, x = make_encoder(OWN, old), clips(20, new)
    everything = dict(zip(new, x.unbind(1), strict=True))
    present = (x[:, :2] != 0).any(1).to(x)
    whole = torch.stack(
        [everything.get(c, {"z": present * 0, "c": present}.get(c)) for c in old], 1
    )
    moved = encoder.to_skeleton(OWN, new)
    same(moved, x, encoder, whole)
    assert (moved.channels, moved.channel_names, moved.patch_embed.proj.in_channels) == (
        len(new),
        new,
        len(new),
    )


@pytest.mark.parametrize(("old", "new"), [("xy", "xyz"), ("xyc", "xyzc"), ("xy", "xyzc")])
def test_what_the_weights_lack_is_not_looked_at(make_encoder, old, new):
    encoder, x = make_encoder(OWN, old), clips(20, new)
    moved = encoder.to_skeleton(OWN, new)
    flat = torch.stack([x[:, new.index(c)] for c in old], 1)
    same(moved, x, encoder, flat)
    changed = x.clone()
    changed[:, 2] *= 3
    torch.testing.assert_close(moved(changed), moved(x))


def test_pictures_of_a_kinect_s_bodies(make_encoder):
    encoder, x = make_encoder(KINECT), clips(20)
    x[:, 2] = 0
    target = replace(UTD, name="own", up="-y")
    order = [KINECT.joints.index(joint) for joint in UTD.joints]
    same(encoder.to_skeleton(target, "xy"), -x[:, :2, :, order], encoder, x, order)


def test_joints_without_a_counterpart_are_means(make_encoder):
    encoder = make_encoder(COCO)
    old, new = encoder.pos_embed[0], encoder.to_skeleton("ntu-25").pos_embed[0]
    assert new.shape == (26, 16)
    assert torch.equal(new[0], old[0])  # CLS
    at, of = NTU.joints.index, COCO.joints.index
    torch.testing.assert_close(
        new[1 + at("spine_base")], (old[1 + of("left_hip")] + old[1 + of("right_hip")]) / 2
    )
    assert torch.equal(new[1 + at("left_hand_tip")], old[1 + of("left_wrist")])
    assert torch.equal(new[1 + at("head")], old[1 + of("nose")])


def test_a_classifier_keeps_its_head_and_everything_its_dtype(make_classifier):
    model, x = make_classifier(4, KINECT, pool="cls", people_pool="max"), clips(20)
    order = [KINECT.joints.index(joint) for joint in UTD.joints]
    moved = model.to_skeleton("utd-mhad-20")
    assert isinstance(moved, SLiMClassifier)
    torch.testing.assert_close(moved(x[:, :, :, order]), model(x), rtol=1e-4, atol=1e-5)
    half = model.to(torch.bfloat16).requires_grad_(False).to_skeleton("coco-17", "xyzc")
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in half.parameters())
    of = KINECT.joints.index("left_knee")
    assert torch.equal(
        half.pos_embed[0, 1 + COCO.joints.index("left_knee")], model.pos_embed[0, 1 + of]
    )


def test_it_is_saved_loaded_and_trained_like_any_other(make_encoder, tmp_path):
    moved = make_encoder(NTU).to_skeleton("coco-17", "xyc")
    moved.save_pretrained(tmp_path)
    loaded, x = SLiMEncoder.from_pretrained(tmp_path), clips(17)
    assert torch.equal(loaded(x), moved(x))
    assert (loaded.topology, loaded.channel_names) == (COCO, "xyc")
    moved(x).square().sum().backward()
    assert all(p.grad is not None for n, p in moved.named_parameters() if n != "mask_token")
    fast = moved.optimize(torch.float32)
    torch.testing.assert_close(fast(x), moved(x).detach(), rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="optimized encoder can't be copied"):
        fast.to_skeleton("ntu-25")


def test_guesses_are_told_and_known_names_are_not(make_encoder):
    encoder = make_encoder(NTU)
    tail = Topology.from_dict(
        {
            "name": "cat",
            "joints": ["pelvis", "tail", "head"],
            "parents": [-1, 0, 0],
            "parts": {"all": [0, 1, 2]},
        }
    )
    with pytest.warns(
        UserWarning, match="The names of tail are not known; .*neighbours in cat"
    ) as told:
        moved = encoder.to_skeleton(tail)
    assert told[0].filename == __file__
    assert torch.equal(moved.pos_embed[0, 1:], encoder.pos_embed[0, [1, 1, 4]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.to_skeleton("openpose-25")


@pytest.mark.parametrize(
    ("source", "arguments", "says"),
    [
        (5, ("coco-17",), "of this encoder's only the number is known: name the topology"),
        (NTU, (17,), "of the new skeleton's only the number is known"),
        (NTU, ("coco-17", "zyx"), "unknown channels 'zyx': choose one of xyz"),
        (NTU, ("coco",), "no topology called 'coco'"),
        (
            NTU,
            (replace(COCO, joints=tuple(map(str, range(17)))),),
            r"No joint of coco-17 \(0, 1, 2, 3",
        ),
    ],
)
def test_what_cannot_be_carried_over(make_encoder, source, arguments, says):
    with pytest.raises(UserError, match=says):
        make_encoder(source).to_skeleton(*arguments)


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    SLiMEncoder("ntu-25", config=EncoderConfig(width=16, depth=2, heads=2)).save_pretrained(
        tmp_path
    )
    monkeypatch.setattr(sys, "argv", ["transfer.py", str(tmp_path)])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    out = capsys.readouterr().out
    assert "left_ear       <- head  (related)" in out
    assert "torch.Size([2, 16])" in out

"""SkateFormer's trainer takes the encoder by two lines of its YAML."""

import pytest
import torch

from slim_fast import UserError
from slim_fast.interop.skateformer import SkateFormer, SkateFormer_
from slim_fast.skeletons import get_topology
from tests.interop.adapters.conftest import swapped, toy
from tests.interop.adapters.stand_ins import ctrgcn

pytestmark = pytest.mark.filterwarnings("ignore:skateformer.SkateFormer")

# The feeder's groups of joints, by the names of our topology.
ARM = ("wrist", "hand", "hand_tip", "thumb")
LEG = ("hip", "knee", "ankle", "foot")
GROUPS = [f"{side}_{part}" for parts in (ARM, LEG) for side in ("left", "right") for part in parts]
GROUPS += [
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "spine_mid",
    "neck",
    "spine_base",
    "head",
]
ORDER = [get_topology("ntu-25").joints.index(name) for name in GROUPS]


def clips(
    n: int, frames: int = 16
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """As the feeder gives them, (N, 3, T, 24, 2), index_t (N, T), labels, and the clips of 25
    joints.
    """
    whole, labels = toy(n, frames)
    index = 2 * torch.rand(n, frames).sort(1)[0] - 1
    return whole[:, :, :, ORDER], index, labels, whole


def test_training(checkpoint, tmp_path):
    config = swapped("skateformer.yaml")
    assert config["model_args"].keys() - {"pretrained"} <= set(ctrgcn.SKATEFORMER.split())
    config["model_args"] |= {"pretrained": checkpoint(), "num_classes": 2}
    config["base_lr"] = "5e-3"
    model = ctrgcn.build(config, tmp_path)
    x, index, labels, _ = clips(16)
    losses = ctrgcn.train(model, config, [(x, index, labels)] * 12)
    assert losses[-1] < 0.2 * losses[0]
    assert torch.equal(ctrgcn.evaluate(model, x, index), labels)
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert model.mask_token.requires_grad


def test_joints_are_put_back_and_the_missing_one_is_masked(make_classifier, tmp_path):
    classifier = make_classifier(4, "ntu-25")
    classifier.save_pretrained(tmp_path / "c")
    model = SkateFormer_(num_points=24, pretrained=tmp_path / "c").eval()
    x, index, _, whole = clips(4)
    mask = torch.zeros(8, 2, 25, dtype=torch.bool)
    mask[:, :, get_topology("ntu-25").joints.index("spine_shoulder")] = True
    want = classifier.forward_head(classifier.forward_features(whole, mask.flatten(1)))
    torch.testing.assert_close(model(x, index), want)
    assert torch.equal(model(x), model(x, index))
    assert torch.equal(model(x[::3], index[::3]), model(x[::3, ..., :1], index[::3]))
    here = torch.tensor([[True, False]] * 4)
    torch.testing.assert_close(model(x, index, here), model(x[..., :1], index))
    assert (want - classifier(whole)).norm() > 1e-3 * want.norm()
    assert model(*clips(2, 21)[:2]).shape == (2, 4)
    plain = SkateFormer(num_points=25, pretrained=tmp_path / "c").eval()
    torch.testing.assert_close(plain(whole, index), classifier(whole))
    assert not plain.mask_token.requires_grad


def test_an_absent_person_that_augmentation_made_a_point_or_a_speck_is_nobody(
    make_classifier, tmp_path
):
    """The bones' augmentation puts them where another clip's second person was, or makes their
    bones 1e-5 long.
    """
    make_classifier(4, "ntu-25").save_pretrained(tmp_path / "c")
    x, index, _, whole = clips(4)
    for partition, given in ((True, x), (False, whole)):
        model = SkateFormer_(
            num_points=given.shape[3], partition=partition, pretrained=tmp_path / "c"
        ).eval()
        alone = model(given[..., :1], index)
        point, speck = given.clone(), given.clone()
        point[..., 1] = torch.randn(4, 3, 1, 1)
        speck[..., 1] *= 1e-5
        for clip in (point, speck):
            torch.testing.assert_close(model(clip, index), alone)


def test_northwestern_ucla(make_classifier, tmp_path):
    classifier = make_classifier(4, "kinect-v1-20")
    classifier.save_pretrained(tmp_path / "c")
    whole, _ = toy(4, joints=20)
    order = [*range(4, 20), 1, 2, 0, 3]
    model = SkateFormer_(num_points=20, num_people=1, pretrained=tmp_path / "c").eval()
    torch.testing.assert_close(model(whole[:, :, :, order]), classifier(whole))
    model = SkateFormer_(num_points=20, partition=False, pretrained=tmp_path / "c").eval()
    torch.testing.assert_close(model(whole), classifier(whole))


def test_what_does_not_fit(checkpoint):
    with pytest.raises(UserError, match=r"contradicts num_points=kinect-v1-20 \(it has ntu-25\)"):
        SkateFormer_(num_points=20, pretrained=checkpoint())
    with pytest.raises(UserError, match=r"contradicts in_channels=2"):
        SkateFormer_(in_channels=2, pretrained=checkpoint())
    with pytest.raises(UserError, match=r"got \(2, 3, 16, 23, 2\)"):
        SkateFormer_(num_points=24, pretrained=checkpoint())(torch.randn(2, 3, 16, 23, 2))


def test_one_warning(checkpoint):
    with pytest.warns(UserWarning, match="no use for kernel_size=7, attn_drop=0.5") as told:
        SkateFormer_(
            num_points=24,
            num_classes=2,
            kernel_size=7,
            attn_drop=0.5,
            head_drop=0.1,
            pretrained=checkpoint(),
        )
    assert len(told) == 1

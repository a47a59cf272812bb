"""PYSKL and mmaction2 take the encoder as a backbone by three lines of their configs."""

import importlib
import re
import sys

import pytest
import torch

from slim_fast import UserError
from slim_fast.interop.adapters.registry import find_registry
from slim_fast.interop.mmaction2 import SLiM as MMActionBackbone
from slim_fast.interop.pyskl import SLiM as Backbone
from tests.interop.adapters.conftest import EXAMPLES, check_marks, toy
from tests.interop.adapters.stand_ins import openmmlab

NTU = {"layout": "nturgb+d", "mode": "spatial"}


def people_first(x: torch.Tensor) -> torch.Tensor:
    """(N, C, T, V, M) -> (N, M, T, V, C)."""
    return torch.stack([x[..., m].permute(0, 2, 3, 1) for m in range(x.shape[-1])], 1)


@pytest.fixture(params=["pyskl", "mmaction2"])
def example(request, monkeypatch):
    """A registry that the adapter, imported anew, has found, and the config."""
    found = openmmlab.Registry()
    package = {"pyskl": "pyskl", "mmaction2": "mmaction"}[request.param]
    for name, module in openmmlab.packages(found)[package].items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, f"slim_fast.interop.{request.param}", raising=False)
    check_marks(EXAMPLES / f"{request.param}_config.py")
    return found, openmmlab.read_config(EXAMPLES / f"{request.param}_config.py")


def test_training_by_config(example, checkpoint):
    found, config = example
    backbone = config["model"]["backbone"]
    assert backbone.keys() - {"type", "pretrained"} <= set(openmmlab.ARGUMENTS.split())
    backbone["pretrained"] = checkpoint()
    config["model"]["cls_head"] |= {"in_channels": 16, "num_classes": 2}
    model = openmmlab.RecognizerGCN(found, config["model"])
    assert type(model.backbone).__name__ == "SLiM"
    kept = Backbone(pretrained=checkpoint()).state_dict()
    assert all(torch.equal(kept[k], v) for k, v in model.backbone.state_dict().items())
    x, labels = toy(16)
    keypoint = people_first(x)[:, None]
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    losses = [model.train().train_step(keypoint, labels, optimizer) for _ in range(15)]
    assert losses[-1] < 0.2 * losses[0]
    assert torch.equal(model.eval()(keypoint).argmax(1), labels)
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_the_mean_over_people_is_that_of_those_present(make_encoder, tmp_path):
    encoder = make_encoder("ntu-25")
    encoder.save_pretrained(tmp_path / "e")
    x = torch.randn(3, 3, 16, 25, 3)
    x[0, ..., 1:] = x[1, ..., 0] = x[2] = 0
    (patches,) = encoder.get_intermediate_layers(x, 1)
    # (N, M, T / 8, V, D) -> (N, M, D, T / 8, V)
    want = patches.view(3, 3, 2, 25, 16).permute(0, 1, 4, 2, 3)
    plain = Backbone(NTU, pretrained=tmp_path / "e", mean_of_present=False).eval()(people_first(x))
    assert plain.is_contiguous()
    torch.testing.assert_close(plain, want)
    weighted = Backbone(NTU, pretrained=tmp_path / "e").eval()(people_first(x))
    assert weighted.is_contiguous()
    torch.testing.assert_close(weighted.mean(1)[0], want[0, 0])
    torch.testing.assert_close(weighted.mean(1)[1], (want[1, 1] + want[1, 2]) / 2)
    assert not weighted[2].any()
    assert not weighted[0, 1:].any()


def test_lengths_and_layouts(checkpoint):
    backbone = Backbone(NTU, pretrained=checkpoint()).eval()
    assert backbone(torch.randn(2, 2, 100, 25, 3)).shape == (2, 2, 16, 12, 25)
    with pytest.raises(UserError, match=r"takes clips \(B, C=3, T, V=25, M\)"):
        backbone(torch.randn(2, 100, 25, 3))


@pytest.mark.parametrize(
    ("arguments", "joints", "channels"),
    [
        ({"graph_cfg": {"layout": "coco"}}, 17, "xyc"),
        ({"graph_cfg": {"layout": "coco"}, "in_channels": 2}, 17, "xy"),
        ({"graph_cfg": {"layout": "coco"}, "channels": "xyz"}, 17, "xyz"),
        ({"layout": "openpose"}, 18, "xyc"),
        ({"layout": "nturgb+d"}, 25, "xyz"),
        ({"layout": "kinect-v1-20"}, 20, "xyz"),
        ({"layout": {"num_node": 21, "inward": []}, "in_channels": 2}, 21, "xy"),
        ({}, 25, "xyz"),
    ],
)
def test_the_layout_names_the_skeleton(arguments, joints, channels):
    backbone = Backbone(**arguments)
    assert (backbone.joints, backbone.channel_names, backbone.config.width) == (
        joints,
        channels,
        256,
    )
    assert (
        sum(p.numel() for p in backbone.parameters() if not p.requires_grad)
        == backbone.mask_token.numel()
    )


def test_what_does_not_fit(checkpoint):
    for arguments, says in (
        ({"graph_cfg": {"layout": "coco"}}, r"contradicts layout=coco-17 \(it has ntu-25\)"),
        ({"in_channels": 2}, "contradicts in_channels=2"),
        ({"channels": "xyc"}, r"contradicts channels=xyc \(it has xyz\)"),
        ({"graph_cfg": {"layout": "hand"}}, "layout 'hand' is not known; choose one of nturgb"),
        ({"channels": "xy", "in_channels": 3}, "in_channels=3 and channels='xy' do not fit"),
    ):
        with pytest.raises(UserError, match=says):
            Backbone(**arguments, pretrained=checkpoint())
    with pytest.warns(
        UserWarning, match=r"pyskl\.SLiM: .* no use for tcn_type='mstcn', base_channels=64\.$"
    ):
        Backbone(NTU, tcn_type="mstcn", base_channels=64, pretrained=checkpoint())


def test_mmengines_way_to_say_pretrained(checkpoint):
    made = MMActionBackbone(NTU, init_cfg={"type": "Pretrained", "checkpoint": checkpoint()})
    assert made.config.width == 16
    made.init_weights()
    want = MMActionBackbone.from_pretrained(checkpoint(), graph_cfg=NTU)
    assert not want.training
    assert all(torch.equal(v, want.state_dict()[k]) for k, v in made.state_dict().items())


def test_only_a_package_that_is_not_there_is_passed_over(monkeypatch, tmp_path):
    assert find_registry("no_such_package.models", "BACKBONES") is None
    (tmp_path / "pyskl").mkdir()
    (tmp_path / "pyskl" / "__init__.py").write_text("import something_it_needs")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with pytest.raises(ModuleNotFoundError, match="something_it_needs"):
        find_registry("pyskl.models.builder", "BACKBONES")


@pytest.mark.parametrize(
    "files", [[], ["__init__.py"], ["models/builder.py"], ["__init__.py", "models/__init__.py"]]
)
def test_a_folder_of_a_packages_name_breaks_no_import(files, monkeypatch, tmp_path):
    (tmp_path / "pyskl").mkdir()
    for name in files:
        (tmp_path / "pyskl" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "pyskl" / name).write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, "slim_fast.interop.pyskl", raising=False)
    with pytest.warns(
        UserWarning, match=rf"{re.escape(str(tmp_path))}.* has no pyskl\.models\.builder\.BACKBONES"
    ):
        importlib.import_module("slim_fast.interop.pyskl")
    for name in [name for name in sys.modules if name.split(".")[0] == "pyskl"]:
        del sys.modules[name]

"""MAMP's trainers take the encoder by two lines of their YAML."""

import warnings

import pytest
import torch

import slim_fast.interop
from slim_fast import SLiMClassifier, UserError
from slim_fast.interop.mamp import Transformer
from tests.interop.adapters.conftest import swapped, toy
from tests.interop.adapters.stand_ins import mamp

SMALL = {"dim_feat": 16, "depth": 3, "num_heads": 2}


@pytest.fixture
def alone():
    """A process group of one, as the trainers' launcher makes."""
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture
def config(checkpoint):
    config = swapped("mamp.yaml")
    ours = {"pretrained"}
    assert config["model_args"].keys() - ours <= set(mamp.ARGUMENTS.split())
    config["model_args"] |= {"pretrained": checkpoint(), "num_classes": 2, **SMALL}
    return config


@pytest.mark.filterwarnings("ignore:mamp.Transformer")
def test_linear_probing(config, alone):
    x, labels = toy(16, frames=24)
    before = SLiMClassifier.from_pretrained(config["model_args"]["pretrained"]).state_dict()
    model, losses = mamp.linprobe(config, [(x, labels)] * 20)
    assert losses[-1] < 0.2 * losses[0]
    assert torch.equal(mamp.evaluate(model, x), labels)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {
        "head.fc.1.weight",
        "head.fc.1.bias",
    }
    after = model.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items() if not k.startswith("head."))


@pytest.mark.filterwarnings("ignore:mamp.Transformer")
def test_a_probe_is_saved_with_its_norm_folded_in(config, alone, tmp_path):
    x, labels = toy(16)
    model, _ = mamp.linprobe(config, [(x, labels)] * 3)
    model.save_pretrained(tmp_path / "probe")
    plain = SLiMClassifier.from_pretrained(tmp_path / "probe")
    torch.testing.assert_close(plain(x), model.eval()(x), atol=1e-4, rtol=1e-4)
    again = Transformer(pretrained=tmp_path / "probe").eval()
    assert torch.equal(again.head.fc.weight, plain.head.weight)
    torch.testing.assert_close(again(x), plain(x))
    assert isinstance(model.head.fc, torch.nn.Sequential)


@pytest.mark.filterwarnings("ignore:mamp.Transformer")
def test_the_head_may_be_wrapped_whole(checkpoint, tmp_path):
    x, _ = toy(8)
    for protocol in ("linprobe", "finetune"):
        model = Transformer(num_classes=2, pretrained=checkpoint(), protocol=protocol)
        norm = torch.nn.BatchNorm1d(model.head.in_features, affine=False)
        model.head = torch.nn.Sequential(norm, model.head)
        model.train()(x)
        model.eval().save_pretrained(tmp_path / protocol)
        torch.testing.assert_close(SLiMClassifier.from_pretrained(tmp_path / protocol)(x), model(x))


@pytest.mark.filterwarnings("ignore:mamp.Transformer")
def test_fine_tuning_with_layer_decay(config, alone):
    config |= {"layer_decay": 0.8, "lr": 5e-3}
    config["model_args"]["protocol"] = "finetune"
    x, labels = toy(16)
    model, losses = mamp.finetune(config, [(x, labels)] * 12)
    assert losses[-1] < 0.2 * losses[0]
    assert torch.equal(mamp.evaluate(model, x), labels)
    before = SLiMClassifier.from_pretrained(config["model_args"]["pretrained"]).state_dict()
    moved = {
        n
        for n, p in model.named_parameters()
        if not n.startswith("head.") and not torch.equal(p, before[n])
    }
    assert moved == before.keys() - {"head.weight", "head.bias", "mask_token"}
    scales = {
        next(n for n, q in model.named_parameters() if q is p): group["lr_scale"]
        for group in mamp.layer_decay_groups(model, 0.05, 0.5)
        for p in group["params"]
    }
    assert scales["pos_embed"] == 0.5**4
    assert [scales[f"blocks.{n}.attn.qkv.weight"] for n in range(3)] == [0.5**3, 0.5**2, 0.5]
    assert scales["head.weight"] == scales["norm.weight"] == 1


def test_logits_are_the_classifiers(make_classifier, tmp_path):
    classifier = make_classifier(4, "ntu-25", pool="mean", people_pool="max")
    classifier.save_pretrained(tmp_path / "c")
    x, _ = toy(4, frames=120)
    for protocol in ("linprobe", "finetune"):
        model = Transformer(pretrained=tmp_path / "c", protocol=protocol).eval()
        torch.testing.assert_close(model(x), classifier(x))
        assert torch.equal(model(x[::3]), model(x[::3, ..., :1]))
    classifier.resample = True
    torch.testing.assert_close(model(x[:, :, :50]), classifier(x[:, :, :50]))
    assert Transformer.from_pretrained(tmp_path / "c", num_classes=7)(x).shape == (4, 7)
    headless = Transformer(num_classes=0, pretrained=tmp_path / "c")
    assert headless.eval()(x).shape == (4, 16)


def test_without_a_checkpoint_sizes_are_the_arguments():
    model = Transformer(2, 5, 32, 2, 4, 2.0, num_joints=17, pool="cls")
    config = model.config
    assert (config.width, config.depth, config.heads, config.ffn_ratio, model.joints) == (
        32,
        2,
        4,
        2.0,
        17,
    )
    assert model.channel_names == "xy"
    assert model(torch.randn(3, 2, 8, 17, 1)).shape == (3, 5)
    model.reset_classifier(3)
    assert model.head.fc.weight.requires_grad
    assert model(torch.randn(3, 2, 8, 17, 1)).shape == (3, 3)
    released = Transformer()
    assert (
        released.config.width,
        released.config.depth,
        released.joints,
        released.num_classes,
    ) == (256, 8, 25, 60)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"dim_feat": 256}, r"contradicts dim_feat=256 \(it has 16\)"),
        ({"depth": 8}, r"contradicts depth=8 \(it has 3\)"),
        ({"num_heads": 8}, r"contradicts num_heads=8 \(it has 2\)"),
        ({"mlp_ratio": 2}, r"contradicts mlp_ratio=2 \(it has 4\.0\)"),
        ({"num_joints": 17}, r"contradicts num_joints=17 \(it has ntu-25\)"),
        ({"dim_in": 2}, r"contradicts dim_in=2 \(it has xyz\)"),
        ({"dim_feat": 256, "depth": 8}, r"dim_feat=256 \(it has 16\), depth=8 \(it has 3\); leave"),
        ({"protocol": "probe"}, "protocol='probe' is not known"),
        ({"num_classes": -1}, "num_classes=-1"),
        ({"pretrained": "nowhere/at/all"}, "no folder or file nowhere/at/all"),
    ],
)
def test_what_does_not_fit_is_refused(checkpoint, arguments, says):
    with pytest.raises(UserError, match=says):
        Transformer(**{"pretrained": checkpoint(), **arguments})


def test_no_clips_of_five_channels():
    with pytest.raises(UserError, match="dim_in=5"):
        Transformer(dim_in=5)


def test_one_warning_of_what_has_no_use(config):
    with pytest.warns(
        UserWarning, match=r"mamp\.Transformer: SLiM's encoder has no use for t_patch_size=4\.$"
    ) as told:
        mamp.build(config)
    assert len(told) == 1
    config["model_args"] |= {"drop_path_rate": 0.3, "patch_size": 5, "colour": "red"}
    named = r"patch_size=5, t_patch_size=4, drop_path_rate=0\.3, colour='red'\.$"
    with pytest.warns(UserWarning, match=named) as told:
        mamp.build(config)
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Transformer(
            pretrained=config["model_args"]["pretrained"], num_frames=64, num_classes=2, **SMALL
        )


@pytest.mark.filterwarnings("ignore:mamp.Transformer")
def test_modules_that_nobody_imported_are_found_by_walking_down(config, monkeypatch):
    monkeypatch.delattr(slim_fast.interop, "mamp")
    monkeypatch.delattr(slim_fast, "interop")
    assert isinstance(mamp.build(config), Transformer)


def test_an_unknown_name_in_the_package():
    with pytest.raises(AttributeError, match="no attribute 'mampp'"):
        slim_fast.interop.mampp  # noqa: B018

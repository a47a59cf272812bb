"""Pretrained weights from folders, runs and .pth files: what was saved comes back, what is wrong is named."""

import argparse
import io
import json
import os
import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from slim_fast import SLiMClassifier, SLiMEncoder, UserError
from slim_fast.model.encoder import EncoderConfig
from slim_fast.model.files import load_encoder
from slim_fast.skeletons import Topology, get_topology

PUBLIC = EncoderConfig(width=64, depth=2, heads=2, registers=3)  # heads of 32 features, as a .pth is read
STICK = Topology.from_dict(
    {
        "name": "stick-5",
        "joints": ["hip", "head", "left_hand", "right_hand", "feet"],
        "parents": {"head": "hip", "left_hand": "head", "right_hand": "head", "feet": "hip"},
        "parts": {"trunk": ["hip", "head"], "left_arm": ["left_hand"], "right_arm": ["right_hand"], "leg": ["feet"]},
    }
)


def clips_for(encoder: SLiMEncoder, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, encoder.channels, 16, encoder.joints, 2)


def same_answers(a: SLiMEncoder, b: SLiMEncoder) -> bool:
    x = clips_for(a)
    return torch.equal(a.forward_features(x)["x_prenorm"], b.forward_features(x)["x_prenorm"])


@pytest.fixture
def public(make_encoder) -> SLiMEncoder:
    return make_encoder(config=PUBLIC)


@pytest.mark.parametrize(
    ("topology", "channels", "config"),
    [
        ("ntu-25", "xyz", {}),
        ("coco-17", "xy", {}),
        ("coco-17", "xyc", {"attention": "visible", "ffn_ratio": 3.0}),
        (STICK, "xyzc", {"registers": 0, "patch_frames": 4}),
        (5, "xyz", {"depth": 1}),
    ],
)
def test_a_folder_gives_back_what_was_saved(make_encoder, tmp_path, topology, channels, config):
    encoder = make_encoder(topology, channels, EncoderConfig(**{"width": 16, "depth": 2, "heads": 2, **config}))
    encoder.train().save_pretrained(tmp_path / "made" / "here")
    back = SLiMEncoder.from_pretrained(tmp_path / "made" / "here")
    assert (back.topology, back.channel_names, back.config) == (encoder.topology, channels, encoder.config)
    assert not back.training
    assert back.state_dict().keys() == encoder.state_dict().keys()
    assert all(torch.equal(tensor, encoder.state_dict()[name]) for name, tensor in back.state_dict().items())
    assert same_answers(encoder, back)
    assert (back.skip_empty, back.resample) == (True, False)
    assert SLiMEncoder.from_pretrained(str(tmp_path / "made" / "here"), resample=True, skip_empty=False).resample


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_other_floats_come_back_as_float32(make_encoder, tmp_path, dtype):
    encoder = make_encoder()
    encoder.to(dtype).save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors")["pos_embed"].dtype == dtype
    back = SLiMEncoder.from_pretrained(tmp_path)
    for name, tensor in back.state_dict().items():
        assert torch.equal(tensor, encoder.state_dict()[name].float())
    assert back(clips_for(back)).dtype == torch.float32


def test_weights_that_are_no_floats_are_refused(make_encoder, tmp_path):
    make_encoder().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({**weights, "pos_embed": weights["pos_embed"].to(torch.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"pos_embed is torch\.int8"):
        SLiMEncoder.from_pretrained(tmp_path)


def test_a_run_folder_and_a_subfolder(make_encoder, tmp_path):
    encoder = make_encoder()
    encoder.save_pretrained(tmp_path / "run" / "encoder")
    (tmp_path / "run" / "checkpoints").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"what": "the run was told"}')
    for loaded in (
        SLiMEncoder.from_pretrained(tmp_path / "run"),
        SLiMEncoder.from_pretrained(tmp_path, "run"),
        SLiMEncoder.from_pretrained(tmp_path / "run", subfolder="encoder"),
        SLiMEncoder.from_pretrained(tmp_path / "run" / "encoder" / "model.safetensors"),
    ):
        assert same_answers(encoder, loaded)
    (tmp_path / "stopped" / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match=r"stopped is not finished; give its pretrain command again"):
        SLiMEncoder.from_pretrained(tmp_path / "stopped")
    with pytest.raises(UserError, match=r"nowhere is no encoder folder"):
        SLiMEncoder.from_pretrained(tmp_path, "nowhere")


def test_what_pretraining_writes_is_what_is_loaded(make_encoder, tmp_path):
    encoder = make_encoder("coco-17", "xy")
    encoder.save_pretrained(tmp_path)
    clips = torch.randn(2, 16, 17, 2)
    (want,) = load_encoder(tmp_path).last_blocks(clips, None, 1)
    (got,) = SLiMEncoder.from_pretrained(tmp_path).get_intermediate_layers(
        clips.permute(0, 3, 1, 2)[..., None], return_class_token=True
    )
    assert torch.equal(got[0], want[0])
    assert torch.equal(got[1], want[1])


def released(encoder: SLiMEncoder, prefix: str = "backbone.") -> dict[str, torch.Tensor]:
    heads = {"dino_head.mlp.0.weight": torch.zeros(3, 3), "ibot_head.last_layer.weight": torch.zeros(2)}
    return {f"{prefix}{name}": tensor for name, tensor in encoder.state_dict().items()} | heads


@pytest.mark.parametrize(
    "wrap",
    [
        lambda e: {"teacher": released(e), "iteration": 7},
        lambda e: {"student": {}, "teacher": {f"module.{k}": v for k, v in released(e).items()}},
        lambda e: {"teacher": released(e, "module.backbone.")},
        lambda e: {"teacher": released(e, "backbone._orig_mod.")},
        lambda e: {"model": dict(e.state_dict())},
        lambda e: {"state_dict": {f"_orig_mod.{k}": v for k, v in e.state_dict().items()}, "epoch": 3},
        lambda e: e.state_dict(),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_pth_files(public, tmp_path, wrap, zipped):
    torch.save(wrap(public), tmp_path / "slim.pth", _use_new_zipfile_serialization=zipped)
    for source in (tmp_path / "slim.pth", tmp_path):
        back = SLiMEncoder.from_pretrained(source)
        assert (back.config, back.topology, back.channel_names) == (PUBLIC, 5, "xyz")
        assert same_answers(public, back)


def test_the_teacher_counts_and_not_the_student(public, make_encoder, tmp_path):
    other = make_encoder(config=PUBLIC)
    torch.save({"student": released(other), "model": released(other), "teacher": released(public)}, tmp_path / "a.pth")
    assert same_answers(public, SLiMEncoder.from_pretrained(tmp_path / "a.pth"))


@pytest.mark.parametrize(
    ("topology", "channels", "config"),
    [
        (25, "xyz", PUBLIC),
        (17, "xy", EncoderConfig(width=96, depth=1, heads=3, ffn_ratio=3.0, registers=0)),
        (3, "xyzc", EncoderConfig(width=32, depth=3, heads=1, ffn_ratio=2.7, registers=1, patch_frames=4)),
    ],
)
def test_sizes_are_those_of_the_tensors(make_encoder, tmp_path, topology, channels, config):
    encoder = make_encoder(topology, channels, config)
    torch.save({"teacher": released(encoder)}, tmp_path / "a.pth")
    back = SLiMEncoder.from_pretrained(tmp_path / "a.pth")
    assert back.topology == (get_topology("ntu-25") if topology == 25 else topology)
    assert (back.channel_names, back.config.hidden, back.config.heads) == (channels, config.hidden, config.heads)
    assert same_answers(encoder, back)


def test_what_tensors_do_not_say_is_said_beside_them_or_given(make_encoder, tmp_path):
    config = EncoderConfig(width=16, depth=1, heads=4, attention="visible")
    encoder = make_encoder("coco-17", "xyc", config)
    encoder.save_pretrained(tmp_path)
    torch.save({"teacher": released(encoder)}, tmp_path / "a.pth")
    assert SLiMEncoder.from_pretrained(tmp_path / "a.pth").config == config
    (tmp_path / "config.json").unlink()
    guessed = SLiMEncoder.from_pretrained(tmp_path / "a.pth")
    assert (guessed.config.heads, guessed.topology, guessed.channel_names) == (1, 17, "xyz")
    told = SLiMEncoder.from_pretrained(tmp_path / "a.pth", topology="coco-17", channels="xyc", config=config)
    assert (told.topology, told.channel_names) == (get_topology("coco-17"), "xyc")
    assert same_answers(encoder, told)
    with pytest.raises(UserError, match=r"does not fit the given topology: pos_embed is \(1, 18, 16\), not \(1, 26, "):
        SLiMEncoder.from_pretrained(tmp_path / "a.pth", topology="ntu-25")


@pytest.mark.parametrize("kind", ["folder", "pth", "pth and config"])
def test_wrong_tensors_are_all_named(public, tmp_path, kind):
    weights = dict(public.state_dict())
    del weights["mask_token"], weights["blocks.1.norm2.bias"]
    weights |= {"norm.weight": torch.zeros(3), "blocks.0.extra": torch.zeros(1)}
    public.save_pretrained(tmp_path)
    if kind == "folder":
        save_file(weights, tmp_path / "model.safetensors")
    else:
        (tmp_path / "model.safetensors").unlink()
        torch.save({"teacher": {f"backbone.{k}": v for k, v in weights.items()}}, tmp_path / "a.pth")
        if kind == "pth":
            (tmp_path / "config.json").unlink()
    with pytest.raises(UserError) as error:
        SLiMEncoder.from_pretrained(tmp_path)
    sentence = str(error.value)
    for part in (
        "mask_token is missing", "blocks.1.norm2.bias is missing", "blocks.0.extra is not known",
        "norm.weight is (3,), not (64,)",
    ):  # fmt: skip
        assert part in sentence
    assert sentence.count(";") == 3
    assert ("config.json" in sentence) == (kind != "pth")
    assert ("sizes of its own tensors" in sentence) == (kind == "pth")


def test_missing_tensors_are_all_named_where_sizes_can_not_be_told(public, tmp_path):
    weights = dict(public.state_dict())
    gone = ["pos_embed", "blocks.0.mlp.w3.weight", "cls_token", "norm.bias"]
    for name in gone:
        del weights[name]
    torch.save(weights, tmp_path / "a.pth")
    with pytest.raises(UserError) as error:
        SLiMEncoder.from_pretrained(tmp_path / "a.pth")
    assert re.findall(r"(\S+) is missing", str(error.value)) == sorted(gone)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("patch_embed.proj.weight", torch.zeros(64, 24)),
        ("patch_embed.proj.weight", torch.zeros(64, 7, 8, 1)),
        ("pos_embed", torch.zeros(6)),
        ("blocks.0.mlp.w3.weight", torch.zeros(9)),
    ],
)
def test_sizes_that_are_none(public, tmp_path, name, tensor):
    torch.save({**public.state_dict(), name: tensor}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=f"no encoder that is known here.*{name} {re.escape(str(tuple(tensor.shape)))}"):
        SLiMEncoder.from_pretrained(tmp_path / "a.pth")


class _Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
def test_a_pth_that_would_run_code_runs_none(public, tmp_path, how):
    canary = _Canary(tmp_path / "ran")
    content = {"teacher": released(public), "args": canary}
    path = tmp_path / "evil.pth"
    if how == "pickle":
        path.write_bytes(pickle.dumps(canary, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(UserError, match=r"evil\.pth holds more than tensors, \w+\.mkdir, and would run code"):
        SLiMEncoder.from_pretrained(path)
    assert not (tmp_path / "ran").exists()
    if how != "pickle":
        torch.load(path, weights_only=False)  # the canary sings where code is run
        assert (tmp_path / "ran").exists()


def test_a_harmless_object_beside_the_tensors_is_named(public, tmp_path):
    torch.save({"teacher": released(public), "args": argparse.Namespace(lr=1)}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"argparse\.Namespace.*save its tensors alone"):
        SLiMEncoder.from_pretrained(tmp_path / "a.pth")


def test_garbage_and_truncated_pth_files(public, tmp_path):
    path, whole = tmp_path / "a.pth", []
    for zipped in (True, False):
        buffer = io.BytesIO()
        torch.save({"teacher": released(public)}, buffer, _use_new_zipfile_serialization=zipped)
        whole.append(buffer.getvalue())
    broken = [data[:keep] for data in whole for keep in (0, 1, 2, 10, 50, 300, 5000, len(data) // 2, len(data) - 1)]
    broken += [b"<!DOCTYPE html><html>", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", b"text " * 99]
    broken += [bytes(range(256)) * 4, pickle.dumps([1], 2)[:-1]]
    for data in broken:
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"a\.pth cannot be read: it is damaged"):
            SLiMEncoder.from_pretrained(path)


@pytest.mark.parametrize("content", [3, [], {}, {"teacher": {}}, {"teacher": 1}, {"fc.weight": torch.zeros(2)}, "text"])
def test_a_pth_of_no_encoder(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth holds no encoder: expected"):
        SLiMEncoder.from_pretrained(tmp_path / "a.pth")


def test_broken_folders(make_encoder, public, tmp_path):
    with pytest.raises(UserError, match=r"is no encoder folder: it holds no model\.safetensors and no \.pth file"):
        SLiMEncoder.from_pretrained(tmp_path)
    for name in ("a.pth", "b.pth"):
        torch.save(public.state_dict(), tmp_path / name)
    with pytest.raises(UserError, match=r"several \.pth files \(a\.pth, b\.pth\): give one"):
        SLiMEncoder.from_pretrained(tmp_path)
    encoder = make_encoder()
    encoder.save_pretrained(tmp_path)  # model.safetensors comes before any .pth
    assert same_answers(encoder, SLiMEncoder.from_pretrained(tmp_path))
    weights = (tmp_path / "model.safetensors").read_bytes()
    for broken in (b"", weights[:7], weights[:500], weights[:-1], b"\xff" * 300, weights[:8] + b"}" + weights[9:]):
        (tmp_path / "model.safetensors").write_bytes(broken)
        with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
            SLiMEncoder.from_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match=r"is no encoder folder \(config\.json"):
        SLiMEncoder.from_pretrained(tmp_path)


def test_names_that_are_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (tmp_path / "absent", "../absent", "./absent", "a/b/c", "a b", "owner/", "ünïcode/ö/x"):
        with pytest.raises(UserError, match=r"There is no folder or file .*no Hugging Face name"):
            SLiMEncoder.from_pretrained(name)


def test_options(make_encoder, tmp_path):
    make_encoder().save_pretrained(tmp_path)
    with pytest.raises(TypeError, match="unexpected keyword argument 'skip_emtpy'"):
        SLiMEncoder.from_pretrained(tmp_path, skip_emtpy=True)
    with pytest.raises(TypeError, match="unexpected keyword argument 'num_classes'"):
        SLiMEncoder.from_pretrained(tmp_path, num_classes=3)
    with pytest.raises(UserError, match="pool='all' is not known"):
        SLiMClassifier.from_pretrained(tmp_path, pool="all")


@pytest.mark.parametrize("pool", ["cls", "mean", "cls+mean"])
def test_a_classifier_comes_back_with_its_head(make_classifier, tmp_path, pool):
    classifier = make_classifier(3, topology=STICK, pool=pool, people_pool="max", channels="xyc", dropout=0.3)
    classifier.save_pretrained(tmp_path)
    back = SLiMClassifier.from_pretrained(tmp_path)
    assert (back.num_classes, back.pool, back.people_pool, back.topology) == (3, pool, "max", STICK)
    x = clips_for(classifier)
    assert torch.equal(back(x), classifier(x))
    headless = make_classifier(0)
    headless.save_pretrained(tmp_path / "headless")
    back = SLiMClassifier.from_pretrained(tmp_path / "headless")
    assert back.num_classes == 0
    assert torch.equal(back(x := clips_for(back)), headless(x))


def test_an_encoder_of_a_classifier_and_the_reverse(make_encoder, make_classifier, tmp_path):
    classifier, encoder = make_classifier(3), make_encoder()
    classifier.save_pretrained(tmp_path / "classifier")
    encoder.save_pretrained(tmp_path / "encoder")
    assert same_answers(classifier, SLiMEncoder.from_pretrained(tmp_path / "classifier"))
    fresh = SLiMClassifier.from_pretrained(tmp_path / "encoder", num_classes=7, people_pool="mean", dropout=0.1)
    assert same_answers(encoder, fresh)
    assert fresh.head.weight.shape == (7, 32)
    assert 0 < fresh.head.weight.abs().max() < 0.1  # a new one
    assert SLiMClassifier.from_pretrained(tmp_path / "encoder").num_classes == 60


@pytest.mark.parametrize("options", [{"num_classes": 5}, {"pool": "mean"}, {"num_classes": 0}])
def test_another_head_than_the_checkpoints_is_new(make_classifier, tmp_path, options):
    classifier = make_classifier(3, pool="cls")
    classifier.save_pretrained(tmp_path)
    back = SLiMClassifier.from_pretrained(tmp_path, **options)
    assert same_answers(classifier, back)
    assert all(getattr(back, name) == value for name, value in options.items())
    if back.num_classes:
        assert back.head.weight.abs().max() < 0.1 < classifier.head.weight.abs().max()


@pytest.mark.parametrize("damage", ["weight gone", "all gone", "other size", "other module"])
def test_a_trained_head_is_never_quietly_dropped(make_classifier, tmp_path, damage):
    classifier = make_classifier(3)
    if damage == "other module":
        classifier.head = torch.nn.Sequential(torch.nn.Linear(32, 8), torch.nn.Linear(8, 3))
    classifier.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    if damage == "other size":
        weights["head.weight"] = torch.zeros(3, 16)
    for name in {"weight gone": ["head.weight"], "all gone": ["head.weight", "head.bias"]}.get(damage, []):
        del weights[name]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"head\.weight is "):
        SLiMClassifier.from_pretrained(tmp_path)
    assert SLiMClassifier.from_pretrained(tmp_path, num_classes=4).num_classes == 4


def test_a_classifiers_pth(make_classifier, tmp_path):
    for pool in ("cls+mean", "mean"):
        classifier = make_classifier(3, config=PUBLIC, pool=pool)
        torch.save(classifier.state_dict(), tmp_path / "a.pth")
        x = clips_for(classifier)
        back = SLiMClassifier.from_pretrained(tmp_path / "a.pth", pool=pool)
        assert torch.equal(back(x), classifier(x))
        assert same_answers(classifier, SLiMEncoder.from_pretrained(tmp_path / "a.pth"))
    with pytest.raises(UserError, match=r"head\.weight is \(3, 64\), not \(3, 128\)"):
        SLiMClassifier.from_pretrained(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"num_classes": "3"}, "num_classes='3'"), ({"num_classes": -1}, "num_classes=-1"), ({"pool": 4}, "pool=4"),
     ({"people_pool": "median"}, "people_pool='median'")],
)  # fmt: skip
def test_settings_that_are_none(make_classifier, tmp_path, settings, says):
    make_classifier(3).save_pretrained(tmp_path)
    ours = json.loads((tmp_path / "slim_fast.json").read_text())
    (tmp_path / "slim_fast.json").write_text(json.dumps({**ours, **settings}))
    with pytest.raises(UserError, match=re.escape(says)):
        SLiMClassifier.from_pretrained(tmp_path)


def test_saving_fails_cleanly(make_encoder, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="Could not write the encoder"):
        make_encoder().save_pretrained(tmp_path / "file" / "encoder")
    with pytest.raises(UserError, match="frozen encoder can't be saved"):
        make_encoder().optimize(None).save_pretrained(tmp_path / "frozen")
    assert not list((tmp_path / "frozen").glob("*"))

"""Weights of .pth files: their sizes, their names, and what is wrong with them."""

import io
import os
import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from slim_fast import SLiMEncoder, UserError
from slim_fast.model.encoder import EncoderConfig
from slim_fast.skeletons import get_topology
from tests.interop.checkpoints.conftest import PUBLIC, same_answers


def released(encoder: SLiMEncoder, prefix: str = "backbone.") -> dict[str, torch.Tensor]:
    heads = {
        "dino_head.mlp.0.weight": torch.zeros(3, 3),
        "ibot_head.last_layer.weight": torch.zeros(2),
    }
    return {f"{prefix}{name}": tensor for name, tensor in encoder.state_dict().items()} | heads


@pytest.mark.parametrize(
    "wrap",
    [
        lambda e: {"teacher": released(e), "iteration": 7},
        lambda e: {"student": {}, "teacher": {f"module.{k}": v for k, v in released(e).items()}},
        lambda e: {"teacher": released(e, "module.backbone.")},
        lambda e: {"teacher": released(e, "backbone._orig_mod.")},
        lambda e: {"model": dict(e.state_dict())},
        lambda e: {
            "state_dict": {f"_orig_mod.{k}": v for k, v in e.state_dict().items()},
            "epoch": 3,
        },
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
    torch.save(
        {"student": released(other), "model": released(other), "teacher": released(public)},
        tmp_path / "a.pth",
    )
    assert same_answers(public, SLiMEncoder.from_pretrained(tmp_path / "a.pth"))


@pytest.mark.parametrize(
    ("topology", "channels", "config"),
    [
        (25, "xyz", PUBLIC),
        (17, "xy", EncoderConfig(width=96, depth=1, heads=3, ffn_ratio=3.0, registers=0)),
        (
            3,
            "xyzc",
            EncoderConfig(width=32, depth=3, heads=1, ffn_ratio=2.7, registers=1, patch_frames=4),
        ),
    ],
)
def test_sizes_are_those_of_the_tensors(make_encoder, tmp_path, topology, channels, config):
    encoder = make_encoder(topology, channels, config)
    torch.save({"teacher": released(encoder)}, tmp_path / "a.pth")
    back = SLiMEncoder.from_pretrained(tmp_path / "a.pth")
    assert back.topology == (get_topology("ntu-25") if topology == 25 else topology)
    assert (back.channel_names, back.config.hidden, back.config.heads) == (
        channels,
        config.hidden,
        config.heads,
    )
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
    told = SLiMEncoder.from_pretrained(
        tmp_path / "a.pth", topology="coco-17", channels="xyc", config=config
    )
    assert (told.topology, told.channel_names) == (get_topology("coco-17"), "xyc")
    assert same_answers(encoder, told)
    with pytest.raises(
        UserError,
        match=r"does not fit the given topology: pos_embed is \(1, 18, 16\), not \(1, 26, ",
    ):
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
        torch.save(
            {"teacher": {f"backbone.{k}": v for k, v in weights.items()}}, tmp_path / "a.pth"
        )
        if kind == "pth":
            (tmp_path / "config.json").unlink()
    with pytest.raises(UserError) as error:
        SLiMEncoder.from_pretrained(tmp_path)
    sentence = str(error.value)
    for part in (
        "mask_token is missing",
        "blocks.1.norm2.bias is missing",
        "blocks.0.extra is not known",
        "norm.weight is (3,), not (64,)",
    ):
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
    with pytest.raises(
        UserError,
        match=f"no encoder that is known here.*{name} {re.escape(str(tuple(tensor.shape)))}",
    ):
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
    with pytest.raises(
        UserError, match=r"evil\.pth holds more than tensors, \w+\.mkdir, and would run code"
    ):
        SLiMEncoder.from_pretrained(path)
    assert not (tmp_path / "ran").exists()
    if how != "pickle":
        torch.load(path, weights_only=False)  # the canary sings where code is run
        assert (tmp_path / "ran").exists()


def test_garbage_and_truncated_pth_files(public, tmp_path):
    path, whole = tmp_path / "a.pth", []
    for zipped in (True, False):
        buffer = io.BytesIO()
        torch.save({"teacher": released(public)}, buffer, _use_new_zipfile_serialization=zipped)
        whole.append(buffer.getvalue())
    broken = [
        data[:keep]
        for data in whole
        for keep in (0, 1, 2, 10, 50, 300, 5000, len(data) // 2, len(data) - 1)
    ]
    broken += [
        b"<!DOCTYPE html><html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
        b"text " * 99,
    ]
    broken += [bytes(range(256)) * 4, pickle.dumps([1], 2)[:-1]]
    for data in broken:
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"a\.pth cannot be read: it is damaged"):
            SLiMEncoder.from_pretrained(path)


@pytest.mark.parametrize(
    "content", [3, [], {}, {"teacher": {}}, {"teacher": 1}, {"fc.weight": torch.zeros(2)}, "text"]
)
def test_a_pth_of_no_encoder(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth holds no encoder: expected"):
        SLiMEncoder.from_pretrained(tmp_path / "a.pth")

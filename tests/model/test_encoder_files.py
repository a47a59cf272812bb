"""Encoder folders: what is written comes back bit for bit, and what is wrong with one is said in
one sentence.
"""

import io
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from slim_fast.errors import UserError
from slim_fast.model.encoder import Encoder, EncoderConfig
from slim_fast.model.files import load_encoder, read_description, read_json, save_encoder
from slim_fast.skeletons import get_topology

CONFIG = EncoderConfig(width=16, depth=2, heads=4, ffn_ratio=3.0, registers=1)


@pytest.fixture
def encoder() -> Encoder:
    made = Encoder(CONFIG, joints=17, channels=2)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += torch.randn_like(parameter)
    return made


@pytest.fixture
def folder(tmp_path: Path, encoder: Encoder) -> Path:
    save_encoder(encoder, tmp_path / "run" / "encoder", get_topology("coco-17"), "xy")
    return tmp_path / "run" / "encoder"


def edit(folder: Path, **fields: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    config.update(fields)
    (folder / "config.json").write_text(
        json.dumps({k: v for k, v in config.items() if v is not None})
    )


def test_round_trip(folder, encoder):
    back = load_encoder(folder)
    assert back.config == encoder.config
    assert (back.joints, back.channels) == (17, 2)
    assert back.state_dict().keys() == encoder.state_dict().keys()
    assert all(torch.equal(t, encoder.state_dict()[name]) for name, t in back.state_dict().items())
    clips = torch.randn(2, 16, 17, 2)
    assert torch.equal(
        back.encode_packed([clips], [None])[0], encoder.encode_packed([clips], [None])[0]
    )
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors", "slim_fast.json"]
    about = read_description(folder)
    assert (about.topology, about.channels, about.more) == (get_topology("coco-17"), "xy", {})
    assert read_json(folder / "config.json")["img_size"] == [64, 17]


def test_public_sizes_are_described_in_public_words_alone(folder):
    """What the release does not know could trip its reader."""
    save_encoder(Encoder(EncoderConfig(attention="visible")), folder, get_topology("ntu-25"), "xyz")
    assert read_json(folder / "config.json") == {
        "arch": "vit_tiny",
        "img_size": [64, 25],
        "patch_size": [8, 1],
        "in_chans": 3,
        "num_register_tokens": 4,
        "ffn_layer": "swiglufused",
        "block_chunks": 0,
        "qkv_bias": True,
        "proj_bias": True,
        "ffn_bias": True,
        "init_values": 0.0,
    }
    assert load_encoder(folder).config == EncoderConfig(attention="visible")
    (folder / "slim_fast.json").unlink()
    about = read_description(folder)
    assert (about.config, about.topology, about.channels) == (
        EncoderConfig(),
        get_topology("ntu-25"),
        "xyz",
    )


@pytest.mark.parametrize(
    "more",
    [
        {"channels": "xyz"},
        {"channels": "ab"},
        {"channels": 2},
        {"topology": get_topology("ntu-25").to_dict()},
    ],
)
def test_files_that_contradict_each_other(folder, more):
    (folder / "slim_fast.json").write_text(json.dumps(more))
    with pytest.raises(UserError, match=r"slim_fast\.json speaks of"):
        load_encoder(folder)


def test_saving_again_replaces(folder, encoder):
    with torch.no_grad():
        encoder.norm.bias += 1
    save_encoder(encoder, folder, get_topology("coco-17"), "xy")
    assert torch.equal(load_encoder(folder).norm.bias, encoder.norm.bias)


def test_the_public_format_needs_no_sizes(folder):
    """Only `arch` says how large a released encoder is."""
    save_encoder(Encoder(EncoderConfig()), folder, get_topology("ntu-25"), "xyz")
    assert "embed_dim" not in read_json(folder / "config.json")
    assert load_encoder(folder).config == EncoderConfig()


def test_wrong_tensors_are_all_named(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["mask_token"], weights["blocks.1.mlp.w3.bias"]
    weights["head.weight"] = torch.zeros(2)
    weights["pos_embed"] = torch.zeros(1, 26, 16)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(UserError) as error:
        load_encoder(folder)
    sentence = str(error.value)
    assert "mask_token is missing" in sentence
    assert "blocks.1.mlp.w3.bias is missing" in sentence
    assert "head.weight is not known" in sentence
    assert "pos_embed is (1, 26, 16), not (1, 18, 16)" in sentence
    assert str(folder) in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("keep", [0, 5, 100, 2000])
def test_truncated_weights(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
        load_encoder(folder)


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04 a zip, such as torch.save writes" * 9, b"\xff" * 200, b"{}" * 50]
)
def test_weights_of_another_format(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
        load_encoder(folder)


def test_missing_files(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
        load_encoder(folder)
    with pytest.raises(UserError, match="is no encoder folder"):
        load_encoder(tmp_path / "nowhere")
    (tmp_path / "file").write_text("text")
    with pytest.raises(UserError, match="is no encoder folder"):
        load_encoder(tmp_path / "file")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"vit_tiny"', "\x00\x01"])
def test_a_config_that_is_none(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json"):
        load_encoder(folder)


def test_a_config_that_is_not_text(folder):
    (folder / "config.json").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(UserError, match=r"config\.json"):
        load_encoder(folder)


@pytest.mark.parametrize(
    "fields",
    [
        {"arch": "vit_huge", "embed_dim": None},
        {"img_size": None},
        {"img_size": [64]},
        {"in_chans": "three"},
        {"patch_size": 8},
        {"embed_dim": 15},
        {"num_register_tokens": None},
        {"num_heads": 0},
    ],
)
def test_a_config_that_describes_no_encoder(folder, fields):
    edit(folder, **fields)
    with pytest.raises(UserError, match=r"config\.json"):
        load_encoder(folder)


def test_a_config_of_another_size_than_the_weights(folder):
    edit(folder, depth=3)
    with pytest.raises(UserError, match=r"blocks\.2\.attn\.qkv\.weight is missing"):
        load_encoder(folder)


def test_a_folder_that_cannot_be_written(tmp_path, encoder):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="Could not write the encoder"):
        save_encoder(encoder, tmp_path / "file" / "encoder", get_topology("coco-17"), "xy")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_save_that_fails_half_way_keeps_the_old_encoder(folder, encoder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("slim_fast.model.files.save_file", full_disk)
    with torch.no_grad():
        encoder.norm.bias += 1
    with pytest.raises(UserError, match="No space left"):
        save_encoder(encoder, folder, get_topology("coco-17"), "xy")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_config_with_a_byte_order_mark(folder):
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text, encoding="utf-8-sig")
    assert read_description(folder).config == CONFIG


@pytest.mark.parametrize("name", ["config.json", "slim_fast.json", "model.safetensors"])
def test_what_must_not_be_read_is_neither_absent_nor_damaged(folder, monkeypatch, name):
    allowed = io.open

    def opened(path, *arguments, **options):
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return allowed(path, *arguments, **options)

    monkeypatch.setattr(io, "open", opened)
    with pytest.raises(UserError, match=rf"{name}: Permission denied: mend its permissions"):
        load_encoder(folder)

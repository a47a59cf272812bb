"""Encoder and run folders: what was saved comes back, what is wrong is named."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from slim_fast import SLiMClassifier, SLiMEncoder, UserError
from slim_fast.model.encoder import EncoderConfig
from slim_fast.model.files import load_encoder
from tests.interop.checkpoints.conftest import STICK, clips_for, same_answers


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
    encoder = make_encoder(
        topology, channels, EncoderConfig(**{"width": 16, "depth": 2, "heads": 2, **config})
    )
    encoder.train().save_pretrained(tmp_path / "made" / "here")
    back = SLiMEncoder.from_pretrained(tmp_path / "made" / "here")
    assert (back.topology, back.channel_names, back.config) == (
        encoder.topology,
        channels,
        encoder.config,
    )
    assert not back.training
    assert back.state_dict().keys() == encoder.state_dict().keys()
    assert all(
        torch.equal(tensor, encoder.state_dict()[name])
        for name, tensor in back.state_dict().items()
    )
    assert same_answers(encoder, back)
    assert (back.skip_empty, back.resample) == (True, False)
    assert SLiMEncoder.from_pretrained(
        str(tmp_path / "made" / "here"), resample=True, skip_empty=False
    ).resample


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
    save_file(
        {**weights, "pos_embed": weights["pos_embed"].to(torch.int8)},
        tmp_path / "model.safetensors",
    )
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
    with pytest.raises(
        UserError, match=r"stopped is not finished and has written no checkpoint yet"
    ):
        SLiMEncoder.from_pretrained(tmp_path / "stopped")
    with pytest.raises(UserError, match=r"nowhere is no encoder folder"):
        SLiMEncoder.from_pretrained(tmp_path, "nowhere")


def test_what_pretraining_writes_is_what_is_loaded(make_encoder, tmp_path):
    encoder = make_encoder("coco-17", "xy")
    encoder.save_pretrained(tmp_path)
    clips = torch.randn(2, 16, 17, 2)
    (want,) = load_encoder(tmp_path).encode_last_blocks(clips, None, 1)
    (got,) = SLiMEncoder.from_pretrained(tmp_path).get_intermediate_layers(
        clips.permute(0, 3, 1, 2)[..., None], return_class_token=True
    )
    assert torch.equal(got[0], want[0])
    assert torch.equal(got[1], want[1])


def test_broken_folders(make_encoder, public, tmp_path):
    with pytest.raises(
        UserError, match=r"is no encoder folder: it holds no model\.safetensors and no \.pth file"
    ):
        SLiMEncoder.from_pretrained(tmp_path)
    for name in ("a.pth", "b.pth"):
        torch.save(public.state_dict(), tmp_path / name)
    with pytest.raises(UserError, match=r"several \.pth files \(a\.pth, b\.pth\): give one"):
        SLiMEncoder.from_pretrained(tmp_path)
    encoder = make_encoder()
    encoder.save_pretrained(tmp_path)  # model.safetensors comes before any .pth
    assert same_answers(encoder, SLiMEncoder.from_pretrained(tmp_path))
    weights = (tmp_path / "model.safetensors").read_bytes()
    for broken in (
        b"",
        weights[:7],
        weights[:500],
        weights[:-1],
        b"\xff" * 300,
        weights[:8] + b"}" + weights[9:],
    ):
        (tmp_path / "model.safetensors").write_bytes(broken)
        with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
            SLiMEncoder.from_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match=r"is no encoder folder \(config\.json"):
        SLiMEncoder.from_pretrained(tmp_path)


def test_names_that_are_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    for name in (
        tmp_path / "absent",
        "../absent",
        "./absent",
        "a/b/../c",
        "a b",
        "owner/",
        "ünïcode/ö//x",
        "runs/demo/encoder",  # of a folder that is there, and no owner/name/subfolder
    ):
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


def test_saving_fails_cleanly(make_encoder, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="Could not write the encoder"):
        make_encoder().save_pretrained(tmp_path / "file" / "encoder")
    with pytest.raises(UserError, match="optimized encoder can't be saved"):
        make_encoder().optimize(None).save_pretrained(tmp_path / "frozen")
    assert not list((tmp_path / "frozen").glob("*"))


def test_a_folder_that_must_not_be_searched(tmp_path, monkeypatch):
    asked = Path.is_dir

    def is_dir(path: Path) -> bool:
        if path.parent == tmp_path / "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return asked(path)

    (tmp_path / "locked").mkdir()
    monkeypatch.setattr(Path, "is_dir", is_dir)
    with pytest.raises(UserError, match=r"locked/encoder: Permission denied: mend its permissions"):
        SLiMEncoder.from_pretrained(tmp_path / "locked")

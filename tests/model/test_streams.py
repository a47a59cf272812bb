"""Joints, bones and motion: what they are, and encoders that read them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from slim_fast import SLiMClassifier, SLiMEncoder
from slim_fast.errors import UserError
from slim_fast.evaluation.probe import make_random_encoder
from slim_fast.evaluation.protocols.fusion import with_stream
from slim_fast.interop.export.module import ExportModule
from slim_fast.model.encoder import Encoder, EncoderConfig
from slim_fast.model.files import load_encoder
from slim_fast.model.frozen import freeze
from slim_fast.model.streams import STREAMS, parse_streams, to_stream
from slim_fast.skeletons import get_topology
from tests.interop.conftest import noisy

NTU = get_topology("ntu-25")
SMALL = EncoderConfig(width=16, depth=2, heads=2, registers=2)


def read(clip: np.ndarray, stream: str, dims: int) -> np.ndarray:
    """A clip (T, V, C) as a stream, number by number."""
    out = np.array(clip)
    for t in range(len(clip)):
        for joint, parent in enumerate(NTU.parents):
            here, other = clip[t, joint], None
            if stream == "bone" and parent >= 0:
                other = clip[t, parent]
            if stream == "motion" and t + 1 < len(clip):
                other = clip[t + 1, joint]
            seen = other is not None and here[:dims].any() and other[:dims].any()
            sign = -1 if stream == "motion" else 1
            out[t, joint, :dims] = sign * (here - other)[:dims] if seen else 0
    return out


@pytest.mark.parametrize("stream", ["bone", "motion"])
@pytest.mark.parametrize("channels", ["xyz", "xyc"])
def test_streams_number_by_number(stream, channels):
    clips = torch.randn(2, 3, 9, 25, 3)
    clips[0, 1, 3:5, 4] = 0  # undetected
    clips[1, 0, :, 20] = 0
    dims = len(channels.rstrip("c"))
    got = to_stream(clips, stream, NTU, dims)
    for n in range(2):
        for m in range(3):
            np.testing.assert_array_equal(got[n, m], read(clips[n, m].numpy(), stream, dims))
    assert to_stream(clips, "joint", NTU, dims) is clips


@pytest.mark.parametrize("stream", ["bone", "motion"])
def test_an_encoder_reads_its_stream_however_it_is_run(stream):
    encoder = noisy(SLiMEncoder("ntu-25", config=SMALL))
    other = with_stream(encoder, stream)
    assert encoder.config.stream == "joint"
    assert all(torch.equal(t, other.state_dict()[k]) for k, t in encoder.state_dict().items())
    x = torch.randn(2, 3, 16, 25, 2)
    x[0, :, 4:7, 3, 0] = 0
    flat = x.permute(0, 4, 2, 3, 1)  # (B, M, T, V, C)
    converted = to_stream(flat, stream, NTU, 3).permute(0, 4, 2, 3, 1)
    people = torch.ones(2, 2, dtype=torch.bool)
    expected = encoder(converted, people=people)
    assert not torch.allclose(expected, encoder(x), atol=1e-2)
    torch.testing.assert_close(other(x), expected)
    torch.testing.assert_close(other.optimize(torch.float32)(x), expected, rtol=1e-3, atol=1e-4)
    exported = ExportModule(other)(x)[0].flatten(0, 1)
    torch.testing.assert_close(exported, expected, rtol=1e-3, atol=1e-4)
    masks = torch.rand(4, 2, 25) < 0.5
    hidden = [e.forward_features(c, masks.flatten(1), people)["x_prenorm"]
              for e, c in ((other, x), (encoder, converted))]  # fmt: skip
    torch.testing.assert_close(*hidden)


def test_the_stream_is_saved_and_kept(tmp_path):
    encoder = noisy(SLiMEncoder("ntu-25", config=replace(SMALL, stream="bone")))
    encoder.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "slim_fast.json").read_text())["stream"] == "bone"
    assert "stream" not in json.loads((tmp_path / "config.json").read_text())
    x = torch.randn(1, 3, 16, 25, 2)
    assert torch.equal(SLiMEncoder.from_pretrained(tmp_path)(x), encoder(x))
    assert SLiMClassifier.from_pretrained(tmp_path, num_classes=3).config.stream == "bone"
    plain = load_encoder(tmp_path)
    for made in (make_random_encoder(plain, 0), freeze(plain)):
        clips = torch.randn(1, 8, 25, 3)
        ((_, cls),) = made.encode_last_blocks(clips, None, 1)
        assert made.config.stream == "bone"
        moved = clips + torch.tensor([1.0, 2.0, 3.0])  # bones do not know where a body stands
        ((_, again),) = made.encode_last_blocks(moved, None, 1)
        torch.testing.assert_close(cls, again, rtol=1e-3, atol=1e-4)


def test_bones_of_another_skeleton_are_its_own():
    encoder = noisy(SLiMEncoder("ntu-25", config=replace(SMALL, stream="bone")))
    other = encoder.to_skeleton("utd-mhad-20")
    clip = torch.randn(1, 3, 8, 20, 1)
    moved = clip + torch.randn(1, 3, 8, 1, 1)
    torch.testing.assert_close(other(clip), other(moved), rtol=1e-3, atol=1e-4)


def test_what_cannot_be_read():
    with pytest.raises(UserError, match="Bones need a skeleton, and of this encoder only its 5"):
        Encoder(replace(SMALL, stream="bone"), 5).encode_last_blocks(
            torch.ones(1, 8, 5, 3), None, 1
        )
    with pytest.raises(UserError, match=r"encoder\.stream='bones' is not known"):
        EncoderConfig(stream="bones")
    assert parse_streams("joint,bone,motion") == STREAMS
    for text, says in (
        ("bones", "choose of joint, bone, motion"),
        ("bone,bone", "once"),
        ("", "choose of"),
    ):
        with pytest.raises(UserError, match=says):
            parse_streams(text)

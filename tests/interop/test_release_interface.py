"""What the authors' release calls things, beside our own names."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from slim_fast import SLiMClassifier, SLiMEncoder, UserError
from slim_fast.interop.ctrgcn import Model
from slim_fast.interop.mamp import Transformer
from slim_fast.interop.pyskl import SLiM as Backbone
from slim_fast.interop.skateformer import SkateFormer_
from slim_fast.model.encoder import EncoderConfig
from slim_fast.model.files import load_encoder
from slim_fast.skeletons import get_topology

RELEASED = {
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
FIELDS = set(RELEASED)


def test_attributes():
    encoder = SLiMEncoder(
        17, "xy", EncoderConfig(width=32, depth=3, heads=4, registers=2, patch_frames=4)
    )
    assert encoder.patch_size == encoder.patch_embed.patch_size == (4, 1)
    assert (encoder.embed_dim, encoder.num_features) == (32, 32)
    assert (
        encoder.num_register_tokens,
        encoder.n_blocks,
        encoder.num_heads,
        encoder.num_tokens,
    ) == (2, 3, 4, 1)
    assert encoder.chunked_blocks is False
    assert isinstance(encoder.head, nn.Identity)
    assert not [name for name in encoder.state_dict() if "head" in name]


def test_forward_goes_through_the_head(make_encoder):
    encoder, x = make_encoder(), torch.randn(2, 3, 16, 5, 2)
    cls = encoder(x)
    encoder.head = nn.Linear(16, 4)
    torch.testing.assert_close(encoder(x), encoder.head(cls))
    torch.testing.assert_close(encoder(x, is_training=True)["x_norm_clstoken"], cls)


@pytest.mark.parametrize(
    "config", [RELEASED, {**RELEASED, "img_size": (64, 25), "patch_size": (8, 1)}]
)
def test_made_of_the_releases_config(config, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config))
    for encoder in (
        SLiMEncoder(config=config),
        SLiMEncoder.from_config(config),
        SLiMEncoder.from_config(EncoderConfig()),
        SLiMEncoder.from_config(tmp_path),
        SLiMEncoder.from_config(str(tmp_path / "config.json"), resample=True),
        SLiMClassifier.from_config(config, num_classes=3),
    ):
        assert encoder.config == EncoderConfig()
        assert (encoder.topology, encoder.channel_names) == (get_topology("ntu-25"), "xyz")
    assert encoder.num_classes == 3


def test_a_config_says_which_skeleton_it_is_for(make_encoder, tmp_path):
    config = {**RELEASED, "img_size": [64, 17], "in_chans": 2}
    encoder = SLiMEncoder(config=config)
    assert (encoder.topology, encoder.channel_names) == (17, "xy")
    assert SLiMEncoder("coco-17", config=config).topology == get_topology("coco-17")
    for given in ({"topology": "ntu-25"}, {"channels": "xyz"}):
        with pytest.raises(
            UserError, match=r"config is of 17 joints and 2 channels, and not of \d+ and \d"
        ):
            SLiMEncoder(config=config, **given)
    make_encoder("coco-17", "xyc").save_pretrained(tmp_path)
    made = SLiMEncoder.from_config(tmp_path)
    assert (made.topology, made.channel_names, made.n_blocks) == (get_topology("coco-17"), "xyc", 3)
    with pytest.raises(UserError, match="config does not describe an encoder: KeyError"):
        SLiMEncoder(config={"arch": "vit_tiny"})


def test_keywords_of_both(make_encoder, tmp_path):
    encoder = make_encoder()
    encoder.save_pretrained(save_directory=tmp_path / "a")
    encoder.save_pretrained(folder=tmp_path / "b")
    encoder.save_pretrained(tmp_path / "c")
    for name in "abc":
        for loaded in (
            SLiMEncoder.from_pretrained(repo_id_or_path=tmp_path / name),
            SLiMEncoder.from_pretrained(repo_or_dir=tmp_path, subfolder=name),
        ):
            assert torch.equal(loaded.pos_embed, encoder.pos_embed)
    with pytest.raises(TypeError, match="repo_or_dir and repo_id_or_path, which are one"):
        SLiMEncoder.from_pretrained(repo_id_or_path=tmp_path, repo_or_dir=tmp_path)
    probe = Transformer(num_classes=3, dim_feat=16, depth=1, num_heads=2)
    probe.save_pretrained(folder=tmp_path / "d")
    assert SLiMClassifier.from_pretrained(tmp_path / "d").num_classes == 3


def test_a_config_to_save(make_encoder, tmp_path):
    encoder = make_encoder(25, config=EncoderConfig())
    encoder.save_pretrained(
        tmp_path, config={**RELEASED, "patch_size": (8, 1), "drop_path_rate": 0.3}
    )
    assert json.loads((tmp_path / "config.json").read_text()) == {**RELEASED, "drop_path_rate": 0.3}
    with pytest.raises(UserError, match=r"contradicts the encoder: in_chans=2 \(it has 3\)"):
        encoder.save_pretrained(tmp_path / "other", config={"in_chans": 2})
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("config", "arch"),
    [
        (EncoderConfig(), "vit_tiny"),
        (EncoderConfig(registers=2, patch_frames=4), "vit_tiny"),  # public fields say these
        (EncoderConfig(width=64, heads=2), "slim"),
        (EncoderConfig(depth=4), "slim"),
        (EncoderConfig(heads=4), "slim"),
        (EncoderConfig(ffn_ratio=3.0), "slim"),
    ],
)
def test_only_released_sizes_are_called_vit_tiny(make_encoder, tmp_path, config, arch):
    make_encoder(config=config).save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    assert fields["arch"] == arch
    sizes = {"embed_dim", "depth", "num_heads", "mlp_ratio"}
    assert set(fields) == (FIELDS if arch == "vit_tiny" else FIELDS | sizes)
    assert SLiMEncoder.from_pretrained(tmp_path).config == config
    (tmp_path / "slim_fast.json").unlink()
    assert load_encoder(tmp_path).config == config
    if arch == "slim":  # as written before other sizes had a name
        (tmp_path / "config.json").write_text(json.dumps({**fields, "arch": "vit_tiny"}))
        assert load_encoder(tmp_path).config == config


@pytest.mark.parametrize("arch", ["slim", "vit_tiny"])
def test_a_head_count_is_never_guessed_in_a_folder(make_encoder, tmp_path, arch):
    make_encoder(config=EncoderConfig(width=64, depth=1, heads=4)).save_pretrained(tmp_path)
    fields = {**json.loads((tmp_path / "config.json").read_text()), "arch": arch}
    for heads, says in (
        (None, "'num_heads'.* is missing"),
        (8, "trained with 4 attention heads, but .* says 8"),
    ):
        wrong = {k: v for k, v in {**fields, "num_heads": heads}.items() if v is not None}
        (tmp_path / "config.json").write_text(json.dumps(wrong))
        for load in (SLiMEncoder.from_pretrained, load_encoder):
            with pytest.raises(UserError, match=says):
                load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(UserError, match="trained with 4 attention heads, not 8"):
        SLiMEncoder.from_pretrained(tmp_path, config=EncoderConfig(width=64, depth=1, heads=8))


def test_arrays_and_lists_are_told_to_become_tensors(make_encoder, make_classifier):
    x = np.zeros((2, 3, 16, 5, 1), np.float32)
    encoder, classifier = make_encoder(), make_classifier()
    adapters = [
        kind(**{name: 5}) for kind, name in ((Model, "num_point"), (SkateFormer_, "num_points"))
    ]
    calls = [
        encoder,
        encoder.optimize(),
        classifier,
        *adapters,
        Transformer(num_joints=5),
        Backbone(layout={"num_node": 5}),
        lambda x: encoder(x, is_training=True),
        encoder.forward_features,
        encoder.get_intermediate_layers,
        lambda x: encoder.forward_features([x]),
    ]
    for call in calls:
        with pytest.raises(
            UserError,
            match=r"clips as a torch tensor, not a ndarray: pass torch\.as_tensor\(clips\)",
        ):
            call(x)
    clips = torch.as_tensor(x)
    with pytest.raises(
        UserError, match=r"people as a torch tensor, not a list: pass torch\.as_tensor\(people\)"
    ):
        encoder(clips, people=[[True]])
    with pytest.raises(UserError, match=r"masks as a torch tensor, not a ndarray"):
        encoder(clips, masks=np.zeros((2, 10), bool))
    assert encoder(clips).shape == (2, 16)

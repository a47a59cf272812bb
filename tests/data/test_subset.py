"""`data subset`: a cache of some joints of another, and weights carried over to it."""

import numpy as np
import pytest
import torch

from slim_fast import SLiMEncoder
from slim_fast.__main__ import main
from slim_fast.data import CacheWriter, ClipCache
from slim_fast.data.clips import Clip
from slim_fast.model.encoder import EncoderConfig
from slim_fast.skeletons import get_topology


@pytest.fixture
def cache(tmp_path) -> ClipCache:
    rng = np.random.default_rng(0)
    with CacheWriter(tmp_path / "whole", get_topology("ntu-25"), classes=["a", "b"]) as writer:
        for i in range(8):
            clip = rng.normal(0, 0.3, (30, 25, 3, 2)).astype(np.float32)
            clip[..., 1] *= 0.1  # who moves less is the second
            if i == 3:
                clip[:, 8:12] = clip[:, 23:25] = 0  # a right arm that was not seen
            side = "train" if i < 5 else "test"
            split = {"cs": side} | ({"other": side} if i != 1 else {})
            writer.add(Clip(clip, f"c{i}", i % 2, i, 1, 2, split))
    return ClipCache.open(tmp_path / "whole")


def test_clips_keep_their_columns_and_some_joints(cache, tmp_path, capsys):
    words = ["data", "subset", str(cache.path), str(tmp_path / "arm"), "--joints", "right-arm"]
    assert main(words) == 0
    assert "7 clips of 6 joints (right_shoulder, right_elbow," in capsys.readouterr().out
    arm = ClipCache.open(tmp_path / "arm")
    rows = [0, 1, 2, 4, 5, 6, 7]
    assert arm.topology == get_topology("ntu-25/right-arm")
    for i, row in enumerate(rows):
        np.testing.assert_array_equal(arm.clip(i), cache.clip(row)[:, [8, 9, 10, 11, 23, 24]])
    for name in ("label", "subject", "camera", "setup", "names"):
        assert getattr(arm, name).tolist() == getattr(cache, name)[rows].tolist()
    assert {k: v.tolist() for k, v in arm.splits.items()} == {
        k: v[rows].tolist() for k, v in cache.splits.items()
    }
    assert arm.classes == ("a", "b")
    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0


def test_weights_are_carried_over_by_name(cache, tmp_path, capsys):
    config = EncoderConfig(width=16, depth=2, heads=2)
    encoder = SLiMEncoder("ntu-25", config=config)
    encoder.save_pretrained(tmp_path / "run")
    assert (
        main(["data", "subset", str(cache.path), str(tmp_path / "hand"), "--joints", "left-hand"])
        == 0
    )
    words = ["evaluate", "knn", str(tmp_path / "run"), "--data", str(tmp_path / "hand")]
    assert main([*words, "--seeds", "1"]) == 2
    assert "--match-joints" in capsys.readouterr().err
    assert main([*words, "--seeds", "1", "--match-joints"]) == 0
    hand = encoder.to_skeleton("ntu-25/left-hand")
    joints = [1 + get_topology("ntu-25").joints.index(name) for name in hand.topology.joints]
    assert torch.equal(hand.pos_embed[:, 1:], encoder.pos_embed[:, joints])

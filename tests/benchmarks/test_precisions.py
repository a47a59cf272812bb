"""What precisions cost, from end to end at toy sizes, and the table of it."""

import json

import numpy as np
import pytest
import torch

from benchmarks import precisions
from benchmarks.records.accuracies import precision_table
from slim_fast import SLiMEncoder
from slim_fast.data.cache import ClipCache
from slim_fast.data.convert import convert
from slim_fast.data.readers import Options
from slim_fast.evaluation.features import extract_features
from slim_fast.model.encoder import EncoderConfig
from slim_fast.skeletons import get_topology


@pytest.fixture
def cache(tmp_path) -> ClipCache:
    """12 clips of three classes and four subjects, of one or two people."""
    random = np.random.default_rng(0)
    lengths = random.integers(40, 60, 12)
    x = random.normal(size=(lengths.sum(), 20, 3, 2)).astype(np.float32)
    x[: lengths[0], ..., 1] = 0
    np.savez(
        tmp_path / "recordings.npz",
        x=x,
        start=np.cumsum(lengths) - lengths,
        length=lengths,
        label=np.arange(12) % 3,
        subject=1 + np.arange(12) // 3,
        name=[f"clip-{clip}" for clip in range(12)],
    )
    options = Options(get_topology("utd-mhad-20"))
    convert(tmp_path / "recordings.npz", tmp_path / "cache", options)
    return ClipCache.open(tmp_path / "cache")


@pytest.fixture
def encoder() -> SLiMEncoder:
    torch.manual_seed(0)
    made = SLiMEncoder("utd-mhad-20", config=EncoderConfig(width=16, depth=2, heads=2))
    with torch.no_grad():
        made.patch_embed.proj.weight *= 20
    return made.eval()


def test_features_are_those_of_the_evaluation(cache, encoder):
    clips = np.arange(12)
    want = extract_features(encoder, cache, clips)
    got = precisions.extract(encoder.optimize(precision="fp32"), cache, clips, 5)
    torch.testing.assert_close(got, (want.retrieval, want.pooled), rtol=1e-4, atol=1e-5)


def test_every_precision_is_on_record_and_in_the_table(tmp_path, cache, encoder, capsys):
    for name in ("onnx", "onnxruntime"):
        pytest.importorskip(name)
    encoder.save_pretrained(tmp_path / "small")
    records = tmp_path / "records"
    words = [str(tmp_path / "small"), "--data", str(cache.path), "--title", "toys"]
    assert precisions.main([*words, "--records", str(records)]) == 0
    figures = json.loads((records / "toys-small.json").read_text())["figures"]
    assert list(figures) == list(precisions.WAYS)
    assert figures["fp32"]["error"] == 0
    assert 0 < figures["int8, calibrated"]["error"] < 0.15
    assert figures["int8"]["alone"] > 10 * figures["int8, calibrated"]["alone"]
    rows = precision_table(records).splitlines()[-len(figures) :]
    for row, (name, found) in zip(rows, figures.items(), strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[:5] == ["small", "16", "toys", name, f"{100 * found['knn_top1']:.1f}"]
    assert precision_table(tmp_path) == ""


def test_absent_caches_are_named(tmp_path, capsys):
    encoder = "slim_fast/synthetic-small"
    words = [encoder, "--data", str(tmp_path / "none"), "--title", "x", "--records", str(tmp_path)]
    assert precisions.main(words) == 2
    assert "none" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.json"))

"""The benchmark of transfers from end to end at toy sizes, its reduced bodies, its table."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import transfer
from benchmarks.records import accuracies, pages
from slim_fast.data.cache import ClipCache
from slim_fast.data.convert import convert
from slim_fast.data.readers import Options
from slim_fast.evaluation.features import extract_features
from slim_fast.model.encoder import Encoder, EncoderConfig
from slim_fast.skeletons import get_topology


@pytest.fixture
def recordings(tmp_path):
    """A folder with both files: 12 clips of three classes and four subjects each."""
    random = np.random.default_rng(0)
    lengths = random.integers(40, 60, 12)
    for name in ("msrc12.npz", "utd_mhad.npz"):
        np.savez(
            tmp_path / name,
            x=random.normal(size=(lengths.sum(), 20, 3, 1)).astype(np.float32),
            start=np.cumsum(lengths) - lengths,
            length=lengths,
            label=np.arange(12) % 3,
            subject=1 + np.arange(12) // 3,
            name=[f"{name}-{clip}" for clip in range(12)],
        )
    return tmp_path


def test_all_encoders_are_compared_on_every_target(recordings, monkeypatch, capsys):
    monkeypatch.setattr(transfer, "STEPS", 2)
    folder = recordings / "results"
    arguments = [
        "--data",
        str(recordings),
        "--out",
        str(recordings / "out"),
        "--results",
        str(folder),
    ]
    assert transfer.main([*arguments, "--targets", "coco-17-xy"]) == 0
    record = json.loads((folder / "coco-17-xy-0.json").read_text())
    assert {"commit", "cpu", "torch", "date"} <= record.keys()
    assert (record["steps"], record["seed"], record["source"]) == (2, 0, "kinect-v1-20")
    assert list(record["accuracies"]) == list(accuracies.TRANSFER)
    assert list(record["centred"]) == ["random_encoder", "shuffled", "transferred"]
    metrics = [
        accuracies for key in ("accuracies", "centred") for accuracies in record[key].values()
    ]
    assert all(0 <= value <= 1 for accuracies in metrics for value in accuracies.values())
    assert str(recordings) not in json.dumps(record)
    assert "--data OUT/caches/coco-17-xy" in record["commands"]["coco-17-xy"]
    whole, flat = (
        ClipCache.open(recordings / "out" / "caches" / name)
        for name in ("utd-mhad-20", "coco-17-xy")
    )
    for clip in range(12):
        old, new = whole.clip(clip), flat.clip(clip)
        of, at = whole.topology.joints.index, flat.topology.joints.index
        assert np.array_equal(new[:, at("left_knee")], -old[:, of("left_knee"), :2])
        assert np.array_equal(new[:, at("right_ear")], -old[:, of("head"), :2])
    for name in ("label", "subject"):
        assert np.array_equal(getattr(whole, name), getattr(flat, name))
    assert np.array_equal(whole.splits["xsub"], flat.splits["xsub"])


def test_absent_recordings_are_named(tmp_path, capsys):
    assert transfer.main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "msrc12.npz" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json"))


def test_features_are_those_of_the_evaluation_or_of_clips_centred_otherwise(recordings):
    convert(recordings / "utd_mhad.npz", recordings / "cache", Options(get_topology("utd-mhad-20")))
    cache, clips = ClipCache.open(recordings / "cache"), np.arange(12)
    encoder = Encoder(EncoderConfig(width=16, depth=2, heads=2), 20)
    with torch.no_grad():
        encoder.patch_embed.proj.weight *= 20
    plain = transfer.features(cache, encoder, clips, None)
    torch.testing.assert_close(plain, extract_features(encoder, cache, clips).pooled)
    centre = [float(joint == cache.topology.centre) for joint in range(20)]
    torch.testing.assert_close(transfer.features(cache, encoder, clips, centre), plain)
    other = replace(cache, topology=replace(cache.topology, centre=5))
    on_five = transfer.features(cache, encoder, clips, [float(joint == 5) for joint in range(20)])
    torch.testing.assert_close(on_five, extract_features(encoder, other, clips).pooled)
    assert not torch.allclose(on_five, plain, atol=1e-3)


@pytest.fixture
def records(tmp_path):
    for seed, share in enumerate((0.5, 0.7)):
        figures = {
            name: {"knn_top1": share + i / 100, "linear_top1": 0.25}
            for i, name in enumerate(accuracies.TRANSFER)
        }
        record = json.dumps(
            {
                "target": "coco-17-xy",
                "accuracies": figures,
                "centred": {"shuffled": figures["shuffled"]},
            }
        )
        (tmp_path / "transfer").mkdir(exist_ok=True)
        (tmp_path / "transfer" / f"coco-17-xy-{seed}.json").write_text(record, encoding="utf-8")
    return tmp_path


ROW = "| coco-17-xy | its own | 2 | " + " | ".join(
    f"{60 + i}.0 ({50 + i}.0–{70 + i}.0)" for i in range(4)
)


def test_accuracies_are_averaged_over_seeds(records):
    head, line, row, other = accuracies.transfer_table(records / "transfer").splitlines()
    assert row.startswith(ROW)
    assert row.count("|") == head.count("|") == line.count("|") == other.count("|")
    assert other.startswith("| coco-17-xy | the source's | 2 | – | 61.0 (51.0–71.0) | – | – |")
    assert head.count("transferred") == 2
    assert accuracies.transfer_table(records) == ""


def test_the_report_puts_the_table_where_a_readme_has_its_markers(records, monkeypatch):
    monkeypatch.setattr(pages.flops, "summary", lambda: "")
    monkeypatch.setattr(pages, "accuracy_table", lambda _: "a table")
    names = ("benchmarks", "runs", "attention", "flops", "transfer")
    readme = records / "README.md"
    readme.write_text(
        "".join(f"<!-- {name}:begin --><!-- {name}:end -->" for name in names), encoding="utf-8"
    )
    assert pages.main(["--results", str(records), "--pages", str(readme), "--write"]) == 0
    assert ROW in readme.read_text(encoding="utf-8").split("<!-- transfer:begin -->")[1]

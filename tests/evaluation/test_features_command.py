"""`slim-fast features`: a table of any clips, for other programs."""

import builtins
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import slim_fast
from slim_fast import SLiMEncoder, features
from slim_fast.data import ClipCache
from slim_fast.data.synthetic import write_synthetic
from slim_fast.evaluation.features import extract_features
from slim_fast.evaluation.windows import extract_windows
from slim_fast.model.encoder import EncoderConfig


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> ClipCache:
    path = tmp_path_factory.mktemp("features") / "cache"
    return write_synthetic(
        path, subjects=3, repetitions=1, actions=("wave", "push"), progress=False
    )


@pytest.fixture
def run_folder(tmp_path) -> Path:
    config = EncoderConfig(width=16, depth=2, heads=2, window=32)
    SLiMEncoder("ntu-25", config=config).save_pretrained(tmp_path / "run" / "encoder")
    return tmp_path / "run"


def table(*words: object) -> dict[str, np.ndarray]:
    out = Path(str(words[0])) / "features.npz"
    assert features.main([*map(str, words), "--out", str(out)]) == 0
    with np.load(out) as archive:  # without pickles
        return dict(archive)


def test_a_cache_becomes_a_table(cache, run_folder, capsys):
    found = table(run_folder, "--data", cache.path)
    assert f"{len(cache)} clips, 32 features each" in capsys.readouterr().out
    encoder = SLiMEncoder.from_pretrained(run_folder)
    expected = extract_features(encoder, cache, np.arange(len(cache)))
    np.testing.assert_array_equal(found["features"], expected.pooled.numpy())
    np.testing.assert_array_equal(found["retrieval"], expected.retrieval.numpy())
    assert found["name"].tolist() == cache.names.tolist()
    assert found["class"].tolist() == [cache.classes[label] for label in cache.label]
    (split,) = cache.splits
    np.testing.assert_array_equal(found[f"split:{split}"], cache.splits[split])
    assert json.loads(str(found["about"]))["frames"] == 32


def test_features_of_streams_stand_side_by_side(cache, run_folder):
    both = table(run_folder, "--data", cache.path, "--stream", "joint,bone")
    bone = table(run_folder, "--data", cache.path, "--stream", "bone")
    assert both["features"].shape[1] == 64
    np.testing.assert_array_equal(both["features"][:, 32:], bone["features"])
    norms = np.linalg.norm(both["retrieval"].reshape(len(cache), 2, -1), axis=2)
    np.testing.assert_allclose(norms, 1, rtol=1e-5)
    assert json.loads(str(both["about"]))["streams"] == ["joint", "bone"]


def test_windows_are_written_where_asked(cache, run_folder):
    assert "windows" not in table(run_folder, "--data", cache.path)
    found = table(run_folder, "--data", cache.path, "--windows")
    encoder = SLiMEncoder.from_pretrained(run_folder)
    expected = extract_windows(encoder, cache, np.arange(len(cache)))
    np.testing.assert_array_equal(found["windows"], expected.numpy())
    both = table(run_folder, "--data", cache.path, "--windows", "--stream", "joint,bone")
    unit = expected / expected.norm(dim=1, keepdim=True)
    np.testing.assert_allclose(both["windows"][:, : unit.shape[1]], unit, rtol=1e-5, atol=1e-6)


def test_files_become_the_same_rows(cache, run_folder, tmp_path):
    """.npy files and an npz of the same clips; and preprocess gives the encoder the same."""
    clips = [cache.clip(i) for i in range(3)]
    for i, clip in enumerate(clips):
        np.save(tmp_path / f"c{i}.npy", clip * 1000)
    files = [tmp_path / f"c{i}.npy" for i in range(3)]
    known = ("--topology", "ntu-25", "--scale", "0.001")
    found = table(run_folder, "--data", *files, *known)
    whole = table(run_folder, "--data", cache.path)
    np.testing.assert_allclose(found["features"], whole["features"][:3], rtol=1e-4, atol=1e-4)
    assert found["name"].tolist() == ["c0", "c1", "c2"]
    assert set(found["label"].tolist()) == {-1}
    assert set(found["class"].tolist()) == {""}
    np.savez(tmp_path / "all.npz", **{f"c{i}": clip for i, clip in enumerate(clips)})
    again = table(run_folder, "--data", tmp_path / "all.npz", "--topology", "ntu-25")
    np.testing.assert_allclose(again["features"], whole["features"][:3], rtol=1e-4, atol=1e-4)
    encoder = SLiMEncoder.from_pretrained(run_folder)
    x = slim_fast.preprocess(clips[0], encoder.topology, window=encoder.config.window)
    cls = encoder(x).unflatten(0, (1, 2)).sum(1)[0].detach().numpy()
    np.testing.assert_allclose(cls, whole["features"][0, :16], rtol=1e-3, atol=1e-4)


def test_parquet_holds_the_same(cache, run_folder, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    found = table(run_folder, "--data", cache.path)
    out = tmp_path / "f.parquet"
    assert features.main([str(run_folder), "--data", str(cache.path), "--out", str(out)]) == 0
    rows = parquet.read_table(out)
    assert rows.column_names == [name for name in found if name != "about"]
    np.testing.assert_array_equal(np.stack(rows["features"].to_numpy()), found["features"])
    assert rows["class"].to_pylist() == found["class"].tolist()
    assert json.loads(rows.schema.metadata[b"slim_fast"])["skeleton"] == "ntu-25"


def test_units_are_looked_at(cache, run_folder, tmp_path, capsys):
    np.save(tmp_path / "c.npy", cache.clip(0) * 1000)
    table(run_folder, "--data", tmp_path / "c.npy", "--topology", "ntu-25")
    said = capsys.readouterr().err
    assert "looks like millimetres: multiply by 0.001 to get metres" in said
    assert "--scale 0.001" in said


def test_without_pyarrow(cache, run_folder, tmp_path, monkeypatch, capsys):
    whole = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name.split(".")[0] == "pyarrow":
            raise ImportError(name)
        return whole(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    words = [str(run_folder), "--data", str(cache.path), "--out", str(tmp_path / "f.parquet")]
    assert features.main(words) == 2
    assert 'pip install "slim_fast[parquet]", or write a .npz' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["cache", "--out", "f.csv"], "must end in .npz or .parquet"),
        (["cache", "--people", "0"], "people=0"),
        (["missing"], "missing does not exist"),
        (["a.npy"], "pass --topology"),
        (["a.npy", "--topology", "ntu-52"], "did you mean ntu-25?"),
        (["a.npy", "--topology", "coco-17"], "needs 17"),
        (["a.npy", "b.npy", "--topology", "ntu-25"], "a clip is (T frames, V joints"),
        (["broken.npy", "--topology", "ntu-25"], "cannot be read"),
        (["header.npy", "--topology", "ntu-25"], "cannot be read"),
        (["a.npy", "cache"], "2 files: give one cache"),
        (["coco.npy", "--topology", "coco-17"], "--match-joints"),
    ],
)
def test_what_cannot_be_read(words, says, cache, run_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("cache").symlink_to(cache.path)
    np.save("a.npy", np.random.default_rng(0).normal(0, 0.4, (20, 25, 3)))
    np.save("coco.npy", np.random.default_rng(0).normal(0, 0.4, (20, 17, 2)))
    np.save("b.npy", np.zeros(3))
    Path("broken.npy").write_bytes(b"no array")
    Path("header.npy").write_bytes(Path("a.npy").read_bytes().replace(b"(20, ", b"((20,"))
    assert features.main([str(run_folder), "--data", *words]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert not Path("features.npz").exists()

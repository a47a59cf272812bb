"""Features on disk: computed once, found by content, never stale."""

import numpy as np
import pytest
import torch

from slim_fast.data import ClipCache
from slim_fast.evaluation import feature_files
from slim_fast.evaluation.feature_files import FeatureFiles, hash_cache, hash_encoder
from slim_fast.evaluation.features import extract_features, load_evaluation_clips
from slim_fast.model.encoder import Encoder, EncoderConfig

CLIPS = np.arange(4)


@pytest.fixture
def cache(make_cache, crowd) -> ClipCache:
    return make_cache([crowd(20 + i, 1 + i % 2, i) for i in range(4)])


@pytest.fixture
def counted(monkeypatch):
    """The calls of extract_features."""
    calls = []

    def count(*arguments, **options):
        calls.append(options)
        return extract_features(*arguments, **options)

    monkeypatch.setattr(feature_files, "extract_features", count)
    return calls


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))


def test_the_second_time_they_are_read(cache, encoder, tmp_path, counted):
    folder = tmp_path / "features"
    first = FeatureFiles(folder, cache).load(encoder, CLIPS, 2, "learned")
    again = FeatureFiles(folder, cache).load(encoder, CLIPS, 2, "learned")
    assert len(counted) == 1
    assert same(first, again)
    assert [p.name.split("-")[0] for p in folder.iterdir()] == ["learned"]
    assert same(first, extract_features(encoder, cache, CLIPS, blocks=2))


@pytest.mark.parametrize("change", ["weights", "clips", "blocks", "people", "dtype", "heads"])
def test_whatever_changes_they_are_computed_again(change, cache, encoder, tmp_path, counted):
    FeatureFiles(tmp_path, cache).load(encoder, CLIPS, 2, "learned")
    clips, blocks, files = CLIPS, 2, FeatureFiles(tmp_path, cache)
    if change == "weights":
        with torch.no_grad():
            encoder.norm.bias[3] += 1e-6
    if change == "clips":
        clips = CLIPS[::-1]
    if change == "blocks":
        blocks = 1
    if change == "people":
        files.people = 1
    if change == "dtype":
        files.dtype = torch.bfloat16
    if change == "heads":
        other = Encoder(EncoderConfig(width=16, depth=2, heads=1, registers=2))
        other.load_state_dict(encoder.state_dict())
        encoder = other
    found = files.load(encoder, clips, blocks, "learned")
    assert len(counted) == 2
    assert same(found, extract_features(encoder, cache, clips, **counted[1] | {"progress": list}))


def test_another_cache_at_the_same_place_is_noticed(cache, encoder, tmp_path, counted):
    FeatureFiles(tmp_path, cache).load(encoder, CLIPS, 2, "learned")
    before = hash_cache(cache)
    positions = np.lib.format.open_memmap(cache.path / "positions.npy", mode="r+")
    positions[5, 3, 1] += 1
    positions.flush()
    del positions
    changed = ClipCache.open(cache.path)
    assert hash_cache(changed) != before
    FeatureFiles(tmp_path, changed).load(encoder, CLIPS, 2, "learned")
    assert len(counted) == 2


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_damaged_files_are_computed_again(damage, cache, encoder, tmp_path, counted):
    first = FeatureFiles(tmp_path, cache).load(encoder, CLIPS, 2, "learned")
    (path,) = tmp_path.glob("*.safetensors")
    content = path.read_bytes()
    path.write_bytes({"cut": content[:-9], "empty": b"", "other": b"no tensors"}[damage])
    assert same(FeatureFiles(tmp_path, cache).load(encoder, CLIPS, 2, "learned"), first)
    assert len(counted) == 2
    assert path.read_bytes() == content


def test_what_is_stopped_leaves_nothing(cache, encoder, tmp_path):
    def stop(steps):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FeatureFiles(tmp_path / "f", cache, progress=stop).load(encoder, CLIPS, 2, "learned")
    assert not (tmp_path / "f").exists()


def test_features_that_cannot_be_kept_are_given_all_the_same(cache, encoder, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="could not be kept in .*file"):
        found = FeatureFiles(tmp_path / "file", cache).load(encoder, CLIPS, 2, "learned")
    assert same(found, FeatureFiles(None, cache).load(encoder, CLIPS, 2, "learned"))


def test_hashes_are_of_content_alone(cache, encoder):
    other = Encoder(encoder.config)
    assert hash_encoder(other) != hash_encoder(encoder)
    other.load_state_dict(encoder.state_dict())
    assert hash_encoder(other) == hash_encoder(encoder)
    other.channel_names = "xyc"
    assert hash_encoder(other) != hash_encoder(encoder)


def test_cls_of_the_last_blocks_are_summed_over_people(cache, encoder):
    found = extract_features(encoder, cache, CLIPS, blocks=2)
    assert found.cls.shape == (4, 2, 16)
    for i in range(4):
        views = load_evaluation_clips(cache, np.array([i]))[0]
        there = [person for person in views if person.any()]
        with torch.no_grad():
            layers = encoder.encode_last_blocks(torch.stack(there), None, 2)
        for block, (_, cls) in enumerate(layers):
            torch.testing.assert_close(found.cls[i, block], cls.sum(0), rtol=1e-4, atol=1e-5)
        patches = layers[1][0].mean(1).sum(0)
        torch.testing.assert_close(found.patches[i], patches, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.pooled[i, :16], found.cls[i, 1])

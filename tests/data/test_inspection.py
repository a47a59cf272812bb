import numpy as np
import pytest

from slim_fast.data import CacheWriter, Clip, ClipCache
from slim_fast.data.inspection import describe, measure, warnings
from slim_fast.skeletons import get_topology


def cache_of(path, positions, topology="ntu-25", channels="xyz", **fields) -> ClipCache:
    with CacheWriter(path, get_topology(topology), channels) as writer:
        for i, clip in enumerate(positions):
            writer.add(Clip(clip, f"c{i}", **fields))
    return ClipCache.open(path)


def standing(topology: str, coordinates: int = 3, frames: int = 9) -> np.ndarray:
    # joints hang on each other by 20 cm, head up and the rest down; (T, V, C, 1)
    skeleton = get_topology(topology)
    sign = -1 if skeleton.up.startswith("-") else 1
    positions = np.full((skeleton.num_joints, coordinates), 0.5)
    for joint in skeleton.order:
        parent = skeleton.parents[joint]
        if parent >= 0:
            name = skeleton.joints[joint]
            step = 0.2 if any(word in name for word in ("spine", "neck", "head", "nose")) else -0.2
            positions[joint] = positions[parent]
            positions[joint, "xyz".index(skeleton.up[-1])] += sign * step
    return np.repeat(positions[None, :, :, None], frames, axis=0)


def test_a_plausible_body_passes(tmp_path) -> None:
    cache = cache_of(tmp_path / "c", [standing("ntu-25")] * 3)
    geometry = measure(cache)
    assert geometry.bone == pytest.approx(0.2, rel=1e-5)
    assert geometry.upright == 1
    assert geometry.dead == ()
    assert warnings(cache, geometry) == []


@pytest.mark.parametrize(
    ("scale", "word"),
    [(1000, "millimetres: multiply by 0.001"), (100, "centimetres: multiply by 0.01"), (0.01, "not plausible")],
)
def test_units_are_questioned(tmp_path, scale, word) -> None:
    cache = cache_of(tmp_path / "c", [standing("ntu-25") * scale])
    assert word in "".join(warnings(cache, measure(cache)))


def test_pixels_are_noticed(tmp_path) -> None:
    body = standing("coco-17", 2)
    normalised = cache_of(tmp_path / "a", [body], "coco-17", "xy")
    assert warnings(normalised, measure(normalised)) == []
    pixels = cache_of(tmp_path / "b", [body * 300], "coco-17", "xy")
    assert "looks like pixels" in "".join(warnings(pixels, measure(pixels)))


def test_bodies_on_their_head_dead_joints_and_short_clips_are_noticed(tmp_path) -> None:
    body = standing("ntu-25", frames=3) * [[[1], [-1], [1]]]
    body[:, 22] = 0
    cache = cache_of(tmp_path / "c", [body, body])
    text = describe(cache)
    assert "in 100% of the poses the head is below the feet" in text
    assert f"always zero: joints {cache.topology.joints[22]}" in text
    assert "2 clips are shorter than 8 frames" in text


def test_classes_never_trained_are_noticed(tmp_path) -> None:
    with CacheWriter(tmp_path / "c", get_topology("ntu-25")) as writer:
        for label, side in ((0, "train"), (1, "test"), (2, "test"), (0, "test")):
            writer.add(Clip(standing("ntu-25"), "c", label, split={"s": side}))
    text = describe(ClipCache.open(tmp_path / "c"))
    assert "split 's' tests 2 classes it does not train" in text
    rows = [line.split() for line in text.splitlines()[-3:]]
    assert rows == [["0", "0", "2", "1/1"], ["1", "1", "1", "0/1"], ["2", "2", "1", "0/1"]]

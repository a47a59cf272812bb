import numpy as np
import pytest

from slim_fast.data import CacheWriter, Clip, ClipCache
from slim_fast.data.inspection import check_cache, describe_cache, measure_geometry
from slim_fast.skeletons import Topology, get_topology


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
    geometry = measure_geometry(cache)
    assert geometry.bone == pytest.approx(0.2, rel=1e-5)
    assert geometry.upright == 1
    assert geometry.undetected == ()
    assert check_cache(cache, geometry) == []


@pytest.mark.parametrize(
    ("scale", "word"),
    [
        (1000, "millimetres: multiply by 0.001"),
        (100, "centimetres: multiply by 0.01"),
        (0.01, "not plausible"),
    ],
)
def test_units_are_questioned(tmp_path, scale, word) -> None:
    cache = cache_of(tmp_path / "c", [standing("ntu-25") * scale])
    assert word in "".join(check_cache(cache, measure_geometry(cache)))


def test_pixels_are_noticed(tmp_path) -> None:
    body = standing("coco-17", 2)
    normalised = cache_of(tmp_path / "a", [body], "coco-17", "xy")
    assert check_cache(normalised, measure_geometry(normalised)) == []
    pixels = cache_of(tmp_path / "b", [body * 300], "coco-17", "xy")
    assert "looks like pixels" in "".join(check_cache(pixels, measure_geometry(pixels)))


def test_bodies_on_their_head_dead_joints_and_short_clips_are_noticed(tmp_path) -> None:
    body = standing("ntu-25", frames=3) * [[[1], [-1], [1]]]
    body[:, 22] = 0
    cache = cache_of(tmp_path / "c", [body, body])
    text = describe_cache(cache)
    assert "in 100% of the poses the head is below the feet" in text
    assert f"joints that are zero in every frame: {cache.topology.joints[22]}" in text
    assert "2 clips are shorter than 8 frames" in text


def test_classes_never_trained_are_noticed(tmp_path) -> None:
    with CacheWriter(tmp_path / "c", get_topology("ntu-25")) as writer:
        for label, side in ((0, "train"), (1, "test"), (2, "test"), (0, "test")):
            writer.add(Clip(standing("ntu-25"), "c", label, split={"s": side}))
    text = describe_cache(ClipCache.open(tmp_path / "c"))
    assert "split 's' has 2 classes with test clips but no training clip" in text
    table = text.split("\n\n")[1]
    rows = [line.split() for line in table.splitlines()[1:]]
    assert rows == [["0", "0", "2", "1/1"], ["1", "1", "1", "0/1"], ["2", "2", "1", "0/1"]]


def many_classes(path, classes: int, splits: list[str], people: int = 1) -> ClipCache:
    names = [f"{'a rather long name of ' * (i % 2)}class {i}" for i in range(classes)]
    clip = np.repeat(standing("ntu-25"), people, axis=3) + np.arange(people) / 10
    with CacheWriter(path, get_topology("ntu-25"), classes=names, source="somewhere") as writer:
        for i in range(2 * classes):
            writer.add(
                Clip(
                    clip, f"c{i}", i // 2, split={name: "test" if i else "train" for name in splits}
                )
            )
    return ClipCache.open(path)


@pytest.mark.parametrize("classes", [2, 12, 77, 120])
@pytest.mark.parametrize(
    "splits",
    [
        [],
        ["default"],
        ["ntu60-xsub", "ntu60-xview", "ntu120-xsub", "ntu120-xset"],
        [f"fold number {i}" for i in range(9)],
    ],
)
def test_many_classes_and_splits_fit_and_do_not_scroll_the_warnings_away(
    tmp_path, monkeypatch, classes, splits
) -> None:
    monkeypatch.chdir(tmp_path)
    text = describe_cache(many_classes("c", classes, splits, people=3))
    assert max(map(len, text.splitlines())) <= 80
    head, table, warnings = text.split("\n\n")
    assert head.count(": 1 training and ") == len(splits)
    assert len(table.splitlines()) == 1 + classes
    assert [line.split()[0] for line in table.splitlines()[1:]] == list(map(str, range(classes)))
    columns = table.splitlines()[0]
    assert all(split in columns for split in splits) or " split 1" in columns
    assert warnings.startswith("WARNING: ")
    assert f"WARNING: {2 * classes} clips have more than two people:" in warnings


def test_thousands_of_classes_are_not_all_listed(tmp_path) -> None:
    lines = describe_cache(many_classes(tmp_path / "c", 300, [])).splitlines()
    assert lines[-1] == "... and 100 more classes"
    assert lines[-2].startswith("199 ")


def test_labels_from_1_are_noticed(tmp_path) -> None:
    def of(name: str, labels: list[int], classes: tuple[str, ...] = ()) -> list[str]:
        with CacheWriter(tmp_path / name, get_topology("ntu-25"), classes=classes) as writer:
            for label in labels:
                writer.add(Clip(standing("ntu-25"), "c", label))
        cache = ClipCache.open(tmp_path / name)
        return check_cache(cache, measure_geometry(cache))

    (warning,) = of("a", [1, 2, -1, 3])
    assert "no clip has label 0 (the labels are 1 to 3)" in warning
    assert "--labels-from 1" in warning
    assert [of(name, labels) for name, labels in (("b", [0, 2]), ("c", [-1]), ("d", [4, 5]))] == [
        [],
        [],
        [],
    ]
    # named classes, of which the first is not there
    assert of("e", [1, 2], ("sit", "stand", "walk")) == []


def test_a_skeleton_of_one_joint_is_measured(tmp_path) -> None:
    lone = Topology("lone", ("a",), (-1,), (0,), {"trunk": (0,)}, 0)
    with CacheWriter(tmp_path / "c", lone) as writer:
        writer.add(Clip(np.ones((9, 1, 3, 1)), "c"))
    assert measure_geometry(ClipCache.open(tmp_path / "c")).extent == 0

"""Which skeleton data of so many joints and numbers have, and whether the third number is a depth
or a score.
"""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from slim_fast.data.convert import convert
from slim_fast.data.readers import Options, Source, open_source
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology, topology_names


def clips_together(folder: Path, x: np.ndarray, names: list[str]) -> Path:
    np.savez(folder / "a.npz", clips=x, names=names)
    return folder / "a.npz"


def single_clips(folder: Path, x: np.ndarray, names: list[str]) -> Path:
    np.savez(folder / "a.npz", **dict(zip(names, x, strict=True)))
    return folder / "a.npz"


def frames(folder: Path, x: np.ndarray, names: list[str]) -> Path:
    start = np.arange(len(x)) * x.shape[1]
    np.savez(
        folder / "a.npz", x=np.concatenate(x), start=start, length=[x.shape[1]] * len(x), name=names
    )
    return folder / "a.npz"


def agcn(folder: Path, x: np.ndarray, names: list[str]) -> Path:
    np.save(folder / "train_data.npy", x.transpose(0, 3, 1, 2, 4))
    (folder / "train_label.pkl").write_bytes(pickle.dumps((names, [0] * len(x))))
    return folder


def pyskl(folder: Path, x: np.ndarray, names: list[str]) -> Path:
    items = [
        {"frame_dir": n, "label": 0, "keypoint": k.transpose(3, 0, 1, 2)}
        for n, k in zip(names, x, strict=True)
    ]
    (folder / "a.pkl").write_bytes(pickle.dumps({"annotations": items}))
    return folder / "a.pkl"


Write = Callable[[Path, np.ndarray, list[str]], Path]
every_format = pytest.mark.parametrize("write", [clips_together, single_clips, frames, agcn, pyskl])
NAMES = ["a", "b"]


def scored(joints: int) -> np.ndarray:
    """(N, T, V, C, M) x, y and a score."""
    return np.random.default_rng(0).uniform(0.1, 1, (2, 4, joints, 3, 1)).astype(np.float32)


def skeleton(source: Source) -> tuple[str, str]:
    return source.topology.name, source.channels


@every_format
@pytest.mark.parametrize("name", topology_names())
def test_a_third_number_is_a_score_on_skeletons_of_pictures(tmp_path, write: Write, name) -> None:
    topology = get_topology(name)
    path = write(tmp_path, scored(topology.num_joints), NAMES)
    source = open_source(path, Options(topology))
    pictures = name.split("-")[0] in ("coco", "h36m", "openpose", "mediapipe")
    assert source.channels == ("xyc" if pictures else "xyz")
    assert [("--channels xyz" in warning) for warning in source.warnings] == [True] * pictures
    done = convert(path, tmp_path / "cache", Options(topology))
    assert done.cache.channels == source.channels
    assert set(source.warnings) <= set(done.warnings)
    for told in ("xyz", "xyc"):
        source = open_source(path, Options(topology, told))
        assert (source.channels, source.warnings) == (told, [])


@every_format
@pytest.mark.parametrize(
    ("joints", "sentence"),
    [
        (
            25,
            (
                "ntu-25 or openpose-25 would fit; --channels would be xyz for ntu-25, xyc for "
                "openpose-25"
            ),
        ),
        (17, "coco-17 or h36m-17 would fit; --channels would be xyc for coco-17, xyc for h36m-17"),
        (18, "openpose-18 would fit; --channels would be xyc for openpose-18"),
        (20, "--channels would be xyz for kinect-v1-20, xyz for utd-mhad-20"),
        (33, "--channels would be xyc for mediapipe-33"),
        (7, "--topology with a JSON file"),
    ],
)
def test_what_leaves_doubt_is_asked_for(tmp_path, write: Write, joints, sentence) -> None:
    with pytest.raises(UserError, match=sentence):
        open_source(write(tmp_path, scored(joints), NAMES))


@every_format
def test_what_tells_that_25_joints_are_of_ntu(tmp_path, write: Write) -> None:
    x = scored(25)
    assert skeleton(open_source(write(tmp_path, x, ["S001C002P003R002A013", "b"]))) == (
        "ntu-25",
        "xyz",
    )
    for name in ("ntu60", "NTURGB+D", "my_ntu_clips"):
        folder = tmp_path / name
        folder.mkdir()
        assert skeleton(open_source(write(folder, x, NAMES))) == ("ntu-25", "xyz")
    path = write(tmp_path, x, NAMES)
    assert skeleton(open_source(path, Options(channels="xyz"))) == ("ntu-25", "xyz")
    with pytest.raises(UserError, match="ntu-25 or openpose-25 would fit"):
        open_source(path, Options(channels="xyc"))
    fourth = np.concatenate([x, x[..., :1, :]], axis=3)
    assert skeleton(open_source(write(tmp_path, fourth, NAMES))) == ("ntu-25", "xyzc")


@every_format
@pytest.mark.parametrize(
    ("third", "tells"),
    [
        (lambda score: score + 2.5, True),  # metres from the camera
        (lambda score: score - 0.5, True),  # from the body's centre
        (lambda score: score * 3000, True),
        (lambda score: score, False),
        (lambda score: score * 1.2, False),
        (lambda score: np.where(score < 0.5, -1, score), False),
        (lambda score: np.where(score < 0.5, np.nan, score), False),
        (lambda score: score * 0, False),
    ],
)
def test_a_third_number_that_is_no_score_tells(tmp_path, write: Write, third, tells) -> None:
    x = scored(25)
    x[:, :, :, 2] = third(x[:, :, :, 2])
    path = write(tmp_path, x, NAMES)
    if tells:
        assert skeleton(open_source(path)) == ("ntu-25", "xyz")
    else:
        with pytest.raises(UserError, match="ntu-25 or openpose-25"):
            open_source(path)


def test_a_score_beside_the_keypoints_makes_three_numbers_coordinates(tmp_path) -> None:
    item = {"keypoint": scored(25)[0].transpose(3, 0, 1, 2), "keypoint_score": np.ones((1, 4, 25))}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([item]))
    assert skeleton(open_source(tmp_path / "a.pkl")) == ("ntu-25", "xyzc")


def test_the_widths_of_x_train(tmp_path) -> None:
    np.savez(tmp_path / "a.npz", x_train=scored(25)[..., 0].reshape(2, 4, 75))
    assert skeleton(open_source(tmp_path / "a.npz")) == ("ntu-25", "xyz")
    assert open_source(tmp_path / "a.npz", Options(get_topology("openpose-25"))).channels == "xyc"


@every_format
@pytest.mark.parametrize("third", [lambda score: score + 2.5, lambda score: score - 0.6])
def test_a_depth_is_not_taken_for_a_score_that_nobody_named(tmp_path, write: Write, third) -> None:
    """Joints whose score is not above 0 are undetected, so that a depth would wipe them out."""
    x = scored(17)
    x[:, :, :, 2] = third(x[:, :, :, 2])
    path, h36m = write(tmp_path, x, NAMES), get_topology("h36m-17")
    with pytest.raises(UserError, match=r"is no score .*--channels xyz"):
        open_source(path, Options(h36m))
    assert open_source(path, Options(h36m, "xyz")).channels == "xyz"
    assert open_source(path, Options(h36m, "xyc")).channels == "xyc"


def test_a_depth_in_x_train_is_not_taken_for_a_score(tmp_path) -> None:
    x = scored(17)
    x[:, :, :, 2] += 2.5
    np.savez(tmp_path / "a.npz", x_train=x[..., 0].reshape(2, 4, 51))
    with pytest.raises(UserError, match="is no score"):
        open_source(tmp_path / "a.npz", Options(get_topology("coco-17")))

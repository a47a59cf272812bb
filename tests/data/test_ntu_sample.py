"""The sample of real NTU recordings, clip by clip.

The expectations were found by hand, from the names and from a reading of the files by lines: who is
in which frames, who is wider than high, who moves most.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from slim_fast.data import ClipCache
from slim_fast.data.convert import convert
from slim_fast.data.readers import Options

SHARED = (
    Path(os.environ.get("SLIM_FAST_SHARED", Path(__file__).resolve().parents[3] / "shared"))
    / "data"
    / "ntu_raw"
)
pytestmark = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the real recordings of ../shared/data are not on this machine"
)

# setup, camera and performer -> ntu60-xsub, ntu60-xview, ntu120-xsub, ntu120-xset.
# Performers 1, 4, 8, 15 and 45 are on the lists for training, 8 and 45 only matter for NTU-120;
# 3, 20 and 106 are not. Cameras 2 and 3, and even setups, are for training.
SPLITS = {
    "S001C001P001": ("train", "test", "train", "test"),
    "S001C001P003": ("test", "test", "test", "test"),
    "S001C001P004": ("train", "test", "train", "test"),
    "S002C001P003": ("test", "test", "test", "train"),
    "S003C001P015": ("train", "test", "train", "test"),
    "S017C003P020": ("test", "train", "test", "test"),
    "S018C001P008": (None, None, "train", "train"),
    "S018C001P045": (None, None, "train", "train"),
    "S032C003P106": (None, None, "test", "train"),
}
SPLIT_NAMES = ("ntu60-xsub", "ntu60-xview", "ntu120-xsub", "ntu120-xset")

# setup, camera, performer, repetition -> action: frames
FRAMES = {
    "S001C001P001R001": {1: 103, 11: 82},
    "S001C001P003R002": {5: 68},
    "S001C001P004R001": {17: 97},
    "S002C001P003R001": {3: 100},
    "S003C001P015R001": {34: 71},
    "S017C003P020R002": {
        **{50: 37, 51: 46, 52: 57, 53: 68, 54: 42, 55: 66, 56: 80, 57: 76, 58: 65, 59: 111, 60: 77}
    },
    "S018C001P008R002": {
        **{76: 82, 77: 64, 81: 77, 87: 128, 88: 93, 92: 102, 97: 81, 99: 87, 100: 103, 101: 144},
        **{105: 90, 107: 88, 109: 61, 110: 76, 118: 97, 119: 100},
    },
    "S018C001P045R001": {
        **{61: 84, 62: 55, 63: 65, 67: 41, 69: 47, 70: 42, 74: 98, 75: 77, 82: 88, 90: 61, 94: 52},
        **{95: 39, 96: 42, 112: 48, 115: 50, 120: 79},
    },
    "S032C003P106R001": {
        **{65: 59, 66: 76, 84: 115, 85: 77, 89: 110, 98: 83, 104: 65, 106: 98, 113: 59, 114: 86},
        **{116: 73, 117: 49},
    },
    "S032C003P106R002": {
        **{
            64: 109,
            68: 58,
            71: 46,
            72: 44,
            73: 89,
            78: 70,
            79: 55,
            80: 47,
            83: 104,
            86: 69,
            91: 91,
        },
        **{93: 67, 102: 74, 103: 55, 108: 46, 111: 57},
    },
}
# action -> its bodies by their order in the file, who moves most first. In all other clips there is
# one person: the first body of the file, also for action 5, where a second one is always wider than
# high, furniture that the sensor takes for a person.
PAIRS = {
    **{50: "01", 51: "01", 52: "10", 53: "01", 54: "01", 55: "10", 56: "01", 57: "10", 58: "10"},
    **{59: "01", 60: "01", 106: "10", 107: "10", 108: "01", 109: "10", 110: "10", 111: "10"},
    **{112: "10", 113: "01", 114: "01", 115: "10", 116: "01", 117: "10", 118: "10", 119: "10"},
    **{120: "10"},
}
NAMES = {
    f"{take}A{action:03d}": (action, frames)
    for take, actions in FRAMES.items()
    for action, frames in actions.items()
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> ClipCache:
    done = convert(SHARED, tmp_path_factory.mktemp("ntu") / "cache", Options(workers=1))
    assert done.problems == []
    assert done.report.frames_dropped == done.report.frames_interpolated == 0
    return done.cache


def read_by_lines(file: Path, frames: int) -> list[np.ndarray]:
    """The bodies of a file in the order of their ids' first lines, (frames, 25, 3) each."""
    lines = iter(file.read_text().split("\n"))
    bodies: dict[str, np.ndarray] = {}
    assert int(next(lines)) == frames
    for t in range(frames):
        for _ in range(int(next(lines))):
            body = bodies.setdefault(next(lines).split()[0], np.zeros((frames, 25, 3)))
            assert int(next(lines)) == 25
            for joint in range(25):
                body[t, joint] = list(map(float, next(lines).split()[:3]))
    return list(bodies.values())


def test_every_recording_is_there_once(cache) -> None:
    assert len(NAMES) == 77
    assert sorted(cache.names) == sorted(NAMES)


def test_numbers_and_splits_of_every_clip(cache) -> None:
    codes = {None: 0, "train": 1, "test": 2}
    for i, name in enumerate(cache.names):
        action, frames = NAMES[name]
        numbers = int(name[1:4]), int(name[5:8]), int(name[9:12])
        assert (cache.setup[i], cache.camera[i], cache.subject[i]) == numbers
        assert (cache.label[i], cache.length[i]) == (action - 1, frames), name
        found = tuple(cache.splits[split][i] for split in SPLIT_NAMES)
        assert found == tuple(codes[side] for side in SPLITS[name[:12]]), name


@pytest.mark.parametrize("name", sorted(NAMES))
def test_the_people_are_those_of_the_file(cache, name) -> None:
    action, frames = NAMES[name]
    bodies = read_by_lines(SHARED / f"{name}.skeleton", frames)
    expected = [bodies[int(number)] for number in PAIRS.get(action, "0")]
    (i,) = np.flatnonzero(cache.names == name)
    assert cache.people[i] == len(expected)
    np.testing.assert_array_equal(cache.clip(i), np.stack(expected, axis=-1).astype(np.float32))

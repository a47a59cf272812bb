"""slim_fast.preprocess gives what evaluation gives, and says what looks wrong."""

import warnings

import numpy as np
import pytest
import torch

import slim_fast
from slim_fast.data import CacheWriter, ClipCache
from slim_fast.data.clips import Clip
from slim_fast.errors import UserError
from slim_fast.evaluation.features import load_evaluation_clips
from slim_fast.skeletons import get_topology


def person(frames: int, people: int = 1, seed: int = 0, joints: int = 25, channels: int = 3):
    """(T, V, C, M) float32 about 1.6 m tall, three metres away, every number another."""
    rng = np.random.default_rng(seed)
    path = np.cumsum(rng.normal(0, 0.01, (frames, 1, channels, people)), axis=0)
    clip = rng.uniform(-0.8, 0.8, (frames, joints, channels, people)) + path + 3
    return clip.astype(np.float32)


def evaluated(clip, topology, channels, tmp_path, window: int = 64) -> torch.Tensor:
    """The clip (1, C, T, V, M) by way of a cache, as `evaluate` reads it."""
    with CacheWriter(tmp_path / "cache", get_topology(topology), channels) as writer:
        writer.add(Clip(clip, "clip"))
    x = load_evaluation_clips(ClipCache.open(tmp_path / "cache"), np.arange(1), window)
    return x.permute(0, 4, 2, 3, 1)


@pytest.mark.parametrize("frames", [1, 20, 64, 65, 150, 300])
@pytest.mark.parametrize("window", [64, 32])
def test_it_is_what_evaluation_reads(tmp_path, frames, window):
    clip = person(frames, 2, frames)
    clip[: frames // 3, ..., 0] = 0  # who comes later is the second
    clip[frames // 4 : frames // 3, ..., 1] = 0  # nobody
    clip[:, 9, 1, 1] = np.nan
    expected = evaluated(clip, "ntu-25", "xyz", tmp_path, window)
    got = slim_fast.preprocess(clip, "ntu-25", window=window)
    assert got.shape == (1, 3, window, 25, 2)
    assert torch.equal(got, expected if expected.shape[4] == 2 else pad(expected))
    assert torch.equal(slim_fast.preprocess(torch.from_numpy(clip), "ntu-25", window=window), got)


def pad(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x, torch.zeros_like(x)], 4)


@pytest.mark.parametrize("channels", ["xy", "xyc", "xyz"])
def test_other_skeletons_and_channels(tmp_path, channels):
    clip = person(80, 3, joints=17, channels=len(channels))
    clip[:, 3, -1] = 0
    expected = evaluated(clip, "coco-17", channels, tmp_path)
    options = {} if channels != "xyz" else {"channels": "xyz"}  # three numbers are xyc by default
    assert torch.equal(slim_fast.preprocess(clip, "coco-17", **options), expected)
    assert slim_fast.preprocess(clip, "coco-17", people=4, **options).shape[4] == 4


def test_the_frame_rate():
    """A movement recorded at 30 frames a second, and the same at 120 and 15."""
    time = np.linspace(0, 1, 961)
    wave = np.sin(2 * np.pi * time)[:, None, None] * np.linspace(0, 1, 25)[:, None]
    still = np.random.default_rng(0).uniform(-0.8, 0.8, (1, 25, 3))
    film = (wave + still)[:960].astype(np.float32)  # (T, V, C), 960 frames
    recordings = {fps: film[480 // n :: 960 // n] for fps, n in ((30, 40), (120, 160), (15, 20))}
    seen = {fps: slim_fast.preprocess(clip, "ntu-25", fps) for fps, clip in recordings.items()}
    for fps in (120, 15):  # but for the ends, where the slowest knows no more
        assert [len(clip) for clip in recordings.values()] == [40, 160, 20]
        torch.testing.assert_close(seen[fps][:, :, 2:-2], seen[30][:, :, 2:-2], atol=0.03, rtol=0)
    plain = slim_fast.preprocess(film[::24], "ntu-25")
    assert torch.equal(slim_fast.preprocess(film[::24], "ntu-25", 30), plain)


def test_what_looks_like_other_units_is_said_once():
    clip = person(40)
    for factor, says in (
        (1000, r"looks like millimetres: multiply by 0\.001 to get metres \(pass scale=0\.001\)"),
        (100, r"looks like centimetres: .*pass scale=0\.01\)"),
        (8, r"not plausible in metres, where about 1\.5 is usual \(pass scale=FACTOR\)"),
    ):
        with pytest.warns(UserWarning, match=says):
            slim_fast.preprocess(clip * factor, "ntu-25")
    with pytest.warns(UserWarning, match=r"looks like pixels: divide by half the image height"):
        slim_fast.preprocess(person(40, joints=17, channels=2) * 300, "coco-17")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaled = slim_fast.preprocess(clip * 1000, "ntu-25", scale=0.001)
    torch.testing.assert_close(scaled, slim_fast.preprocess(clip, "ntu-25"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("clip", "options", "says"),
    [
        (np.ones((9, 20, 3)), {}, r"A clip of ntu-25 is \(T .*got \(9, 20, 3\)\. .*utd-mhad-20"),
        (np.ones((9, 25)), {}, r"got \(9, 25\)\.$"),
        (np.ones((9, 25, 7)), {}, r"2 or 3 or 4 channels"),
        (np.ones((9, 25, 3)), {"channels": "xy"}, r"2 channels"),
        (np.ones((9, 25, 3)), {"channels": "abc"}, r"unknown channels 'abc'"),
        (np.zeros((9, 25, 3)), {}, "holds no person"),
        (np.ones((0, 25, 3)), {}, "holds no person"),
        ([["a"]], {}, "no array of numbers"),
        ([[1], [1, 2]], {}, "no array of numbers"),
        (np.ones((9, 25, 3)), {"fps": 0}, "fps=0"),
        (np.ones((9, 25, 3)), {"scale": float("nan")}, "scale=nan"),
        (np.ones((9, 25, 3)), {"window": 0}, "window=0"),
        (np.ones((9, 25, 3)), {"people": 0}, "people=0"),
    ],
)
def test_what_cannot_be_read(clip, options, says):
    with pytest.raises(UserError, match=says) as error:
        slim_fast.preprocess(clip, "ntu-25", **options)
    assert "\n" not in str(error.value)

"""The batched views and the per-sample numpy baseline, written apart from each other, agree in
distribution.
"""

import math

import numpy as np
import pytest
import torch

from benchmarks.baselines import numpy_views
from slim_fast.skeletons import get_topology
from slim_fast.views.augment import AugmentConfig
from slim_fast.views.masks import TubeMasker
from slim_fast.views.pipeline import ViewSampler, ViewsConfig
from slim_fast.views.random_stream import RandomStream

TOPOLOGY = get_topology("ntu-25")
WINDOWS, COUNTS = (64, 32, 16, 8), (2, 2, 4, 2)
STILL = AugmentConfig(
    mirror=0.0, scale=0.0, rotate=0.0, noise_probability=(0.0, 0.0, 0.0), flatten=0.0
)
PLAIN = ViewsConfig(augment=STILL)


def assert_same_mean(ours: np.ndarray, theirs: np.ndarray, what: str, slack: float = 0.0) -> None:
    """Columns of independent rows: means within five standard errors (and slack) of each other."""
    a, b = (np.asarray(x, dtype=np.float64).reshape(len(x), -1) for x in (ours, theirs))
    error = np.sqrt(a.var(0) / len(a) + b.var(0) / len(b))
    off = np.abs(a.mean(0) - b.mean(0))
    worst = int(np.argmax(off - 5 * error))
    assert (off <= 5 * error + slack + 1e-9).all(), (
        f"{what}: {a.mean(0)[worst]} and {b.mean(0)[worst]}"
    )


def runs(masks: np.ndarray, axis: int) -> np.ndarray:
    """(N,) mean length of a mask's runs of cells along an axis of (N, T, V)."""
    masks = np.moveaxis(masks, axis, -1)
    begins = masks & ~np.pad(masks, [(0, 0), (0, 0), (1, 0)])[..., :-1]
    return masks.sum((1, 2)) / np.maximum(begins.sum((1, 2)), 1)


@pytest.mark.parametrize(("tokens", "min_area"), [(8, 8), (4, 4), (2, 2), (1, 1)])
@pytest.mark.parametrize("ratio", [0.5, 0.75, 0.9])
def test_tube_masks(tokens, min_area, ratio):
    many = 600
    rng = np.random.default_rng(0)
    theirs = np.stack(
        [numpy_views.tube_mask(tokens, TOPOLOGY, ratio, min_area, 100, rng) for _ in range(many)]
    )
    budget = torch.full((5 * many,), int(ratio * tokens * 25))
    rows = torch.ones_like(budget)
    masker, stream = TubeMasker(TOPOLOGY), RandomStream.of(0, torch.arange(len(budget)))
    ours = masker(budget, tokens * rows, min_area * rows, 100, stream).numpy()
    # With fewer cells left than the smallest area, the baseline asks for what is left, we (as the
    # release does) for an
    # area between the two: this touches a mask's last few cells.
    slack = 0.01
    cells = tokens * 25
    assert_same_mean(ours.sum((1, 2)) / cells, theirs.sum((1, 2)) / cells, "masked share", slack)
    assert_same_mean(ours.mean(1), theirs.mean(1), "share of every joint", 2 * slack)
    assert_same_mean(ours.mean(2), theirs.mean(2), "share of every time", 2 * slack)
    assert_same_mean(runs(ours, 1), runs(theirs, 1), "run in time", 0.02 * tokens)
    order = [joint for part in TOPOLOGY.parts.values() for joint in part]
    assert_same_mean(runs(ours[..., order], 2), runs(theirs[..., order], 2), "run of joints", 0.2)
    pairs = [(x[..., 4] & x[..., 5]).mean(1) for x in (ours, theirs)]  # neighbours in the left arm
    assert_same_mean(*pairs, "neighbours masked together", 2 * slack)
    apart = [(x[..., 4] & x[..., 12]).mean(1) for x in (ours, theirs)]
    assert_same_mean(*apart, "strangers masked together", 2 * slack)


@pytest.mark.parametrize(
    "frames", [80, *(pytest.param(n, marks=pytest.mark.long) for n in (12, 30, 160, 300))]
)
def test_frames(frames, make_store):
    """Positions in time of a global view and of each local view around it, slot by slot."""
    many = 3000
    rng = np.random.default_rng(1)
    clip = np.arange(frames, dtype=np.float32)[:, None, None]
    clip = numpy_views.lengthen(clip) if frames < 16 else clip
    theirs: dict[int, list] = {window: [] for window in WINDOWS}
    for _ in range(many):
        start, length = numpy_views.crop(0, len(clip), 64, (0.5, 1.0), rng)
        drawn = start + numpy_views.window_positions(length, 64, rng)
        theirs[64].append(numpy_views.frames_at(clip, drawn)[:, 0, 0])
        first, last = int(drawn[0]), int(np.ceil(drawn[-1]))
        for window in WINDOWS[1:]:
            inner, span = numpy_views.crop(
                first, last - first + 1, window, numpy_views.WINDOWS[window].fraction, rng
            )
            position = inner + numpy_views.window_positions(span, window, rng)
            theirs[window].append(numpy_views.frames_at(clip, position)[:, 0, 0])

    ramp = np.broadcast_to(
        1 + np.arange(frames, dtype=np.float32)[:, None, None, None], (frames, 25, 3, 1)
    )
    batch = ViewSampler(make_store([ramp] * 1000), PLAIN, 0)
    drawn = [
        [group.clips[:, :1, :, 0, 0].flatten(0, 1) for group in batch(torch.arange(1000), s).groups]
        for s in range(15)
    ]
    for number, window in enumerate(WINDOWS):
        ours = torch.cat([views[number] for views in drawn]).numpy()
        other = np.stack(theirs[window])
        assert_same_mean(ours, other, f"{window} frames")
        assert_same_mean(ours**2, other**2, f"{window} frames, squared")
        steps = [np.abs(np.diff(x, axis=1)) for x in (ours, other)]
        assert_same_mean(*(s.mean(1) for s in steps), f"{window} frames, step")
        assert_same_mean(*((s**2).mean(1) for s in steps), f"{window} frames, squared step")


def test_augmented_views(make_store, walker):
    """Coordinates, bone lengths and noise of whole samples from one clip."""
    clip = walker(200)
    rng = np.random.default_rng(3)
    baseline = [numpy_views.sample_views(clip[..., 0], TOPOLOGY, rng) for _ in range(250)]
    batch = ViewSampler(make_store([clip] * 800), ViewsConfig(), 0)(torch.arange(800), 0)
    child, parent = (list(joints) for joints in zip(*TOPOLOGY.bones, strict=True))
    for number, (window, count) in enumerate(zip(WINDOWS, COUNTS, strict=True)):
        ours = batch.groups[number].clips.numpy()
        theirs = np.stack([views.clips[number] for views in baseline])
        assert ours.shape[1:] == theirs.shape[1:] == (count, window, 25, 3)
        for view in range(count):
            a, b = ours[:, view], theirs[:, view]
            what = f"view {view} of {window} frames"
            assert_same_mean(a.mean(1), b.mean(1), f"{what}: position")
            assert_same_mean((a**2).mean(1), (b**2).mean(1), f"{what}: squared position")
            bones = [x[..., child, :] - x[..., parent, :] for x in (a, b)]
            lengths = [np.linalg.norm(x, axis=-1).mean(1) for x in bones]
            assert_same_mean(*lengths, f"{what}: bone length")
            assert_same_mean(*(x**2 for x in lengths), f"{what}: squared bone length")
            jitter = [(np.diff(x, 2, axis=1) ** 2).mean((1, 2, 3)) for x in (a, b)]
            assert_same_mean(*jitter, f"{what}: jitter")
            flat = [(x == 0).all((1, 2)).any(1) for x in (a, b)]
            assert_same_mean(*flat, f"{what}: zeroed axis")


def test_masks_of_whole_samples(make_store, walker):
    clips = [walker(150, seed=i) for i in range(8)]
    rng = np.random.default_rng(4)
    baseline = [
        numpy_views.sample_batch([c[..., 0] for c in clips], TOPOLOGY, rng).masks for _ in range(12)
    ]
    sampler = ViewSampler(make_store(clips), ViewsConfig(), 0)
    batches = [sampler(torch.arange(8), step).groups for step in range(60)]
    for number, window in enumerate(WINDOWS):
        shares = []
        for masks in ([b[number].mask.numpy() for b in batches], [b[number] for b in baseline]):
            shares.append(np.concatenate(masks).mean((3, 4) if masks[0].ndim == 5 else (2, 3)))
        whole = [(s == 0).mean(1) for s in shares]
        assert_same_mean(*whole, f"{window} frames: not masked")
        for power in (1, 2):
            assert_same_mean(
                *((s**power).mean(1) for s in shares), f"{window} frames: share ** {power}", 0.01
            )
    assert math.isclose(np.mean(shares[0] > 0), 1.0)

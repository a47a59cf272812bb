"""Wherever the clips are kept, the views are the same, and a mapped file takes no memory."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from slim_fast.errors import UserError
from slim_fast.views import memory
from slim_fast.views.pipeline import ViewSampler, ViewsConfig
from slim_fast.views.store import FrameStore
from tests.views.test_pipeline import equal


@pytest.fixture
def store(make_store, walker):
    absent = walker(60, people=2, seed=1)
    absent[10:20, ..., 1] = 0  # and back again
    return make_store([walker(90), absent, walker(40, seed=2), walker(7, people=2, seed=3)])


def sample(store: FrameStore, step: int = 3):
    return ViewSampler(store, ViewsConfig(), 0)(torch.tensor([2, 1, 0, 3, 1]), step)


@pytest.mark.parametrize("kept", ["device", "host", "mapped"])
def test_views_are_the_same_from_everywhere(kept, store):
    other = FrameStore(store.cache, memory=kept)
    for step in range(4):
        assert equal(sample(store, step), sample(other, step))


def test_a_staged_batch_gives_the_same_views(store):
    """As for a GPU whose memory is too small, with this CPU in its place."""
    staged = FrameStore(store.cache, memory="mapped")
    staged.is_staged = True
    for step in range(4):
        assert equal(sample(store, step), sample(staged, step))


def test_a_part_of_a_staged_batch_has_the_batch_s_views(store):
    staged = FrameStore(store.cache, memory="mapped")
    staged.is_staged = True
    clips = torch.tensor([2, 1, 0, 3])
    parts = [ViewSampler(s, ViewsConfig(), 0)(clips, 1, slice(2, 4)) for s in (store, staged)]
    assert equal(*parts)


def test_half_precision_rounds_coordinates_once(store):
    half = FrameStore(store.cache, memory="host", dtype="fp16")
    assert half._positions.dtype == torch.float16
    track, frame = torch.tensor([0, 1]), torch.tensor([5, 50])
    read = half.gather(track, frame)
    assert read.dtype == torch.float32
    assert torch.equal(read, store.gather(track, frame).half().float())
    for ours, theirs in zip(sample(half).groups, sample(store).groups, strict=True):
        torch.testing.assert_close(ours.clips, theirs.clips, rtol=0, atol=2e-2)
        assert torch.equal(ours.mask, theirs.mask)


def test_half_precision_of_a_mapped_file_is_refused(store):
    with pytest.raises(UserError, match="needs data_memory=device or host"):
        FrameStore(store.cache, memory="mapped", dtype="fp16")


def test_coordinates_beyond_half_precision_are_refused(make_store, walker):
    large = make_store([walker(9) * 1e6])
    with pytest.raises(UserError, match="up to 65504"):
        FrameStore(large.cache, memory="host", dtype="fp16")


def test_auto_takes_the_first_that_has_room(monkeypatch):
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (200, 400))
    monkeypatch.setattr(memory, "_free_host_memory", lambda: 400)
    choose = [memory._choose(size, gpu, "fp32") for size in (50, 51, 200, 201)]
    assert choose == ["device", "host", "host", "mapped"]
    assert memory._choose(1, torch.device("cpu"), "fp32") == "mapped"


PEAK = """
import sys, threading, torch
from slim_fast.data import ClipCache
from slim_fast.views.pipeline import ViewSampler, ViewsConfig
from slim_fast.views.store import FrameStore

def own():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

peak, done = [0], threading.Event()
def watch():
    while not done.wait(0.002):
        peak[0] = max(peak[0], own())
threading.Thread(target=watch, daemon=True).start()
store = FrameStore(ClipCache.open(sys.argv[1]), memory="mapped")
store.is_staged = len(sys.argv) > 2
sampler = ViewSampler(store, ViewsConfig(), 0)
for step in range(20):
    sampler((torch.arange(8) + 8 * step) % len(store), step)
done.set()
print(max(peak[0], own()) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("staged", [pytest.param([], marks=pytest.mark.long), ["staged"]])
def test_a_mapped_data_set_takes_no_memory_of_its_own(staged, make_store, walker):
    """What the system may take back, pages of the file, is not counted."""
    frames, few, many = 1500, 12, 112  # 0.45 MB a clip
    clip = walker(frames, joints=25)
    peaks, sizes = [], []
    for count in (few, many):
        cache = make_store([np.roll(clip, number, 0) for number in range(count)]).cache
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(cache.path), *staged],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(done.stdout))
        sizes.append(cache.positions.nbytes)
    assert sizes[1] - sizes[0] > 40e6
    assert peaks[1] - peaks[0] < 0.1 * (sizes[1] - sizes[0]), (peaks, sizes)

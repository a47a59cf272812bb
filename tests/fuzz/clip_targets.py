"""Readers of clips and poses: data sets, caches, videos."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np

from examples.watch_poses import make_frames
from slim_fast.data import CacheWriter, ClipCache
from slim_fast.data.clips import Clip
from slim_fast.data.convert import convert
from slim_fast.data.missing import read_missing
from slim_fast.data.open_clips import open_clips
from slim_fast.data.readers import Options
from slim_fast.data.readers.kept import KeptBatches, write_batch
from slim_fast.errors import UserError
from slim_fast.skeletons import Topology, get_topology
from slim_fast.views.store import FrameStore
from slim_fast.watching.pose_files import open_poses
from slim_fast.watching.video import open_video
from tests.data import folder_formats
from tests.data.test_fuzz_folders import FORMS
from tests.fuzz.target import Target, make_clip, write_cache
from tests.watching.conftest import BoxFinder, write_video


def _convert(name: str, file: str = "in") -> Callable[[Path], None]:
    """Converts, and leaves either no cache or a whole one."""

    def read(folder: Path) -> None:
        source = folder if file == "in" else folder / file
        out = folder.with_name("out")
        try:
            convert(source, out, Options(get_topology(name)), overwrite=True)
        except UserError:
            if out.exists():
                ClipCache.open(out)
            raise
        _use_cache(out)

    return read


def _use_cache(folder: Path) -> None:
    cache = ClipCache.open(folder)
    for number in range(min(3, len(cache))):
        cache.clip(number)
    if len(cache):
        FrameStore(cache)


def _arrays(**arrays: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: np.savez(folder / "ntu.npz", **arrays)


def _write_agcn(folder: Path) -> None:
    np.save(folder / "train_data.npy", np.stack([make_clip()] * 2).transpose(0, 3, 1, 2, 4))
    (folder / "train_label.pkl").write_bytes(pickle.dumps((["a", "b"], [0, 1])))


def _write_pyskl(folder: Path) -> None:
    keypoint = np.stack([make_clip(17, 2)[..., 0]])
    one = {"frame_dir": "a", "keypoint": keypoint, "total_frames": 3, "label": 1}
    content = {"split": {"train": ["a"], "val": []}, "annotations": [one]}
    (folder / "coco.pkl").write_bytes(pickle.dumps(content, protocol=2))


def _write_ntu(folder: Path) -> None:
    clip = make_clip()[..., 0]
    lines = [str(len(clip))]
    for frame in clip:
        lines += ["1", "72057594037944738 0 0 0 0 0 0 0 0 2", "25"]
        lines += [" ".join(f"{x:.4f}" for x in (*joint, *[0.0] * 9)) for joint in frame]
    (folder / "S001C001P001R001A001.skeleton").write_text("\n".join(lines))


def _write_own(folder: Path) -> None:
    """Clips of one's own with a table of labels and a skeleton."""
    folder_formats.numbered_csv(folder, [make_clip(20)] * 2)
    (folder / "labels.csv").write_text("name,label,split\nclip0,wave,train\nclip1,clap,test\n")


def _form(form: str) -> Target:
    write, name, channels = FORMS[form]
    clips = [make_clip(get_topology(name).num_joints, channels)] * 2
    return Target(lambda folder: write(folder, clips), _convert(name))


def _write_arrays(folder: Path) -> None:
    for name in "ab":
        np.save(folder / f"{name}.npy", make_clip())


def _read_arrays(folder: Path) -> None:
    with open_clips(sorted(folder.glob("*.npy")), Options(get_topology("ntu-25"))) as (cache, _):
        _use_cache(cache.path)


def _write_kept(folder: Path) -> None:
    batch = [Clip(make_clip(), name, 1, 2, split={"xsub": "train"}) for name in "ab"]
    write_batch(KeptBatches(folder, "0" * 32).path(0), [*batch])


def _read_kept(folder: Path) -> None:
    found = KeptBatches(folder, "0" * 32).load(0) or []
    with CacheWriter(folder.with_name("out"), get_topology("ntu-25"), overwrite=True) as writer:
        for clip in found:
            if isinstance(clip, Clip):
                writer.add(clip)


def _poses(name: str, openpose: bool = False) -> Target:
    frames = make_frames(["kick"], 3)[:4]
    if openpose:
        people = [{"pose_keypoints_2d": [float(x) for x in range(75)]}]
        frames = [{"people": people, "width": 640, "height": 480}] * 4

    def write(folder: Path) -> None:
        lines = [json.dumps(frame) for frame in frames]
        if name.endswith(".jsonl"):
            (folder / name).write_text("\n".join(lines))
        elif name.endswith(".json"):
            (folder / name).write_text(f'{{"frames": [{", ".join(lines)}]}}')
        else:
            (folder / name).mkdir()
            for number, line in enumerate(lines):
                (folder / name / f"{number}.json").write_text(line)

    return Target(write, lambda folder: list(open_poses(str(folder / name), 30, 20).frames))


def _read_video(folder: Path) -> None:
    list(open_video(str(folder / "a.avi"), 20, BoxFinder).frames)


_NPZ = _convert("ntu-25", "ntu.npz")
_X = np.stack([make_clip()[..., 0]] * 2)
TARGETS: dict[str, Target] = {
    **{form: _form(form) for form in FORMS},
    "own folders": Target(_write_own, _convert("kinect-v1-20")),
    "ntu": Target(_write_ntu, _convert("ntu-25")),
    "npz of clips": Target(
        _arrays(clips=_X, labels=np.arange(2), names=np.array(["a", "b"])), _NPZ
    ),
    "npz of frames": Target(
        _arrays(x=_X.reshape(6, 25, 3, 1), start=np.array([0, 3]), length=np.array([3, 3])), _NPZ
    ),
    "npz of train and test": Target(
        _arrays(x_train=_X.reshape(2, 3, 75), y_train=np.array(["a", "b"])), _NPZ
    ),
    "npy and pickle": Target(_write_agcn, _convert("ntu-25", "train_data.npy")),
    "pyskl": Target(_write_pyskl, _convert("coco-17", "coco.pkl")),
    "npy": Target(_write_arrays, _read_arrays),
    "cache": Target(write_cache, _use_cache),
    "kept batches": Target(_write_kept, _read_kept),
    "missing skeletons": Target(
        lambda folder: (folder / "missing.txt").write_text("S001C002P005R002A008\n" * 3),
        lambda folder: read_missing(folder / "missing.txt"),
        0.2,
    ),
    "topology": Target(
        lambda folder: (folder / "arm.json").write_text(
            json.dumps(get_topology("kinect-v1-20").to_dict())
        ),
        lambda folder: Topology.from_json(folder / "arm.json"),
    ),
    "poses by line": _poses("poses.jsonl"),
    "poses in a file": _poses("poses.json", openpose=True),
    "poses in a folder": _poses("poses"),
    "video": Target(lambda folder: write_video(folder / "a.avi", 12, size=64), _read_video, 0.2),
}

"""What must not matter, for every format: the order of people and joints, where the camera stands,
mirrored or not.
"""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slim_fast.data.convert import convert
from slim_fast.data.readers import Options
from slim_fast.evaluation.features import load_evaluation_clips
from slim_fast.skeletons import Topology, get_topology
from tests.data import folder_formats

NAMES = [f"S001C001P001R001A{action:03d}" for action in (50, 51, 52)]
HEIGHT, WIDTH = 720, 1280


def raw_ntu(folder: Path, clips: list[np.ndarray]) -> Path:
    for name, clip in zip(NAMES, clips, strict=True):
        lines = [str(len(clip))]
        for frame in clip.transpose(0, 3, 1, 2):  # (M, V, C)
            there = [person for person in range(len(frame)) if frame[person].any()]
            lines.append(str(len(there)))
            for person in there:
                joints = [
                    " ".join(f"{value:.9g}" for value in joint) + " 0" * 9
                    for joint in frame[person]
                ]
                lines += [f"{7205 + person} 0 1 1 1 1 0 0 0 2", str(len(joints)), *joints]
        (folder / f"{name}.skeleton").write_text("\n".join(lines))
    return folder


def together(clips: list[np.ndarray]) -> np.ndarray:
    """(N, T, V, C, M) with zeros behind the shorter clips."""
    longest = max(map(len, clips))
    return np.stack([np.pad(clip, [(0, longest - len(clip)), *[(0, 0)] * 3]) for clip in clips])


def x_train(folder: Path, clips: list[np.ndarray]) -> Path:
    values = together(clips).transpose(0, 1, 4, 2, 3)
    np.savez(
        folder / "a.npz",
        x_train=values.reshape(*values.shape[:2], -1),
        y_train=np.arange(len(clips)),
    )
    return folder / "a.npz"


def agcn(folder: Path, clips: list[np.ndarray]) -> Path:
    np.save(folder / "train_data_joint.npy", together(clips).transpose(0, 3, 1, 2, 4))
    (folder / "train_label.pkl").write_bytes(pickle.dumps((NAMES, list(range(len(clips))))))
    return folder


def pyskl(folder: Path, clips: list[np.ndarray]) -> Path:
    items = [
        {"frame_dir": name, "label": i, "keypoint": clip.transpose(3, 0, 1, 2)}
        for i, (name, clip) in enumerate(zip(NAMES, clips, strict=True))
    ]
    (folder / "a.pkl").write_bytes(pickle.dumps({"split": {}, "annotations": items}))
    return folder / "a.pkl"


def pyskl_in_pixels(folder: Path, clips: list[np.ndarray]) -> Path:
    items = []
    for i, (name, clip) in enumerate(zip(NAMES, clips, strict=True)):
        keypoint = clip.transpose(3, 0, 1, 2).astype(np.float64)
        seen = keypoint.any(axis=-1)
        pixels = keypoint * HEIGHT / 2 + [WIDTH / 2, HEIGHT / 2]
        item = {"keypoint": np.where(seen[..., None], pixels, 0), "keypoint_score": 0.9 * seen}
        items.append({"frame_dir": name, "label": i, "img_shape": (HEIGHT, WIDTH), **item})
    (folder / "a.pkl").write_bytes(pickle.dumps({"split": {}, "annotations": items}))
    return folder / "a.pkl"


def one_member_a_clip(folder: Path, clips: list[np.ndarray]) -> Path:
    np.savez(folder / "a.npz", **dict(zip(NAMES, clips, strict=True)))
    return folder / "a.npz"


def clips_in_one_member(folder: Path, clips: list[np.ndarray]) -> Path:
    np.savez(folder / "a.npz", clips=together(clips), lengths=np.array(list(map(len, clips))))
    return folder / "a.npz"


def frames_end_to_end(folder: Path, clips: list[np.ndarray]) -> Path:
    length = np.array(list(map(len, clips)))
    np.savez(
        folder / "a.npz", x=np.concatenate(clips), start=np.cumsum(length) - length, length=length
    )
    return folder / "a.npz"


@dataclass(frozen=True)
class Format:
    write: Callable[[Path, list[np.ndarray]], Path]
    topology: str = "ntu-25"
    channels: str = "xyz"
    people: int = 3


FORMATS = [
    Format(raw_ntu, people=2),
    Format(x_train),
    Format(agcn),
    Format(pyskl),
    Format(pyskl_in_pixels, "coco-17", "xyc"),
    Format(one_member_a_clip),
    Format(clips_in_one_member),
    Format(frames_end_to_end),
    Format(folder_formats.n_ucla, "kinect-v1-20", people=1),
    Format(folder_formats.pku_mmd, people=2),
    Format(folder_formats.utd_mhad, "utd-mhad-20", people=1),
    Format(folder_formats.sbu, "sbu-15", people=2),
    Format(folder_formats.openpose, "openpose-25", "xyc"),
    Format(folder_formats.mediapipe, "mediapipe-33", people=1),
    Format(folder_formats.numbered_csv),
]


def recorded(form: Format, seed: int) -> list[np.ndarray]:
    """Three clips (T, V, C, M) of people who stand apart and move differently, in float32.

    Not everybody is there all the time, some joints are not detected, and nobody is seen for a
    while in the second.
    """
    rng = np.random.default_rng(seed)
    topology, dims = get_topology(form.topology), len(form.channels.rstrip("c"))
    size = 1.7 if dims == 3 else 0.5
    clips = []
    for number in range(3):
        frames = int(rng.integers(30, 90))
        clip = np.zeros((frames, topology.num_joints, dims, form.people), np.float32)
        for person in range(1 + int(rng.integers(form.people)) if number else form.people):
            pose = rng.uniform(-0.1, 0.1, (topology.num_joints, dims)) * size
            pose[:, 1] += rng.permutation(np.linspace(-size / 2, size / 2, len(pose)))
            wave = np.sin(np.arange(frames) / rng.uniform(3, 9))[:, None, None] * rng.uniform(
                -0.1, 0.1, pose.shape
            )
            place = np.array([1.2 * person - 1, 0.2, 4])[:dims] * (1 if dims == 3 else 0.4)
            clip[..., person] = pose + wave * size + place
            clip[: int(rng.integers(0, 10)), ..., person] = 0
        clip.transpose(0, 1, 3, 2)[
            rng.random((frames, topology.num_joints, form.people)) < 0.03
        ] = 0
        clips.append(clip)
    clips[1][20:24] = 0
    return clips


def evaluated(
    folder: Path, form: Format, clips: list[np.ndarray], topology: Topology | None = None
) -> np.ndarray:
    """(N, 3, 64, V, C) evaluation clips of what the format's reader makes of these recordings."""
    folder.mkdir()
    options = Options(topology or get_topology(form.topology), form.channels)
    cache = convert(form.write(folder, clips), folder / "cache", options).cache
    assert len(cache) == len(clips)
    return load_evaluation_clips(cache, np.arange(len(clips)), people=form.people).numpy()


def reordered(topology: Topology, order: list[int]) -> Topology:
    """The same joints, joint `order[i]` in place i."""
    names = topology.joints
    return Topology.from_dict(
        {
            "name": topology.name,
            "joints": [names[joint] for joint in order],
            "parents": {names[joint]: names[parent] for joint, parent in topology.bones},
            "mirror": [[names[a], names[b]] for a, b in enumerate(topology.mirror) if a < b],
            "parts": {
                part: [names[joint] for joint in joints] for part, joints in topology.parts.items()
            },
            "centre": names[topology.centre],
            "up": topology.up,
        }
    )


def moved(clips: list[np.ndarray], by: list[float]) -> list[np.ndarray]:
    shift = np.array(by, np.float32)[: clips[0].shape[2], None]  # (C, 1)
    return [
        np.where(clip.any(axis=2, keepdims=True), clip + shift, 0).astype(np.float32)
        for clip in clips
    ]


every_format = pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.write.__name__)
few = settings(max_examples=4, deadline=None)
seeds = st.integers(0, 1 << 20)
metres = st.floats(-1.5, 1.5)


@every_format
@few
@given(seeds, st.randoms(use_true_random=False))
def test_the_order_of_people_never_matters(tmp_path_factory, form, seed, random) -> None:
    clips, folder = recorded(form, seed), tmp_path_factory.mktemp("order")
    others = [clip[..., random.sample(range(form.people), form.people)] for clip in clips]
    np.testing.assert_array_equal(
        evaluated(folder / "b", form, others), evaluated(folder / "a", form, clips)
    )


@every_format
@few
@given(seeds, st.randoms(use_true_random=False))
def test_joints_count_by_their_names(tmp_path_factory, form, seed, random) -> None:
    clips, folder, topology = (
        recorded(form, seed),
        tmp_path_factory.mktemp("joints"),
        get_topology(form.topology),
    )
    order = random.sample(range(topology.num_joints), topology.num_joints)
    found = evaluated(
        folder / "b", form, [clip[:, order] for clip in clips], reordered(topology, order)
    )
    np.testing.assert_array_equal(found, evaluated(folder / "a", form, clips)[:, :, :, order])


@every_format
@few
@given(seeds, st.tuples(metres, metres, metres))
def test_where_the_camera_stands_never_matters(tmp_path_factory, form, seed, by) -> None:
    clips, folder = recorded(form, seed), tmp_path_factory.mktemp("place")
    there, here = (
        evaluated(folder / "b", form, moved(clips, by)),
        evaluated(folder / "a", form, clips),
    )
    np.testing.assert_allclose(there, here, atol=3e-6)
    # undetected stays undetected
    np.testing.assert_array_equal(there.any(axis=-1), here.any(axis=-1))


@every_format
@few
@given(seeds)
def test_a_mirrored_camera_mirrors_x_and_nothing_else(tmp_path_factory, form, seed) -> None:
    clips, folder = recorded(form, seed), tmp_path_factory.mktemp("mirror")
    sides = np.array([-1, 1, 1], np.float32)
    mirrored = evaluated(
        folder / "b", form, [clip * sides[: clip.shape[2], None] for clip in clips]
    )
    np.testing.assert_allclose(
        mirrored, evaluated(folder / "a", form, clips) * sides[: mirrored.shape[-1]], atol=3e-7
    )


def test_all_formats_mean_the_same_recordings(tmp_path) -> None:
    clips = recorded(FORMATS[0], 7)
    for form in FORMATS:
        if form.topology == "ntu-25":
            np.testing.assert_array_equal(
                evaluated(tmp_path / form.write.__name__, form, clips)[:, :2],
                evaluated(
                    tmp_path / f"{form.write.__name__} as npz", Format(one_member_a_clip), clips
                )[:, :2],
            )

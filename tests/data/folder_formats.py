"""Writes clips (T, V, C, M) as the folders of files that data sets are distributed as.

In each an absent person and an undetected joint are what that format has for them.
"""

import json
from pathlib import Path

import numpy as np


def n_ucla(folder: Path, clips: list[np.ndarray]) -> Path:
    for number, clip in enumerate(clips):
        name = f"a01_s{number + 1:02d}_e00_v01"
        content = {"file_name": name, "skeletons": clip[..., 0].tolist(), "label": 1}
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def pku_mmd(folder: Path, clips: list[np.ndarray]) -> Path:
    """One sequence, whose actions are the clips, a frame of nobody between them."""
    (folder / "skeletons").mkdir()
    (folder / "labels").mkdir()
    rows, lines, first = [], [], 0
    for number, clip in enumerate(clips):
        both = np.zeros((len(clip) + 1, 25, 3, 2))
        both[:-1, ..., : clip.shape[3]] = clip
        rows.append(both.transpose(0, 3, 1, 2).reshape(len(both), 150))
        lines.append(f"{number + 1},{first},{first + len(clip) - 1},1")
        first += len(both)
    np.savetxt(folder / "skeletons" / "0002-L.txt", np.concatenate(rows), "%.9g")
    (folder / "labels" / "0002-L.txt").write_text("\n".join(lines))
    return folder


def utd_mhad(folder: Path, clips: list[np.ndarray]) -> Path:
    from scipy.io import savemat

    for number, clip in enumerate(clips):
        joints = clip[..., 0].transpose(1, 2, 0).astype(float)
        savemat(folder / f"a1_s{number + 1}_t1_skeleton.mat", {"d_skel": joints})
    return folder


def sbu(folder: Path, clips: list[np.ndarray]) -> Path:
    """Normalised, as its README has it: x = 1280 - 2560 n, y = 960 - 1920 n, z = 10000 n / 7.8125
    in millimetres.
    """
    for number, clip in enumerate(clips):
        place = folder / "s01s02" / "01" / f"{number + 1:03d}"
        place.mkdir(parents=True)
        both = np.zeros((len(clip), 15, 3, 2))
        both[..., : clip.shape[3]] = clip
        joints = both.transpose(0, 3, 1, 2) * 1000  # (T, M, V, C)
        x, y, z = np.moveaxis(joints, -1, 0)
        normalised = np.stack([(1280 - x) / 2560, (960 - y) / 1920, z * 7.8125 / 10000], -1)
        normalised[~joints.any(axis=-1)] = 0
        numbers = np.arange(1, len(clip) + 1)[:, None]
        table = np.concatenate([numbers, normalised.reshape(len(clip), 90)], axis=1)
        np.savetxt(place / "skeleton_pos.txt", table, "%.12g", delimiter=",")
    return folder


def openpose(folder: Path, clips: list[np.ndarray]) -> Path:
    """Clips in two coordinates; joints at the origin have no confidence."""
    for number, clip in enumerate(clips):
        (folder / f"clip{number}").mkdir()
        for t, frame in enumerate(clip.transpose(0, 3, 1, 2)):  # (M, V, C)
            there = [body for body in frame if body.any()]
            people = [
                np.concatenate([body, body.any(axis=-1, keepdims=True) * 0.9], axis=-1)
                for body in there
            ]
            content = {
                "version": 1.3,
                "people": [
                    {"person_id": [-1], "pose_keypoints_2d": body.flatten().tolist()}
                    for body in people
                ],
            }
            file = folder / f"clip{number}" / f"video_{t:012d}_keypoints.json"
            file.write_text(json.dumps(content))
    return folder


def mediapipe(folder: Path, clips: list[np.ndarray]) -> Path:
    """World landmarks of one person, a file a clip, as MediaPipe's JavaScript has them."""
    for number, clip in enumerate(clips):
        frames = [
            {
                "worldLandmarks": [
                    [dict(zip("xyz", joint, strict=True)) for joint in frame.tolist()]
                ]
                * int(frame.any())
            }
            for frame in clip[..., 0]
        ]
        (folder / f"clip{number}.json").write_text(json.dumps(frames))
    return folder


def numbered_csv(folder: Path, clips: list[np.ndarray]) -> Path:
    """Columns by the joints' numbers, a row for each frame and person."""
    for number, clip in enumerate(clips):
        joints = clip.shape[1]
        lines = ["frame,person," + ",".join(f"{j}_{axis}" for j in range(joints) for axis in "xyz")]
        for t, frame in enumerate(clip.transpose(0, 3, 1, 2)):
            lines += [
                f"{t},{person}," + ",".join(f"{value:.9g}" for value in body.flatten())
                for person, body in enumerate(frame)
            ]
        (folder / f"clip{number}.csv").write_text("\n".join(lines))
    return folder

"""Poses of a generated recording, as MediaPipe finds them: `slim-fast watch` without a video.

python examples/watch_poses.py poses.jsonl --actions wave kick hug
slim-fast watch poses.jsonl --model my-classifier --out watch.gif
"""

import argparse
import json
from pathlib import Path

import numpy as np

from slim_fast.data.synthetic import generate_clip
from slim_fast.skeletons import get_topology
from slim_fast.skeletons.correspondence import match_joints

RATE, WIDTH, HEIGHT = 30, 1280, 720
FOCAL, DEPTH = 1.3, 3.2  # image heights; metres from the camera to where people begin
NTU, LANDMARKS = get_topology("ntu-25"), get_topology("mediapipe-33")
HIPS = [LANDMARKS.joints.index(side) for side in ("left_hip", "right_hip")]


def make_landmarks(clip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """World and image landmarks (T, M, 33, 4) of people in a clip (T, 25, 3, M), y up, metres."""
    rows = np.array(match_joints(NTU, LANDMARKS).weights)  # (33, 25)
    # Kinect's x runs the other way than an image's, as its y does
    body = np.einsum("kv,tvcm->tmkc", rows, clip) * [-1, -1, 1]
    body += [0, 0, DEPTH] - body[0, 0, HIPS].mean(0)
    world = body - body[:, :, HIPS].mean(2, keepdims=True)
    image = FOCAL * body[..., :2] / body[..., 2:]  # image heights from the middle
    depth = FOCAL * world[..., 2:] / DEPTH
    image = np.concatenate([image / [WIDTH / HEIGHT, 1] + 0.5, depth / (WIDTH / HEIGHT)], -1)
    seen = np.ones_like(world[..., :1])
    return np.concatenate([world, seen], -1), np.concatenate([image, seen], -1)


def make_frames(actions: list[str], subject: int, seed: int = 0) -> list[dict[str, object]]:
    """One after the other, each done once."""
    frames: list[dict[str, object]] = []
    for number, action in enumerate(actions):
        clip = generate_clip(action, subject, number, seed).positions
        for world, image in zip(*make_landmarks(clip), strict=True):
            marks = {
                "landmarks": image.round(4).tolist(),
                "worldLandmarks": world.round(4).tolist(),
            }
            size = {"width": WIDTH, "height": HEIGHT}
            frames.append({"seconds": round(len(frames) / RATE, 4), **size, **marks})
    return frames


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("out", type=Path, help="JSON lines to write")
    parser.add_argument("--actions", nargs="+", default=["wave", "kick", "hug"])
    parser.add_argument("--subject", type=int, default=3)
    options = parser.parse_args()
    frames = make_frames(options.actions, options.subject)
    options.out.write_text("".join(f"{json.dumps(frame)}\n" for frame in frames), encoding="utf-8")
    print(f"{len(frames)} frames are in {options.out}.")


if __name__ == "__main__":
    main()

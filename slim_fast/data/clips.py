"""A clip of people moving, and its cleaning.

In a cleaned clip, and in all code that takes one, a joint is undetected exactly when all its
coordinates are zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise

import numpy as np

from slim_fast.errors import UserError
from slim_fast.skeletons import Topology

CHANNELS = ("xyz", "xy", "xyzc", "xyc")  # c is a detector's confidence, always last
ORIGIN = 1e-20  # metres; stored for a detected joint at the origin, because zero means undetected


def count_coordinates(channels: str) -> int:
    """Number of leading channels that are coordinates. Raises: UserError for unknown channels."""
    if channels not in CHANNELS:
        raise UserError(f"unknown channels '{channels}': choose one of {', '.join(CHANNELS)}")
    return len(channels.rstrip("c"))


def default_channels(topology: Topology, numbers: int) -> str:
    """What 2, 3 or 4 numbers a joint are: of 3 the last is a score on skeletons of images."""
    return {2: "xy", 3: "xyc" if topology.up == "-y" else "xyz", 4: "xyzc"}[numbers]


@dataclass
class Clip:
    """One recording.

    Attributes:
        positions: (T, V, C, M) float32 frames, joints, channels and people, in metres (2-D: half
            image heights); zeros where a person is absent or a joint was not detected.
        name: of the recording.
        label, subject, camera, setup: as numbered in the data set; -1 is unknown.
        split: split name -> "train" or "test", without the splits that leave the clip out.
    """

    positions: np.ndarray
    name: str
    label: int = -1
    subject: int = -1
    camera: int = -1
    setup: int = -1
    split: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CleaningReport:
    """Counts of what was cleaned, summed over clips.

    A person-frame is a (frame, person) pair, a joint-frame a (frame, person, joint) triple.
    """

    clips: int = 0
    kept: int = 0
    zero_frame_clips: int = 0
    empty_clips: int = 0
    frames_dropped: int = 0
    frames_interpolated: int = 0
    people_dropped: int = 0
    nonfinite_joint_frames: int = 0
    undetected_joint_frames: int = 0
    absent_person_frames: int = 0

    def __add__(self, other: "CleaningReport") -> "CleaningReport":
        return CleaningReport(
            *(getattr(self, f.name) + getattr(other, f.name) for f in fields(self))
        )

    @property
    def skipped(self) -> dict[str, int]:
        """Reason -> number of clips that were skipped."""
        reasons = {
            "without frames": self.zero_frame_clips,
            "empty (no person in any frame)": self.empty_clips,
        }
        return {reason: count for reason, count in reasons.items() if count}


def clean_clip(
    clip: Clip, channels: str | None = None, topology: Topology | None = None
) -> tuple[Clip | None, CleaningReport]:
    """Zero undetected joints, remove absent people and empty frames, and rank the people.

    A joint is undetected in a frame when one of its numbers is NaN or infinite, when its confidence
    is not above 0, or when all its coordinates are zero, unless it is the origin of centred
    coordinates (`_find_joints_at_origin`, which needs `topology`). A person is absent from a frame
    in which none of their joints is detected, and is zero there. Empty frames, from which everybody
    is absent, are dropped at both ends. In the middle they are interpolated, to keep the tempo, for
    the people who are present in the last frame before and in the first after; they are dropped
    when there are no such people. `rank_people` orders the people.

    Args:
        channels: which channels are coordinates and which a confidence; None: all are coordinates.

    Returns: the clip, or None when it has no frames or no people left, and what was cleaned.

    Raises: UserError when positions are not numbers of shape (T, V, C, M).
    """
    positions = np.asarray(clip.positions)
    if positions.ndim != 4 or positions.dtype.kind not in "fiu":
        raise UserError(
            f"clip '{clip.name}' has positions of shape {positions.shape} and type "
            f"{positions.dtype}; numbers of shape (frames, joints, channels, people) are needed"
        )
    if positions.shape[0] == 0 or positions.shape[3] == 0:
        return None, CleaningReport(clips=1, zero_frame_clips=1)
    coordinates = positions.shape[2] if channels is None else count_coordinates(channels)
    with np.errstate(over="ignore", invalid="ignore"):
        positions = positions.astype(np.float32)
    finite = np.isfinite(positions).all(axis=2)  # (T, V, M)
    detected = finite & (positions[:, :, :coordinates] != 0).any(axis=2)
    if coordinates < positions.shape[2]:
        detected &= positions[:, :, coordinates] > 0
    if topology is not None and coordinates == 3:
        at_origin = _find_joints_at_origin(positions, detected, finite, topology)
        positions[:, :, 0][at_origin] = ORIGIN
        detected |= at_origin
    present = detected.any(axis=1)  # (T, M)
    frames, people = present.any(axis=1), present.any(axis=0)
    report = CleaningReport(clips=1, nonfinite_joint_frames=int((~finite).sum()))
    if not frames.any():
        return None, report + CleaningReport(empty_clips=1)
    positions = np.where(detected[:, :, None], positions, np.float32(0))[..., people]
    filled = _interpolate_empty_frames(positions, frames)
    frames |= filled
    positions = positions[frames]
    positions = positions[..., rank_people(positions, coordinates)]
    detected = (positions[:, :, :coordinates] != 0).any(axis=2)  # (T, V, M)
    present = detected.any(axis=1)
    report += CleaningReport(
        kept=1,
        frames_dropped=int((~frames).sum()),
        frames_interpolated=int(filled.sum()),
        people_dropped=int((~people).sum()),
        undetected_joint_frames=int((present[:, None] & ~detected).sum()),
        absent_person_frames=int((~present).sum()),
    )
    return replace(clip, positions=positions), report


def rank_people(positions: np.ndarray, coordinates: int) -> list[int]:
    """Order the people of cleaned positions (T, V, C, M): those come first whom models look at.

    Evaluation and views take the first few people of a clip. The order is by presence, the number
    of frames with a detected joint, in quarters of the largest; then by motion, the variance over
    time, summed over coordinates, averaged over joints; then by mean confidence; then by presence
    in frames. Presence is compared in quarters first so that a bystander does not outrank an actor
    who was not detected for a moment. Equal people are ordered by their mean coordinates, so that
    the order in a file never matters.
    """
    detected = (positions[:, :, :coordinates] != 0).any(axis=2)  # (T, V, M)
    presence = detected.any(axis=1).sum(axis=0)  # (M,)
    count = np.maximum(detected.sum(axis=0), 1)  # (V, M)
    values = positions[:, :, :coordinates].astype(np.float64)
    mean = values.sum(axis=0) / count[:, None]  # (V, C, M)
    deviation = np.where(detected[:, :, None], values - mean, 0)
    variance = (deviation**2).sum(axis=(0, 2)) / count  # (V, M)
    motion = variance.sum(axis=0) / np.maximum(detected.any(axis=0).sum(axis=0), 1)  # (M,)
    score = positions[:, :, coordinates:].sum(axis=(0, 1, 2), dtype=np.float64) / count.sum(axis=0)

    def rank(person: int) -> tuple[float, ...]:
        quarters = round(4 * presence[person] / presence.max())
        criteria = quarters, motion[person], score[person], presence[person]
        return *(-value for value in criteria), *mean[..., person].flatten()

    return sorted(range(positions.shape[3]), key=rank)


def _find_joints_at_origin(
    positions: np.ndarray, detected: np.ndarray, finite: np.ndarray, topology: Topology
) -> np.ndarray:
    """(T, V, M) bool: centre and root joints of 3-D positions that are 0 in centred clips.

    Clips may have been centred on that joint in their first frame or in every frame. Then its
    neighbours in the tree are within half the person's extent of 0, whereas the neighbours of an
    undetected joint are as far from 0 as the person is from the camera.
    """
    at_origin = np.zeros_like(detected)
    for joint in {topology.centre, topology.root}:
        zero = finite[:, joint] & ~(positions[:, joint, :3] != 0).any(axis=1)  # (T, M)
        if positions.shape[2] > 3:
            zero &= positions[:, joint, 3] > 0
        near = [sum(bone) - joint for bone in topology.bones if joint in bone]
        zero &= detected[:, near].any(axis=1)  # no arithmetic on the many empty frames
        frame, person = np.nonzero(zero)
        known = detected[frame, :, person][..., None]  # (N, V, 1)
        body = positions[frame, :, :3, person].astype(np.float64)  # (N, V, 3)
        highest = np.where(known, body, -np.inf).max(axis=1)
        lowest = np.where(known, body, np.inf).min(axis=1)
        half_extent = np.linalg.norm(highest - lowest, axis=1)[:, None] / 2  # (N, 1)
        distance = np.where(known, np.linalg.norm(body, axis=2, keepdims=True), np.nan)
        distance = distance[:, near, 0]  # (N, neighbours) from 0
        are_near = np.isfinite(distance).any(axis=1) & ~(distance > half_extent).any(axis=1)
        at_origin[frame, joint, person] = are_near
    return at_origin


def _interpolate_empty_frames(positions: np.ndarray, occupied: np.ndarray) -> np.ndarray:
    """Interpolate the frames of (T, V, C, M) between occupied ones (T,) in place.

    Joints that are not detected both before and after stay zero. Returns: (T,) bool, the frames
    that were interpolated.
    """
    filled = np.zeros_like(occupied)
    known = np.flatnonzero(occupied)
    for before, after in pairwise(known):
        both = positions[before].any(axis=1) & positions[after].any(axis=1)  # (V, M)
        if after - before > 1 and both.any():
            weight = np.arange(1, after - before, dtype=np.float32) / (after - before)
            weight = weight[:, None, None, None]
            between = positions[before] * (1 - weight) + positions[after] * weight
            positions[before + 1 : after] = between * both[:, None]
            filled[before + 1 : after] = True
    return filled

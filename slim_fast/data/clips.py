"""A clip of people moving, and its cleaning: what is unusable becomes absent, what is absent is not stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

import numpy as np

from slim_fast.errors import UserError

CHANNELS = ("xyz", "xy", "xyzc", "xyc")  # c is a detector's confidence, always last


def coordinate_count(channels: str) -> int:
    """How many leading channels are coordinates (the confidence is not one). Raises UserError for unknown channels."""
    if channels not in CHANNELS:
        raise UserError(f"unknown channels '{channels}': choose one of {', '.join(CHANNELS)}")
    return len(channels.rstrip("c"))


@dataclass
class Clip:
    """One recording.

    positions: (T, V, C, M) float32, frames x joints x channels x people, in metres (2-D: normalised image units);
    zeros where a person is absent. label, subject, camera and setup count from the data set's own start; -1 is unknown.
    split: split name -> "train" or "test"; a clip belonging to neither is left out.
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
    """What cleaning met, summed over clips. Person-frames are (frame, person) pairs."""

    clips: int = 0
    kept: int = 0
    zero_frame_clips: int = 0
    empty_clips: int = 0
    frames_dropped: int = 0
    people_dropped: int = 0
    nonfinite_person_frames: int = 0
    absent_person_frames: int = 0

    def __add__(self, other: CleaningReport) -> CleaningReport:
        return CleaningReport(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def skipped(self) -> dict[str, int]:
        """Reason -> clips not kept."""
        reasons = {"without frames": self.zero_frame_clips, "empty (nobody in any frame)": self.empty_clips}
        return {reason: count for reason, count in reasons.items() if count}


def clean_clip(clip: Clip, channels: str | None = None) -> tuple[Clip | None, CleaningReport]:
    """Keep the frames in which somebody is present and the people present in some frame.

    A person-frame with a NaN or infinite value counts as absent and is zeroed; so does one whose coordinates are all
    zero. A person absent in the middle keeps zeros there. A clip with nobody left, or without frames, gives None.
    `channels` tells the confidence from the coordinates ("xyc"); without it every channel counts as a coordinate.
    Raises UserError when positions are not numbers of shape (T, V, C, M).
    """
    positions = np.asarray(clip.positions)
    if positions.ndim != 4 or positions.dtype.kind not in "fiu":
        raise UserError(
            f"clip '{clip.name}' has positions of shape {positions.shape} and type {positions.dtype}; "
            "numbers of shape (frames, joints, channels, people) are needed"
        )
    if positions.shape[0] == 0 or positions.shape[3] == 0:
        return None, CleaningReport(clips=1, zero_frame_clips=1)
    coordinates = positions.shape[2] if channels is None else coordinate_count(channels)
    with np.errstate(over="ignore", invalid="ignore"):
        positions = positions.astype(np.float32)
    finite = np.isfinite(positions).all(axis=(1, 2))  # (T, M)
    present = finite & (positions[:, :, :coordinates] != 0).any(axis=(1, 2))  # (T, M)
    frames, people = present.any(axis=1), present.any(axis=0)
    report = CleaningReport(clips=1, nonfinite_person_frames=int((~finite).sum()))
    if not frames.any():
        return None, report + CleaningReport(empty_clips=1)
    kept = present[frames][:, people]
    positions = positions[frames][..., people]
    positions = np.where(kept[:, None, None, :], positions, np.float32(0))
    report += CleaningReport(
        kept=1,
        frames_dropped=int((~frames).sum()),
        people_dropped=int((~people).sum()),
        absent_person_frames=int((~kept).sum()),
    )
    return replace(clip, positions=positions), report

"""Pictures of skeletons: a contact sheet of clips, and the masked views a student is given."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from slim_fast.drawing.sheet import Row, cells_needed, flowing_rows, stacked_rows
from slim_fast.drawing.stick_figures import Bools, Floats
from slim_fast.errors import UserError
from slim_fast.skeletons import Topology

# Seen a little from one side and from above, so that a movement towards the camera shows.
AZIMUTH, ELEVATION = 0.4, 0.15
MIN_POSES = 4  # of a clip whose people are far apart


def contact_sheet(
    clips: Sequence[Floats],
    topology: Topology,
    titles: Sequence[str],
    path: str | Path,
    frames: int = 8,
    channels: str = "",
) -> Path:
    """Draw one row of poses for each clip, evenly spaced in time, and return the path written.

    A clip whose people are far apart gets fewer and wider poses, so that they stay large.

    Args:
        clips: each (T, V, C, M) or, for one person, (T, V, C); absent people, undetected joints
            (all zeros) and NaNs are left out, with the bones to them.
        topology: of V joints.
        titles: one a clip; what follows a line break is written smaller.
        path: the picture; its ending gives the format.
        frames: poses a row, at most.
        channels: "xyz", "xy", "xyzc" or "xyc"; by default two coordinates when C is 2, else three.
            Joints whose confidence is zero are left out.

    Raises: UserError for no clips, shapes or titles that do not fit, no matplotlib, or a path that
    cannot be written.
    """
    _check_counts("clips", clips, "titles", titles)
    rows = []
    for clip, title in zip(clips, titles, strict=True):
        clip = np.asarray(clip)
        clip = clip[..., None] if clip.ndim == 3 else clip
        if clip.ndim != 4 or clip.shape[1] != topology.num_joints or not clip.shape[0]:
            raise UserError(
                f"Cannot draw clip {title!r} of shape {clip.shape}: expected (frames, "
                f"{topology.num_joints} joints of {topology.name}, coordinates, people)."
            )
        cells = 1
        while True:
            number = min(frames // cells, len(clip))
            times = np.linspace(0, len(clip) - 1, number).round().astype(int)
            poses = list(project(clip[times].transpose(0, 3, 1, 2), topology, channels))
            needed = cells_needed(poses, frames // MIN_POSES)
            if needed <= cells:
                break
            cells = needed
        rows.append(Row(title, poses, _captions(times), cells=cells))
    return stacked_rows(rows, topology, path)


def draw_views(
    views: Sequence[Floats],
    masks: Sequence[Bools | None],
    topology: Topology,
    titles: Sequence[str],
    path: str | Path,
    channels: str = "",
    patch_frames: int = 8,
) -> Path:
    """Draw the student's views: the middle frame of every patch, masked joints hollow and grey.

    Args:
        views: each (T, V, C), drawn as T / patch_frames poses in a row; short views share a row.
            One scale for all.
        masks: each (T / patch_frames, V) bool, True where masked, or None.
        topology: of V joints.
        titles: one a view; what follows a line break is written smaller.
        path: the picture; its ending gives the format.
        channels: as in `contact_sheet`.
        patch_frames: frames a temporal patch.

    Raises: UserError for no views, shapes or titles that do not fit, no matplotlib, or a path that
    cannot be written.
    """
    _check_counts("views", views, "titles", titles)
    _check_counts("views", views, "masks", masks)
    rows = []
    for view, mask, title in zip(views, masks, titles, strict=True):
        view = np.asarray(view)
        patches = len(view) // patch_frames
        if view.ndim != 3 or view.shape[1] != topology.num_joints or not patches:
            raise UserError(
                f"Cannot draw view {title!r} of shape {view.shape}: expected (at least "
                f"{patch_frames} frames, {topology.num_joints} joints of {topology.name}, "
                "coordinates)."
            )
        grid = (patches, topology.num_joints)
        masked = np.zeros(grid, bool) if mask is None else np.asarray(mask, bool)
        if masked.shape != grid:
            raise UserError(
                f"The mask of view {title!r} has the shape {masked.shape}, but the view needs "
                f"{grid}."
            )
        times = np.arange(patches) * patch_frames + patch_frames // 2
        poses = project(view[times, None], topology, channels)
        rows.append(Row(title, list(poses), _captions(times), list(masked)))
    return flowing_rows(rows, topology, path)


def project(positions: Floats, topology: Topology, channels: str = "") -> Floats:
    """(..., V, C) -> (..., V, 2), right and up, by parallel rays; NaN for undetected joints."""
    coordinates = positions.shape[-1]
    spatial = channels.removesuffix("c") or ("xy" if coordinates == 2 else "xyz")
    if spatial not in ("xy", "xyz") or coordinates < len(channels or spatial):
        raise UserError(
            f"Cannot draw joints of {coordinates} coordinates as {channels or spatial!r}."
        )
    positions = positions.astype(np.float64)
    used = positions[..., : len(spatial)]
    absent = ~np.isfinite(used).all(-1) | (used == 0).all(-1)
    if channels.endswith("c"):
        absent |= positions[..., len(spatial)] == 0
    sign = -1 if topology.up.startswith("-") else 1
    x = positions[..., 0]
    if spatial == "xy":
        flat = np.stack([x, sign * positions[..., 1]], axis=-1)
    else:
        y_is_up = topology.up.endswith("y")
        up = sign * positions[..., 1 if y_is_up else 2]
        # completes x and up, right-handed
        away = sign * (-positions[..., 2] if y_is_up else positions[..., 1])
        right = np.cos(AZIMUTH) * x + np.sin(AZIMUTH) * away
        flat = np.stack([right, np.cos(ELEVATION) * up + np.sin(ELEVATION) * away], axis=-1)
    return np.where(absent[..., None], np.nan, flat)


def _captions(times: Sequence[int] | np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[str]:
    return [f"frame {time}" if not i else str(time) for i, time in enumerate(times)]


def _check_counts(
    what: str, things: Sequence[object], other: str, others: Sequence[object]
) -> None:
    if len(things) == 0:
        raise UserError(f"There are no {what} to draw.")
    if len(things) != len(others):
        raise UserError(
            f"There are {len(things)} {what} to draw but {len(others)} {other}: give one for each."
        )

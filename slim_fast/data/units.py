"""Whether coordinates are metres, or in 2-D half image heights, by the extent of bodies."""

import numpy as np

from slim_fast.skeletons import Topology

PLAUSIBLE_METRES = (0.5, 3.0)  # extent of a body: a crouching child, an adult jumping with arms up
LEAST_OF_PARTS = 0.03  # of a skeleton without feet: a hand
UNITS = ((20.0, 300.0, "centimetres", 0.01), (300.0, 4000.0, "millimetres", 0.001))
MAX_NORMALISED_EXTENT = 10.0  # half image heights; larger 2-D bodies are in pixels


def measure_extent(poses: np.ndarray) -> float:
    """The median, over poses (P, V, C), of the longest side of a body's bounding box.

    Undetected joints are NaN or zeros; NaN without any detected joint.
    """
    detected = np.isfinite(poses).all(axis=-1) & (poses != 0).any(axis=-1)  # (P, V)
    poses, detected = poses[detected.any(axis=1)], detected[detected.any(axis=1)]
    if not len(poses):
        return float("nan")
    known = np.where(detected[..., None], poses, np.nan)
    return float(np.median((np.nanmax(known, axis=1) - np.nanmin(known, axis=1)).max(axis=1)))


def explain_units(extent: float, topology: Topology, coordinates: int, option: str) -> str | None:
    """A sentence on coordinates in other units than expected, with the remedy; None if they fit.

    extent: see `measure_extent`. option: what gives the factor, such as "pass scale=".
    """
    found = f"the median extent of a body is {extent:.4g}"
    if not np.isfinite(extent):
        return None
    if coordinates == 2:
        if extent <= MAX_NORMALISED_EXTENT:
            return None
        return (
            f"{found}, which looks like pixels: divide by half the image height (for 1080 rows "
            f"{option}0.00185)"
        )
    is_whole = any("foot" in joint or "ankle" in joint for joint in topology.joints)
    least, most = PLAUSIBLE_METRES if is_whole else (LEAST_OF_PARTS, PLAUSIBLE_METRES[1])
    if least <= extent <= most:
        return None
    for low, high, name, factor in UNITS:
        if low <= extent <= high:
            return (
                f"{found}, which looks like {name}: multiply by {factor} to get metres "
                f"({option}{factor})"
            )
    usual = ", where about 1.5 is usual" if is_whole else ""
    return f"{found}, which is not plausible in metres{usual} ({option}FACTOR)"

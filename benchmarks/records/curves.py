"""The scaling benchmark's results as curves over one size."""

from collections.abc import Callable, Sequence

from benchmarks.records.recorder import Result

AXES = {"batch": "clips/s", "frames": "ms", "joints": "ms", "people": "ms", "prototypes": "ms"}
"""The sizes that grow, and the unit of the time: throughput for the batch, where it saturates."""
LABELS = {"batch": "clips a batch", "people": "people a clip", "prototypes": "prototypes K"}


def time(result: Result, side: str) -> float | None:
    """The median in the unit of the result's axis; None where the side was not run."""
    if side not in result["seconds"]:
        return None
    seconds, case = result["seconds"][side][1], result["case"]
    return case["value"] / seconds if AXES[case["axis"]] == "clips/s" else 1e3 * seconds


def memory(result: Result, side: str) -> float | None:
    """The peak in MB; None where the side was not run."""
    count = result.get("peak_bytes", {}).get(side)
    return None if count is None else count / 1e6


def curves(results: Sequence[Result]) -> dict[tuple[str, str], list[Result]]:
    """The results of each (axis, precision), by growing value."""
    found: dict[tuple[str, str], list[Result]] = {}
    for result in sorted(
        results, key=lambda r: (list(AXES).index(r["case"]["axis"]), r["case"]["value"])
    ):
        found.setdefault((result["case"]["axis"], result["case"]["precision"]), []).append(result)
    return found


def points(
    curve: Sequence[Result], get: Callable[[Result, str], float | None], side: str
) -> list[tuple[int, float]]:
    """(value, figure) wherever the side has the figure."""
    return [(r["case"]["value"], y) for r in curve if (y := get(r, side)) is not None]

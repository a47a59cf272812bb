"""How a result's numbers are written into a table's cells."""

from collections.abc import Callable

from benchmarks.records import curves, gpu_rows
from benchmarks.records.gpu_rows import format_number
from benchmarks.records.recorder import Result

Cell = Callable[[Result], str]


def case(name: str) -> Cell:
    formats = {int: "{:,}", bool: "{:,}", float: "{:g}"}

    def cell(result: Result) -> str:
        value = result["case"][name]
        return formats.get(type(value), "{}").format(value)

    return cell


def people(result: Result) -> str:
    case = result["case"]
    return f"{case['people']:g} of {case['places']}" if "places" in case else f"{case['people']:g}"


def ratio(result: Result) -> str:
    if "speedup" not in result:
        return "–"
    low, median, high = result["speedup"]
    return f"**{median:.2f}×** ({low:.2f}–{high:.2f}{_below(result, median, 1, '×')})"


def share(result: Result) -> str:
    low, median, high = result["share"]
    below = _below(result, median, 100, " %")
    return f"**{100 * median:.0f} %** ({100 * low:.0f}–{100 * high:.0f}{below})"


def _below(result: Result, median: float, scale: float, unit: str) -> str:
    missed = "target" in result and median < result["target"]
    return f", below {scale * result['target']:g}{unit}" if missed else ""


def quartiles(name: str, side: str | None = None, scale: float = 1) -> Cell:
    """The median of a figure, or of one side's, times `scale`."""

    def cell(result: Result) -> str:
        found = result[name].get(side) if side else result.get(name)
        return format_number(found and scale * found[1])

    return cell


def milliseconds(side: str) -> Cell:
    return quartiles("seconds", side, 1e3)


def rate(side: str, count: str = "batch") -> Cell:
    """Samples a second of the median run; `count`: what the case calls their number."""
    return lambda result: format_number(result["case"][count] / result["seconds"][side][1])


def watched_rate(result: Result) -> str:
    """Frames a second of ours, and the target where it is missed."""
    reached = result["case"]["frames"] / result["seconds"]["ours"][1]
    low = f", below {result['target']:g}" if reached < result["target"] else ""
    return f"**{format_number(reached)}**{low}"


def reached(result: Result) -> str:
    """GFLOP/s of ours."""
    return format_number(result["flops"] / result["seconds"]["ours"][1] / 1e9)


def runtime(side: str) -> Cell:
    """What computed a side, and in which precision."""
    return lambda result: result["by"][side]


def megabytes(count: float | None) -> str:
    return "–" if count is None else f"{count / 1e6:,.0f}"


def peak(side: str) -> Cell:
    return lambda result: megabytes(result.get("peak_bytes", {}).get(side))


def error(which: str, *names: str) -> Cell:
    return lambda result: f"{max(result['errors'][which][name] for name in names):.0e}"


def gpu(name: str) -> Cell:
    return lambda result: gpu_rows.cells(result)[name]


def ends(results: list[Result]) -> list[Result]:
    """One row a curve of the scaling benchmark."""
    return [
        {"case": {"axis": axis, "precision": precision}, "curve": curve}
        for (axis, precision), curve in curves.curves(results).items()
    ]


def from_to(get: Callable[[Result, str], float | None], side: str = "ours") -> Cell:
    """A number at both ends of a row of `ends`, and how far the curve goes where it stops early."""

    def cell(row: Result) -> str:
        found = curves.points(row["curve"], get, side)
        if not found:
            return "–"
        (_, first), (value, last) = found[0], found[-1]
        early = f" (at {value:,})" if value < row["curve"][-1]["case"]["value"] else ""
        return f"{format_number(first)} → {format_number(last)}{early}"

    return cell

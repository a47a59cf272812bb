"""Results as markdown: one table for each benchmark and device."""

from collections.abc import Mapping, Sequence

from benchmarks.markdown import markdown_table
from benchmarks.records.recorder import Result
from benchmarks.records.tables import ALL_TABLES, Table

LONG = 12
"""Rows, above which a page shows only those with a target and folds the others away."""
QUARTILES = {"speedup": "ratios of neighbouring runs", "share": "shares of neighbouring runs"}


def render_tables(
    results: Sequence[Result], above: Mapping[str, str] | None = None, fold: bool = False
) -> str:
    """Markdown: one table for each benchmark and device that has results.

    above: markdown that stands above the first table of a benchmark.
    fold: long tables show only the rows with a target; a reader unfolds the others.
    """
    parts = []
    for name, table in ALL_TABLES.items():
        parts += [above[name]] if above and name in above else []
        for device in ("cpu", "cuda"):
            found = [
                r for r in results if r["benchmark"] == name and r.get("device", "cpu") == device
            ]
            if found:
                rows = table.rows(found)
                about = table.about + describe_conditions(found, rows)
                parts += [f"**{table.title}.** {about}", *render_rows(table, rows, fold)]
    return "\n\n".join(parts)


def describe_conditions(results: Sequence[Result], rows: Sequence[Result]) -> str:
    """What the numbers are, on how many threads, and on which device."""
    spread = next((what for name, what in QUARTILES.items() if name in rows[0]), "")
    threads = sorted({str(result["threads"]) for result in results if "threads" in result})
    return "".join(
        (
            f" Medians, with quartiles of the {spread}." if spread else "",
            f" Threads: {', '.join(threads)}." if threads else "",
            " On the GPU." if results[0].get("device") == "cuda" else "",
        )
    )


def render_rows(table: Table, rows: Sequence[Result], fold: bool) -> list[str]:
    """The table whole, or the rows with a target and the others folded."""

    def render(part: Sequence[Result]) -> str:
        cells = ([cell(row) for cell in table.columns.values()] for row in part)
        return markdown_table(list(table.columns), cells)

    if not fold or len(rows) <= LONG:
        return [render(rows)]
    shown, folded = (
        [row for row in rows if ("target" in row) == wanted] for wanted in (True, False)
    )
    parts = [render(shown)] if shown else []
    if folded:
        summary = f"{table.title}: {'the other' if shown else 'all'} {len(folded)} cases"
        parts += [f"<details><summary>{summary}</summary>", render(folded), "</details>"]
    return parts

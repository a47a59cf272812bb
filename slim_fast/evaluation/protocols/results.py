"""Figures as a table, and as a record on disk."""

import json
import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slim_fast.evaluation.protocols.task import SOURCES, Figures
from slim_fast.writing import write_atomically


@dataclass
class _Figure:
    mean: float
    std: float
    values: list[float]


@dataclass
class _Record:
    """What is read of `write_results`' JSON."""

    figures: dict[str, dict[str, _Figure]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


def summarise(figures: Figures) -> dict[str, dict[str, dict[str, Any]]]:
    """Row -> source -> `summarise_values`, shares of 1."""
    return {
        row: {source: summarise_values(values) for source, values in by_source.items()}
        for row, by_source in figures.rows.items()
    }


def summarise_values(values: Sequence[float]) -> dict[str, Any]:
    """{"mean", "std", "values"}; std is the sample's, 0 of one."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "std": deviation, "values": list(values)}


def format_table(protocols: Mapping[str, Figures]) -> str:
    """One table of all protocols' figures, in per cent, of several seeds with their deviation."""
    summaries = [summarise(figures) for figures in protocols.values()]
    present = {source for rows in summaries for row in rows.values() for source in row}
    sources = [source for source in SOURCES if source in present]
    cells = [["", *(SOURCES[source] for source in sources)]]
    for rows in summaries:
        for name, row in rows.items():
            cells.append([name, *(format_cell(row.get(source)) for source in sources)])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in cells
    )


def format_cell(value: Mapping[str, Any] | None) -> str:
    """What `summarise_values` gave, in per cent; a dash for None."""
    if value is None:
        return "–"
    deviation = f" ± {100 * value['std']:.1f}" if len(value["values"]) > 1 else ""
    return f"{100 * value['mean']:.1f}{deviation}"


def write_results(path: Path, figures: Figures, about: Mapping[str, Any]) -> None:
    """Write a protocol's figures as JSON; the file is whole or as it was. Raises: OSError."""
    record = {
        **about,
        "figures": summarise(figures),
        "notes": figures.notes,
        "confusion": figures.confusion,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=1)
    write_atomically(path, lambda file: file.write(text.encode()))


def default_folder(run: str) -> Path:
    """Where features and results of a run go: into it, or beside a file of weights."""
    path = Path(run)
    if path.is_dir():
        return path / "evaluation"
    if path.is_file():
        return path.parent / f"{path.stem}-evaluation"
    return Path("evaluation") / run.replace("/", "--")  # of a repository


def read_results(folder: Path) -> list[dict[str, Any]]:
    """The records that `write_results` left below a `default_folder`, oldest first; a damaged one
    is empty.
    """
    from pydantic import TypeAdapter  # slow to import

    records = []
    for path in sorted(folder.glob("*/*.json"), key=lambda path: path.stat().st_mtime_ns):
        record: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            content = path.read_bytes()
            TypeAdapter(_Record).validate_json(content, strict=True)  # numbers, not words
            record = json.loads(content)
        records.append(record)
    return records

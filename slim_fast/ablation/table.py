"""The record of an ablation, table.json, and its table as text, table.md."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from slim_fast.ablation.rows import ABLATIONS
from slim_fast.data.readers.stream import explain_damage
from slim_fast.errors import UserError
from slim_fast.evaluation.protocols.results import format_cell, summarise_values
from slim_fast.training.config import find_differences
from slim_fast.training.folder import CONFIG, read_json_object
from slim_fast.writing import encode_text, write_atomically

RECORD, TABLE = "table.json", "table.md"
FIGURES = {"knn_top1": "1-NN", "linear_top1": "linear"}
"""What a run's summary holds -> the column."""
CONTROLS = {"random_encoder": "random encoder", "coordinates": "coordinates"}
KEYS = [f"{name}{end}" for name in FIGURES for end in ("", *(f"_{c}" for c in CONTROLS))]
_FIXED = ("ablation", "data", "settings")
_PAPER = """The paper's table is of NTU-60 after 100 epochs. Its whole recipe (both; tube), after
150 epochs, has in linear evaluation 87.9 (X-Sub) and 93.2 (X-View)."""


def open_record(folder: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """The folder's record with the rows that are done, or a new one of `about`.

    Raises: UserError when the folder holds another ablation, a run, or a damaged record.
    """
    if (folder / CONFIG).exists():
        raise UserError(f"{folder} is the folder of a run; choose another --out.")
    if (begun := read_json_object(folder / RECORD)) is None:
        return {**about, "rows": {}}
    before, now = ({name: record.get(name) for name in _FIXED} for record in (begun, about))
    if different := find_differences(before, now):
        shown = "; ".join(f"{name}: {old!r} -> {new!r}" for name, old, new in different[:3])
        raise UserError(
            f"{folder} holds another ablation ({shown}); give the same options to go on with it, "
            "or choose another --out."
        )
    with explain_damage(folder / RECORD, "; delete it and give the same command again"):
        record = {**about, "rows": begun["rows"]}
        format_page(record)
    return record


def is_done(record: Mapping[str, Any], row: str, seed: int) -> bool:
    """Whether the record has that run."""
    return any(run["seed"] == seed for run in record["rows"].get(row, {}).get("runs", ()))


def add_run(
    record: dict[str, Any], row: str, changes: Mapping[str, Any], run: Mapping[str, Any]
) -> None:
    """Put a finished run, with "seed", KEYS and its machine, into its row, and the row's spread."""
    runs = [*record["rows"].get(row, {}).get("runs", ()), dict(run)]
    runs.sort(key=lambda run: run["seed"])
    figures = {key: summarise_values([run[key] for run in runs]) for key in KEYS}
    record["rows"][row] = {"changes": changes, "figures": figures, "runs": runs}


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write table.json and table.md, each whole or as it was. Raises: OSError."""
    for name, text in ((RECORD, json.dumps(record, indent=1)), (TABLE, format_page(record))):
        content = encode_text(text)
        write_atomically(folder / name, lambda file, content=content: file.write(content))  # type: ignore[misc]


def format_table(record: Mapping[str, Any]) -> str:
    """The table as markdown, in per cent: a line a row, then the controls."""
    known = ABLATIONS[record["ablation"]]
    rows = {row: record["rows"][row] for row in known if row in record["rows"]}
    lines = [["", *(f"{title} (%)" for title in FIGURES.values()), "seeds"]]
    for row, entry in rows.items():
        cells = [_format_values(run[key] for run in entry["runs"]) for key in FIGURES]
        lines.append([f"{row}: {known[row][1]}", *cells, str(len(entry["runs"]))])
    seeds = {run["seed"]: run for entry in rows.values() for run in entry["runs"]}
    for control, title in CONTROLS.items():  # which the rows have in common
        cells = [_format_values(r[f"{key}_{control}"] for r in seeds.values()) for key in FIGURES]
        lines.append([title, *cells, str(len(seeds))])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [[line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in lines]
    padded.insert(1, ["-" * widths[0], *(f"{'-' * (width - 1)}:" for width in widths[1:])])
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def _format_values(values: Iterable[float]) -> str:
    return format_cell(summarise_values(list(values)))


def format_page(record: Mapping[str, Any]) -> str:
    """table.md: the table, what it is of, and what the paper has."""
    settings = record["settings"]
    machines = {
        f"{run['processor']} ({run['device']}, {run['dtype']}, {run['threads']} threads, torch "
        f"{run['torch']})": None
        for entry in record["rows"].values()
        for run in entry["runs"]
    }
    return f"""# Ablation: {record["ablation"]}

{format_table(record)}

Frozen features of {record["data"]["name"]}, split {record["data"]["split"]}, after
{settings["steps"]:,} steps of {settings["batch"]} clips (preset {record["preset"]}); mean and
standard deviation over seeds. 1-NN is the paper's retrieval; linear is logistic regression on the
last block's CLS and mean patch, and not the paper's grid of classifiers.

{_PAPER}

Made on {"; ".join(machines)} with slim_fast {record["slim_fast"]}:

    {record["command"]}
"""

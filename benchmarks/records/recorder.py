"""Results on file: one JSON file a machine, one run a session, one result a case."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.records.machine import environment, machine_name
from slim_fast.errors import UserError
from slim_fast.writing import write_atomically

Result = dict[str, Any]
RESULTS = Path(__file__).parent / "results"
RUN, RESULT = {"date", "commit", "quick", "results"}, {"benchmark", "case"}
"""What every run and every result has, however old."""


def quartiles(values: Any) -> list[float]:
    """First quartile, median and third quartile."""
    return [float(f"{q:.6g}") for q in np.quantile(values, (0.25, 0.5, 0.75))]


class Recorder:
    """Collects a session's results, and after each one writes the machine's file in `folder`."""

    def __init__(self, folder: Path | None, quick: bool = False) -> None:
        self.results: list[Result] = []
        self._path = folder / f"{machine_name()}.json" if folder else None
        self._quick = quick
        self._earlier: list[dict[str, Any]] = []
        self._run: dict[str, Any] = {}

    def add(self, benchmark: str, case: dict[str, Any], **metrics: Any) -> None:
        """Add what was measured for a `case` of `benchmark`; on device "cuda" with the GPU's name.

        Raises: UserError when the machine's file cannot be read or written.
        """
        if metrics.get("device") == "cuda" and torch.cuda.is_available():
            metrics["gpu"] = torch.cuda.get_device_name()
        self.results.append({"benchmark": benchmark, "case": case, **metrics})
        if self._path is None:
            return
        if not self._run:
            self._earlier = read(self._path) if self._path.exists() else []
            self._run = environment(self._quick)
        write_json(self._path, [*self._earlier, {**self._run, "results": self.results}])


def write_json(path: Path, content: Any) -> None:
    """Write a whole file or none. Raises: UserError when it cannot be written."""
    text = json.dumps(content, indent=1) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(text.encode()))
    except OSError as error:
        raise UserError(f"Cannot write the results to {path}: {error.strerror}.") from error


def read(path: Path) -> list[dict[str, Any]]:
    """The runs in a machine's file, oldest first. Raises: UserError when absent or damaged."""
    try:
        runs: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        results = [result for run in runs for result in run["results"]]
        if not (all(r.keys() >= RUN for r in runs) and all(r.keys() >= RESULT for r in results)):
            raise ValueError(
                f"a run needs {', '.join(sorted(RUN))}, a result {' and '.join(sorted(RESULT))}"
            )
    except FileNotFoundError as error:
        raise UserError(
            f"{path} does not exist; name a file of results, as in {RESULTS}."
        ) from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({error}); restore it or move it away.") from error
    return runs


def identity(result: Result) -> str:
    """What makes two results measurements of the same thing: benchmark, case and device."""
    return json.dumps(
        [result["benchmark"], result["case"], result.get("device", "cpu")], sort_keys=True
    )


def newest(runs: list[dict[str, Any]], quick: bool = False) -> list[Result]:
    """The newest result of each case with its run's fields, in the order of the newest runs."""
    found: dict[str, Result] = {}
    for run in reversed([run for run in runs if run["quick"] == quick]):
        about = {name: value for name, value in run.items() if name != "results"}
        for result in run["results"]:
            found.setdefault(identity(result), {**about, **result})
    return list(found.values())

"""python -m benchmarks.protocols CACHE RUN: pre-train, evaluate by every protocol, keep a record.

RUN is trained by `slim_fast.pretrain` (a finished run is taken as it is), evaluated by
`slim_fast.evaluate all --parts --windows`, and its figures go to
benchmarks/records/results/protocols/, from which `python -m benchmarks.records --write` makes the
tables of RESULTS.md. Options that are not listed here are those of slim_fast.pretrain.
"""

import argparse
import json
import shlex
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.records.machine import current_commit
from benchmarks.records.recorder import RESULTS
from slim_fast import evaluate, pretrain
from slim_fast.errors import UserError
from slim_fast.evaluate import ALL
from slim_fast.evaluation.protocols.results import default_folder
from slim_fast.training.machine import cpu_model
from slim_fast.writing import write_atomically

_KEPT = ("clips", "classes", "settings", "seconds", "threads", "torch", "figures")


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.protocols", description=__doc__)
    parser.add_argument("cache", type=Path, help="labelled cache with a split")
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--title", required=True, help="of the table")
    parser.add_argument("--records", type=Path, default=RESULTS / "protocols", help="folder")
    options, training = parser.parse_known_args(arguments)
    training = ["--data", str(options.cache), "--out", str(options.run), *training]
    evaluation = ["all", str(options.run), "--data", str(options.cache), "--parts", "--windows"]
    for command, words in ((pretrain, training), (evaluate, evaluation)):
        if status := command.main(words):
            return status
    try:
        path = options.records / f"{options.run.name}.json"
        record = {
            "title": options.title,
            "commands": [
                f"slim-fast pretrain {shlex.join(training)}",
                f"slim-fast evaluate {shlex.join(evaluation)}",
            ],
            "processor": cpu_model(),
            "commit": current_commit(),
            "date": datetime.now(timezone.utc).date().isoformat(),
            "training": read(options.run / "summary.json"),
            "protocols": read_protocols(default_folder(str(options.run)) / options.cache.stem),
        }
        options.records.mkdir(parents=True, exist_ok=True)
        text = json.dumps(record, indent=1) + "\n"
        write_atomically(path, lambda file: file.write(text.encode()))
    except (OSError, UserError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"On record in {path}; `python -m benchmarks.records --write` renews the pages.")
    return 0


def read_protocols(folder: Path) -> dict[str, Any]:
    """What `slim_fast.evaluate` wrote of each protocol, without paths. Raises: OSError."""
    found = {name: read(folder / f"{name}.json") for name in ALL}
    return {name: {key: record[key] for key in _KEPT} for name, record in found.items()}


def read(path: Path) -> dict[str, Any]:
    """A JSON file. Raises: OSError."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


if __name__ == "__main__":
    sys.exit(main())

"""python -m benchmarks.faults: does faults to the smallest run, which must lose nothing.

Each trial begins a run, does a fault to it at a random moment, resumes it, and compares what it has
computed bit for bit with the run that was never disturbed.
"""

import argparse
import json
import platform
import random
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch

from benchmarks.faults.injected import FAULTS, Trial
from benchmarks.faults.smallest import are_same, read_outcome, start, write_cache


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 1 when something was lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--faults", type=int, default=60, help="how many (default 60)")
    parser.add_argument("--seed", type=int, default=0, help="of moments and places (default 0)")
    parser.add_argument("--only", choices=list(FAULTS), nargs="+", help="kinds (default all)")
    parser.add_argument("--record", type=Path, metavar="FILE", help="JSON file to write")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        trials = run_trials(Path(folder), options.faults, options.seed, options.only or [*FAULTS])
    lost = [trial for trial in trials if trial["lost"]]
    print(f"{len(trials)} faults, {len(lost)} lost something")
    if options.record is not None:
        about = {
            "seed": options.seed,
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
        text = json.dumps(
            {**about, "faults": len(trials), "lost": len(lost), "trials": trials}, indent=1
        )
        options.record.write_text(text + "\n", encoding="utf-8")
    return 1 if lost else 0


def run_trials(folder: Path, count: int, seed: int, kinds: list[str]) -> list[dict[str, Any]]:
    """What was done and what came of it, of `count` faults of the kinds in turn."""
    folder.chmod(0o755)  # a process without rights reads the data
    data = folder / "cache"
    write_cache(data)
    wanted, seconds = {}, {}
    for size in (1, 2):
        out, begin = folder / f"undisturbed-{size}", time.monotonic()
        statuses = start(data, out, size, out.with_suffix(".log")).wait(300)
        if any(statuses):
            raise RuntimeError(out.with_suffix(".log").read_text(encoding="utf-8"))
        wanted[size], seconds[size] = read_outcome(out), time.monotonic() - begin
    trials = []
    for number, kind in enumerate(islice(cycle(kinds), count)):
        moments = random.Random(f"{seed} {number}")
        size = moments.choice([1, 1, 2])
        trial = Trial(data, folder / f"run-{number}", size, moments, seconds[size])
        what = lost = ""
        try:
            what = FAULTS[kind](trial)
            trial.finish()
            if not are_same(read_outcome(trial.out), wanted[trial.size]):
                lost = "the resumed run has computed something else"
        except (RuntimeError, TimeoutError, OSError) as error:
            lost = f"{type(error).__name__}: {error}"
        done = {"fault": kind, "processes": trial.size, "what": what, "lost": lost}
        print(
            f"{number + 1:>3} {kind:<30} {trial.size} {what:<28} {lost or 'nothing lost'}",
            flush=True,
        )
        if lost:
            done["said"] = trial.words()
            print(done["said"])
        trials.append(done)
    return trials


if __name__ == "__main__":
    sys.exit(main())

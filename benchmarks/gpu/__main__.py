"""python -m benchmarks.gpu: on a CUDA GPU, whether the kernels are exact and repeatable, and how
fast and lean.

Prints a row a measurement and keeps them in benchmarks/records/results/<gpu>.json. Each section
runs in a process of its own with a time limit. Exits with 1 when a check failed or a section
raised, with 2 without a GPU. --interpret checks the ops on a CPU in Triton's interpreter instead,
at toy sizes.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import torch

from benchmarks.gpu.record import GpuRecorder, environment
from benchmarks.gpu.sections import Outcome, run_apart
from benchmarks.records.gpu_rows import INTERPRETED, SECTIONS, Row, heading, line
from benchmarks.records.recorder import RESULTS
from slim_fast.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument(
        "--section", choices=list(SECTIONS), action="append", help="only this one (may be repeated)"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=8,
        help="sections not begun by then are skipped (default: 8)",
    )
    parser.add_argument(
        "--section-minutes",
        type=float,
        default=3,
        help="a section that takes longer is stopped (default: 3)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="toy sizes: shows that it runs; recorded with --results",
    )
    parser.add_argument(
        "--interpret",
        action="store_true",
        help="correctness and determinism in Triton's interpreter",
    )
    parser.add_argument(
        "--results", type=Path, help=f"folder of the results' files (default: {RESULTS.name}/ here)"
    )
    parser.add_argument("--commit", help="name of the commit, where git cannot tell")
    options = parser.parse_args(arguments)
    interpreted = options.interpret or os.environ.get("TRITON_INTERPRET") == "1"
    if not interpreted and not torch.cuda.is_available():
        print(
            (
                "error: this needs a CUDA GPU, and torch sees none; --interpret checks the ops "
                "without."
            ),
            file=sys.stderr,
        )
        return 2
    if interpreted:
        os.environ["TRITON_INTERPRET"] = "1"  # for the sections' processes
    try:
        recorder = None
        if not interpreted:
            about = environment(torch.device("cuda"), options.commit, options.quick)
            print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)
            recorder = GpuRecorder(options.results or (None if options.quick else RESULTS), about)
        failures = _run_sections(options, interpreted, recorder)
    except UserError as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 2
    print(
        "\n".join(["", f"{len(failures)} failures", *failures])
        if failures
        else "\nevery check passed"
    )
    return 1 if failures else 0


def _run_sections(
    options: argparse.Namespace, interpreted: bool, recorder: GpuRecorder | None
) -> list[str]:
    """The failures, one line each."""

    def report(row: Row) -> None:
        print(line(row), flush=True)
        if recorder is not None:
            recorder.add(f"gpu_{row.section}", {"op": row.op, "what": row.what}, **row.metrics())

    print(heading(), flush=True)
    begin, failures = time.perf_counter(), []
    for name in SECTIONS:
        if name not in (options.section or SECTIONS):
            continue
        outcome, obstacle = Outcome(), ""
        if interpreted and name not in INTERPRETED:
            obstacle = "needs a GPU"
        elif time.perf_counter() - begin > 60 * options.minutes:
            obstacle = f"{options.minutes:g} minutes were over"
        else:
            limit = 60 * options.section_minutes
            outcome = run_apart(name, quick=options.quick, seconds=limit, report=report)
        failures += outcome.failed + outcome.errors
        ended = f"error in {'; '.join(outcome.errors)}" if outcome.errors else "ran"
        note = f"skipped: {obstacle}" if obstacle else ended
        report(Row("sections", name, "section", outcome.seconds, unit="s", note=note))
    return failures


if __name__ == "__main__":
    sys.exit(main())

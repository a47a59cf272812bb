"""python -m benchmarks.gpu: on a CUDA GPU, whether the kernels are exact and repeatable, and how
fast and lean.

Prints a row a measurement and keeps them in benchmarks/records/results/<gpu>.json. Exits with
1 when a check failed or a section raised, with 2 without a GPU. --interpret checks the ops on a CPU
in Triton's interpreter instead, at toy sizes.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.record import GpuRecorder, environment
from benchmarks.records.gpu_rows import INTERPRETED, SECTIONS, heading
from benchmarks.records.recorder import RESULTS
from slim_fast.errors import UserError


def section_bodies() -> dict[str, Callable[[Any], None]]:
    """What each section does; imports triton, so only once the environment says how."""
    from benchmarks.gpu import correctness, drop_in, speed, step

    modules = (correctness, drop_in, speed, step)
    return {name: next(getattr(m, name) for m in modules if hasattr(m, name)) for name in SECTIONS}


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument(
        "--section", choices=list(SECTIONS), action="append", help="only this one (may be repeated)"
    )
    parser.add_argument(
        "--minutes", type=float, default=8, help="sections not begun by then are skipped"
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
    os.environ["SLIM_KERNELS"] = "triton"
    if interpreted:
        os.environ["TRITON_INTERPRET"] = "1"
    from benchmarks.gpu.run import Run

    try:
        device, recorder = torch.device("cpu" if interpreted else "cuda"), None
        if not interpreted:
            about = environment(device, options.commit, options.quick)
            print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)
            recorder = GpuRecorder(options.results or (None if options.quick else RESULTS), about)
        run = Run(device, quick=options.quick, minutes=options.minutes, recorder=recorder)
        print(heading(), flush=True)
        with warnings.catch_warnings():
            # An op that fell back to PyTorch would be compared with itself.
            warnings.filterwarnings("error", message=".* has no Triton kernel for ")
            for name, body in section_bodies().items():
                if name in (options.section or SECTIONS):
                    run.section(
                        name, body, "needs a GPU" if interpreted and name not in INTERPRETED else ""
                    )
    except UserError as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 2
    print(
        "\n".join(["", f"{len(run.failed)} failures", *run.failed])
        if run.failed
        else "\nevery check passed"
    )
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""NVIDIA's compute-sanitizer over every op, where it is installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu.run import Run

TOOLS = ("memcheck", "racecheck")
FOUND = 86  # the exit status asked of compute-sanitizer where it found something


def sanitizer(run: Run) -> None:
    """Every op at toy sizes under each tool."""
    cuda = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin"
    program = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path=cuda)
    if program is None:
        run.add("compute-sanitizer", "all ops", note="skipped: it is not installed")
        return
    call = "from benchmarks.gpu.sections import run_here; import sys; "
    call += "sys.exit(bool(run_here('determinism', quick=True, report=print).errors))"
    for tool in TOOLS:
        command = [program, "--tool", tool, "--error-exitcode", str(FOUND), sys.executable, "-c"]
        done = subprocess.run([*command, call], capture_output=True, text=True, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith("=========")]
        note = "" if done.returncode == 0 else "; ".join(line[9:].strip() for line in lines[:3])
        status = float(done.returncode)
        run.add(f"compute-sanitizer {tool}", "all ops", status, target=0, at_most=True, note=note)
        if done.returncode:
            run.errors.append(f"{tool}: exit status {done.returncode}")

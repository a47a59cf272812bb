"""Results on file: one JSON file a machine, one run a session, one result a case."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slim_fast.errors import UserError
from slim_fast.training.checkpoint import write_atomically
from slim_fast.training.machine import choose_dtype

RESULTS = Path(__file__).parent / "results"
RUN, RESULT = {"date", "commit", "quick", "results"}, {"benchmark", "case"}
"""What every run and every result has, however old."""


def cpu_model() -> str:
    """The processor's name as its maker gives it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def cores() -> int:
    return os.cpu_count() or 1


def machine_name() -> str:
    """Processor and cores as a file name."""
    words = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", cpu_model().lower())).strip("-")
    return f"{words or 'cpu'}-{cores()}-cores"


def commit() -> str | None:
    """The commit that is checked out, with a + when files differ from it other than those that records go into; None
    outside a repository.
    """

    def git(*arguments: str) -> str:
        folder = Path(__file__).parent
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        written = (":!/benchmarks/results", ":!/benchmarks/figures", ":!/README.md")
        changed = git("status", "--porcelain", "--", ":/", *written)
        return git("rev-parse", "--short=10", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def triton_version() -> str | None:
    try:
        return metadata.version("triton")
    except metadata.PackageNotFoundError:
        return None


def memory_bytes() -> int | None:
    """The machine's memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def environment(quick: bool) -> dict[str, Any]:
    """What a run's figures depend on."""
    affinity = getattr(os, "sched_getaffinity", lambda _: range(cores()))
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "cpu": cpu_model(),
        "cores": cores(),
        "threads_available": len(affinity(0)),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "native_bf16": choose_dtype("auto", torch.device("cpu")) == torch.bfloat16,
        "memory_bytes": memory_bytes(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": triton_version(),
        "numpy": np.__version__,
        "quick": quick,
    }


class Recorder:
    """Collects a session's results and, given a folder, writes them to the machine's file after each one."""

    def __init__(self, folder: Path | None, quick: bool = False) -> None:
        self.results: list[dict[str, Any]] = []
        self._path = folder / f"{machine_name()}.json" if folder else None
        self._quick = quick
        self._earlier: list[dict[str, Any]] = []
        self._run: dict[str, Any] = {}

    def add(self, benchmark: str, case: dict[str, Any], **figures: Any) -> None:
        """One result: `figures` measured for `case` of `benchmark`; with device="cuda" the GPU's name is added.

        Raises: UserError when the machine's file cannot be read or written.
        """
        if figures.get("device") == "cuda" and torch.cuda.is_available():
            figures["gpu"] = torch.cuda.get_device_name()
        self.results.append({"benchmark": benchmark, "case": case, **figures})
        if self._path is None:
            return
        if not self._run:
            self._earlier = read(self._path) if self._path.exists() else []
            self._run = environment(self._quick)
        text = json.dumps([*self._earlier, {**self._run, "results": self.results}], indent=1)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, lambda file: file.write((text + "\n").encode()))
        except OSError as error:
            raise UserError(f"Cannot write the results to {self._path}: {error.strerror}.") from error


def read(path: Path) -> list[dict[str, Any]]:
    """The runs in a machine's file, oldest first.

    Raises: UserError when the file is absent or damaged.
    """
    try:
        runs: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        results = [result for run in runs for result in run["results"]]
        if not all(run.keys() >= RUN for run in runs) or not all(result.keys() >= RESULT for result in results):
            raise ValueError(f"a run needs {', '.join(sorted(RUN))}, a result {' and '.join(sorted(RESULT))}")
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; name a file of results, as in {RESULTS}.") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({error}); restore it or move it away.") from error
    return runs


def identity(result: dict[str, Any]) -> str:
    """What makes two results figures of the same thing: benchmark, case and device."""
    return json.dumps([result["benchmark"], result["case"], result.get("device", "cpu")], sort_keys=True)


def newest(runs: list[dict[str, Any]], quick: bool = False) -> list[dict[str, Any]]:
    """The newest result of each case, in the order of the newest run that has it; each with its run's fields."""
    found: dict[str, dict[str, Any]] = {}
    for run in reversed([run for run in runs if run["quick"] == quick]):
        about = {name: value for name, value in run.items() if name != "results"}
        for result in run["results"]:
            found.setdefault(identity(result), {**about, **result})
    return list(found.values())

"""What measurements depend on: a machine's processor and memory, the commit, versions."""

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slim_fast.training.machine import choose_dtype, cpu_model


def count_cores() -> int:
    return os.cpu_count() or 1


def machine_name() -> str:
    """Processor and cores as a file name."""
    words = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", cpu_model().lower())).strip("-")
    return f"{words or 'cpu'}-{count_cores()}-cores"


def current_commit() -> str | None:
    """The commit checked out, with a + if files other than records differ; None without git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        written = (":!/benchmarks/records/results", ":!/docs", ":!/README.md")
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


def software(quick: bool) -> dict[str, Any]:
    """Date, commit, processor and versions: what a record notes on any device."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": current_commit(),
        "cpu": cpu_model(),
        "cores": count_cores(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": triton_version(),
        "numpy": np.__version__,
        "quick": quick,
    }


def environment(quick: bool) -> dict[str, Any]:
    """What measurements on this machine's processor depend on."""
    affinity = getattr(os, "sched_getaffinity", lambda _: range(count_cores()))
    return {
        **software(quick),
        "threads_available": len(affinity(0)),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "native_bf16": choose_dtype("auto", torch.device("cpu")) == torch.bfloat16,
        "memory_bytes": memory_bytes(),
    }


def describe_machine(results: Sequence[dict[str, Any]]) -> str:
    """Where and when the results were measured, in one sentence; what no run noted is left out."""

    def distinct(name: str, text: str = "{}") -> list[str]:
        known = sorted({str(result[name]) for result in results if result.get(name) is not None})
        return [text.format(", ".join(known))] if known else []

    gpu = [*distinct("gpu"), *distinct("driver", "driver {}")]
    triton = distinct("triton", "triton {}")
    memory = {f"{r['memory_bytes'] / 2**30:.0f} GiB" for r in results if r.get("memory_bytes")}
    native = {r["native_bf16"] for r in results if r.get("native_bf16") is not None}
    machine = [
        *distinct("cpu"),
        *distinct("cpu_capability"),
        *(["bf16 native"] if native == {True} else []),
        *distinct("cores", "{} cores"),
        *sorted(memory),
        *distinct("system"),
        *distinct("python", "Python {}"),
        *distinct("torch", "torch {}"),
        *([] if gpu else triton),
        *distinct("numpy", "numpy {}"),
    ]
    days = " and ".join(sorted({result["date"][:10] for result in results}))
    when = [*(distinct("commit", "commit {}") or ["commit unknown"]), days]
    return (
        "; ".join(", ".join(part) for part in (gpu and gpu + triton, machine, when) if part) + "."
    )

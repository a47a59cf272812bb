"""The GPU's file of results, and what its measurements depend on."""

import re
import subprocess
from pathlib import Path
from typing import Any

import torch

from benchmarks.records.machine import software
from benchmarks.records.recorder import Recorder, read


def query_driver(name: str) -> str | None:
    """What nvidia-smi says of the first GPU under a name of its own, without the unit; None when it
    does not say.
    """
    command = ["nvidia-smi", f"--query-gpu={name}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        found = done.stdout.splitlines()[0].strip()
    except (OSError, subprocess.SubprocessError, IndexError):
        return None
    return None if found.startswith("[") else found


def environment(device: torch.device, commit: str | None, quick: bool) -> dict[str, Any]:
    """What a run's measurements depend on; commit: its name where git cannot tell."""
    properties = torch.cuda.get_device_properties(device)
    about = software(quick)
    return {
        **about,
        "commit": commit or about["commit"],
        "gpu": properties.name,
        "gpu_bytes": properties.total_memory,
        "capability": f"{properties.major}.{properties.minor}",
        "driver": query_driver("driver_version"),
        "sm_mhz_at_most": query_driver("clocks.max.sm"),
        "power_limit_w": query_driver("power.limit"),
    }


class GpuRecorder(Recorder):
    """Results of one GPU, in a file of its name; what the same commit measured before is replaced
    case by case.
    """

    def __init__(self, folder: Path | None, about: dict[str, Any]) -> None:
        super().__init__(folder, about["quick"])
        if folder is not None:
            name = re.sub(r"[^a-z0-9]+", "-", about["gpu"].lower()).strip("-")
            self._path = folder / f"{name}.json"
            self._earlier = read(self._path) if self._path.exists() else []
        self._run = about

    def add(self, benchmark: str, case: dict[str, Any], **metrics: Any) -> None:
        for run in self._earlier:
            same = all(run[name] == self._run[name] for name in ("commit", "quick"))
            if self._run["commit"] and same:
                run["results"] = [
                    r for r in run["results"] if (r["benchmark"], r["case"]) != (benchmark, case)
                ]
        self._earlier = [run for run in self._earlier if run["results"]]
        super().add(benchmark, case, **metrics)

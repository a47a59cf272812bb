"""A trace of a few steps, and the time that each part of them takes."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.profiler import ProfilerActivity, profile

from slim_fast.model.ranges import FORWARD, LOSS, PARTS
from slim_fast.writing import replace_atomically

T = TypeVar("T")
TRACE = "trace.json.gz"
"""In the run folder, for ui.perfetto.dev and chrome://tracing."""
WARM_UP = 3  # steps, in which memory is allocated and kernels are compiled
COMMUNICATION = "communication"
_COLLECTIVES = ("gloo:", "nccl:", "ncclDevKernel")


class StepProfile:
    """Traces `count` of the steps from `first` up to `steps`, after WARM_UP others where there are
    so many.
    """

    def __init__(self, first: int, steps: int, count: int, device: torch.device) -> None:
        self.count, self.device = min(count, steps - first), device
        self._begin = first + min(WARM_UP, steps - first - self.count)
        self._profile: Any = None

    def step(self, work: Callable[[int], T], number: int) -> T:
        """work(number), in the trace if that is one of its steps."""
        if self.count and number == self._begin:
            activities = [ProfilerActivity.CPU]
            if self.device.type == "cuda":
                activities.append(ProfilerActivity.CUDA)
            os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it says on stderr that it starts
            self._profile = profile(activities=activities, record_shapes=True)
            self._profile.start()
        return work(number)

    def is_due(self, done: int) -> bool:
        """Whether the last of its steps is among the first `done`."""
        return self._profile is not None and done >= self._begin + self.count

    def write(self, folder: Path) -> dict[str, float]:
        """Write the trace into the folder; returns the milliseconds of a step by part.

        Raises: OSError when it cannot be written.
        """
        self.stop()
        with replace_atomically(folder / TRACE) as path:
            self._profile.export_chrome_trace(str(path))
        events, self._profile = self._profile.events(), None
        return {
            name: microseconds / 1e3 / self.count
            for name, microseconds in sum_parts(events, self.device.type).items()
        }

    def stop(self) -> None:
        """End what is under way."""
        if self._profile is not None:
            self._profile.stop()


def sum_parts(events: Iterable[Any], device: str) -> dict[str, float]:
    """Microseconds of each part on the device, of a profiler's events.

    The parts of a step follow each other; COMMUNICATION is beside them, and may overlap.
    """
    found: defaultdict[str, float] = defaultdict(float)
    for event in events:
        if event.device_type.name.lower() != device:
            continue
        if event.name in PARTS:
            found[event.name] += event.time_range.elapsed_us()
        elif event.name.startswith(_COLLECTIVES):
            found[COMMUNICATION] += event.time_range.elapsed_us()
    found[FORWARD] -= found[LOSS]
    return {name: found[name] for name in (*PARTS, COMMUNICATION)}

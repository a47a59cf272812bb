"""What every benchmark does: run its sides interleaved, record results, skip what cannot run."""

import os
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from benchmarks.records.recorder import Recorder
from benchmarks.suite.workers import Rounds, interleave, workers
from slim_fast.training.machine import choose_dtype


def compiler_missing() -> str:
    """Why torch.compile can't compile for the CPU, or ""."""
    found = any(shutil.which(name) for name in ("g++", "clang++", "c++", "cl"))
    return "" if found else "no C++ compiler is on the PATH, so torch.compile has none"


class Bench:
    """One benchmark's run.

    left_out: collects what was not measured here, and why.
    quick: toy sizes, at most two rounds. thorough: also the cases that take longest.
    """

    def __init__(
        self,
        benchmark: Any,
        recorder: Recorder,
        left_out: list[str],
        *,
        quick: bool,
        thorough: bool,
    ) -> None:
        self.benchmark, self.recorder, self._left_out = benchmark, recorder, left_out
        self.quick, self._thorough = quick, thorough
        # Two where the machine has them, which is what the demo is made for; one at toy sizes.
        self.threads = 1 if quick else min(2, os.cpu_count() or 1)

    def compare(
        self,
        sides: Mapping[str, Callable[..., Any]],
        rounds: int,
        least_seconds: float = 0,
        *,
        shown: str = "ours",
        threads: int | None = None,
        **arguments: Any,
    ) -> Rounds:
        """Build each side in a process of its own and run them interleaved, see `interleave`."""
        if self.quick:
            rounds, least_seconds = min(rounds, 2), 0
        with workers(sides, threads or self.threads, **arguments) as built:
            return interleave(self.benchmark, built, rounds, least_seconds, shown)

    def record(self, benchmark: str, case: Mapping[str, Any], **metrics: Any) -> None:
        """Add a result, with the number of threads."""
        self.recorder.add(benchmark, dict(case), **{"threads": self.threads, **metrics})

    def leave_out(self, reason: str) -> None:
        """Say at the end what was not measured."""
        if reason not in self._left_out:
            self._left_out.append(reason)

    def skip_if_quick(self, condition: bool = True) -> None:
        """Skip a case that a quick run does without."""
        if self.quick and condition:
            pytest.skip("one case is enough to see that it runs")

    def skip_unless_thorough(self, condition: bool) -> None:
        """Skip a case that takes long."""
        if condition and not self._thorough:
            pytest.skip("one of the longest cases; give --thorough")

    def native_precisions(
        self, precisions: tuple[str, ...] = ("bf16", "fp32"), device: str = "cpu"
    ) -> tuple[str, ...]:
        """Those that the device multiplies natively; at least fp32."""
        is_fast = choose_dtype("auto", torch.device(device)) == torch.bfloat16
        native = tuple(p for p in precisions if p == "fp32" or is_fast)
        for precision in set(precisions) - set(native):
            self.leave_out(f"{precision}: {device} does not multiply it natively")
        return native or ("fp32",)

    def runnable_sides(self, sides: tuple[str, ...], device: str) -> tuple[str, ...]:
        """Those that can run: compiled ones need a compiler."""
        missing = compiler_missing() if device == "cpu" else ""
        if missing:
            self.leave_out(f"compiled baselines: {missing}")
        return tuple(side for side in sides if not (missing and "compile" in side))

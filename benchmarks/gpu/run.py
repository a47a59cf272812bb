"""What a section gets: its device and sizes, where its rows go, and what went wrong."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch

from benchmarks.gpu import timing
from benchmarks.records.gpu_rows import Number, Row
from benchmarks.records.recorder import quartiles


def first_line(error: BaseException) -> str:
    """Kind and first line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


class Run:
    """A section that runs.

    device: where the ops run, a CPU under Triton's interpreter. quick: toy sizes. report: gets each
    row.
    """

    def __init__(
        self, section: str, device: torch.device, *, quick: bool, report: Callable[[Row], Any]
    ) -> None:
        self.section, self.device, self.quick, self._report = section, device, quick, report
        self.failed: list[str] = []
        """Checks that failed, one line each."""
        self.errors: list[str] = []
        """What was raised, one line each."""

    def add(
        self, op: str, what: str, ours: Number = None, *, check: bool = False, **fields: Any
    ) -> None:
        """Report a `Row`; with `check`, missing its target fails the run."""
        row = Row(self.section, op, what, ours, **fields)
        self._report(row)
        if check and not row.met:
            self.failed.append(f"{row.section}: {row.op}, {row.what}")

    def add_times(
        self,
        op: str,
        what: str,
        times: Mapping[str, list[float]],
        baseline: str,
        ours: str = "ours",
        **fields: Any,
    ) -> None:
        """A row of two sides' milliseconds, measured interleaved, and their ratio."""
        fields |= {"baseline": quartiles(times[baseline]), "unit": "ms"}
        ratio = timing.faster(times[ours], times[baseline])
        self.add(op, what, quartiles(times[ours]), ratio=ratio, **fields)

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """Note an error of the body and go on behind it."""
        try:
            yield
        except Exception as error:  # whatever a kernel, a compiler or the driver raises
            traceback.print_exc(file=sys.stderr)
            self.errors.append(f"{name}: {first_line(error)}")
            print(f"error in {self.errors[-1]}", flush=True)

    @cached_property
    def timer(self) -> timing.Timer:
        return timing.Timer(self.device, seconds=0.1 if self.quick else 1.5)

    @cached_property
    def ceiling(self) -> list[float]:
        """bf16 TFLOP/s of a large matrix product, quartiles."""
        return timing.matmul_rate(self.timer, self.device, 512 if self.quick else 8192)

    @cached_property
    def bandwidth(self) -> list[float]:
        """TB/s, read plus written, of a large copy, quartiles."""
        return timing.copy_rate(self.timer, self.device, 1 << (24 if self.quick else 32))

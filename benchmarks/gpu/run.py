"""One run of the script: its device and sizes, its rows, and what went wrong."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch

from benchmarks.gpu import timing
from benchmarks.records.gpu_rows import Number, Row, line
from benchmarks.records.recorder import Recorder, quartiles


def first_line(error: BaseException) -> str:
    """Kind and first line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


class Run:
    """device: where the ops run, a CPU under Triton's interpreter. quick: toy sizes.

    minutes: sections that have not begun by then are skipped.
    """

    def __init__(
        self, device: torch.device, *, quick: bool, minutes: float, recorder: Recorder | None
    ) -> None:
        self.device, self.quick, self._minutes, self._recorder = device, quick, minutes, recorder
        self.failed: list[str] = []
        """Checks that failed and errors, one line each."""
        self._begin = time.perf_counter()
        self._errors: list[str] = []
        self._section = ""

    def add(
        self, op: str, what: str, ours: Number = None, *, check: bool = False, **fields: Any
    ) -> None:
        """Print and record a `Row` of the section that is running; with `check`, missing its target
        fails the run.
        """
        row = Row(self._section, op, what, ours, **fields)
        print(line(row), flush=True)
        if self._recorder is not None:
            self._recorder.add(
                f"gpu_{row.section}", {"op": row.op, "what": row.what}, **row.metrics()
            )
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
            self._errors.append(f"{name}: {first_line(error)}")
            print(f"error in {self._errors[-1]}", flush=True)

    def section(self, name: str, body: Callable[[Run], None], obstacle: str = "") -> None:
        """Run a section, unless there is an obstacle or no time left, and say how it ended."""
        begin = time.perf_counter()
        if not obstacle and begin - self._begin > 60 * self._minutes:
            obstacle = f"{self._minutes:g} minutes were over"
        self._errors, self._section = [], name
        if obstacle:
            outcome = f"skipped: {obstacle}"
        else:
            with self.attempt(name):
                body(self)
            self.failed += self._errors
            outcome = f"error in {'; '.join(self._errors)}" if self._errors else "ran"
            if self.device.type == "cuda":
                with self.attempt("freeing memory"):
                    torch.cuda.empty_cache()
        self._section = "sections"
        self.add(name, "section", time.perf_counter() - begin, unit="s", note=outcome)

    @cached_property
    def timer(self) -> timing.Timer:
        return timing.Timer(self.device, seconds=0.1 if self.quick else 1.5)

    @cached_property
    def ceiling(self) -> list[float]:
        """bf16 TFLOP/s of a large matrix product, quartiles."""
        return timing.matmul_rate(self.timer, self.device, 512 if self.quick else 8192)

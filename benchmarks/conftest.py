"""Options and fixtures of the benchmarks."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.clips import write_random_cache
from benchmarks.encoders import compiler_missing
from benchmarks.records import RESULTS, Recorder
from benchmarks.tables import tables
from slim_fast.training.machine import choose_dtype

CLIPS = 1024


class LeftOut:
    """Collects what was not measured here, and why."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def add(self, reason: str) -> None:
        if reason not in self.reasons:
            self.reasons.append(reason)

    def without_slow_precisions(self, precisions: tuple[str, ...], device: str) -> tuple[str, ...]:
        """Those that the device multiplies natively; at least fp32."""
        native = ("bf16", "fp32") if choose_dtype("auto", torch.device(device)) == torch.bfloat16 else ("fp32",)
        for precision in set(precisions) - set(native):
            self.add(f"{precision}: {device} does not multiply it natively")
        return tuple(p for p in precisions if p in native) or ("fp32",)

    def without_compiler(self, sides: tuple[str, ...], device: str) -> tuple[str, ...]:
        """Those that can run: compiled ones need a compiler."""
        missing = compiler_missing() if device == "cpu" else ""
        if missing:
            self.add(f"compiled baselines: {missing}")
        return tuple(side for side in sides if not (missing and "compiled" in side))


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("slim_fast benchmarks")
    group.addoption("--quick", action="store_true", help="toy sizes and two rounds: shows that everything runs")
    group.addoption("--thorough", action="store_true", help="also the cases that do not fit into ten minutes")
    group.addoption("--record", action="store_true", help="append the figures to the machine's file of results")
    group.addoption("--results", type=Path, default=RESULTS, help="folder of the results' files")


def pytest_configure(config: pytest.Config) -> None:
    quick, record = (config.getoption(name, default=False) for name in ("--quick", "--record"))
    folder = config.getoption("--results", default=RESULTS) if record else None
    config.stash[_RECORDER] = Recorder(folder, bool(quick))
    config.stash[_LEFT_OUT] = LeftOut()
    if not torch.cuda.is_available():
        config.stash[_LEFT_OUT].add("everything on a GPU: torch sees no CUDA device")


_RECORDER = pytest.StashKey[Recorder]()
_LEFT_OUT = pytest.StashKey[LeftOut]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("benchmark_only", default=False):
        for item in items:
            if item.path.name.startswith("bench_"):
                item.add_marker(pytest.mark.skip(reason="takes minutes; give --benchmark-only"))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    results = config.stash[_RECORDER].results
    if results:
        skipped = {report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", [])}
        terminalreporter.section("left out")
        terminalreporter.write_line("\n".join([*config.stash[_LEFT_OUT].reasons, *sorted(skipped)]))
        terminalreporter.section("ours against the baselines")
        terminalreporter.write_line(tables(results))


@pytest.fixture(scope="session")
def quick(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("--quick", default=False))


@pytest.fixture(scope="session")
def beyond(pytestconfig: pytest.Config) -> Callable[[bool], None]:
    """Skips a case that is one of the thorough ones, unless they are asked for."""

    def skip(one: bool) -> None:
        if one and not pytestconfig.getoption("--thorough", default=False):
            pytest.skip("cases beyond ten minutes; give --thorough")

    return skip


@pytest.fixture(scope="session")
def recorder(pytestconfig: pytest.Config) -> Recorder:
    return pytestconfig.stash[_RECORDER]


@pytest.fixture(scope="session")
def left_out(pytestconfig: pytest.Config) -> LeftOut:
    return pytestconfig.stash[_LEFT_OUT]


@pytest.fixture(scope="session", params=["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
def device(request: pytest.FixtureRequest) -> str:
    """Every device that is there, one after the other."""
    return str(request.param)


@pytest.fixture(scope="session")
def threads(quick: bool) -> int:
    """Two where the machine has them, which is what the demo is made for; one where nobody reads the figures."""
    return 1 if quick else min(2, os.cpu_count() or 1)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory, quick: bool) -> Path:
    return write_random_cache(tmp_path_factory.mktemp("clips") / "cache", 64 if quick else CLIPS)

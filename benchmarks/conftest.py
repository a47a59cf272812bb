"""Options and fixtures of the benchmarks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks.clips import write_random_cache
from benchmarks.records import RESULTS, Recorder
from benchmarks.report import tables

CLIPS = 1024


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("slim_fast benchmarks")
    group.addoption("--quick", action="store_true", help="toy sizes and two rounds: shows that everything runs")
    group.addoption("--record", action="store_true", help="append the figures to the machine's file of results")
    group.addoption("--results", type=Path, default=RESULTS, help="folder of the results' files")


def pytest_configure(config: pytest.Config) -> None:
    quick, record = (config.getoption(name, default=False) for name in ("--quick", "--record"))
    folder = config.getoption("--results", default=RESULTS) if record else None
    config.stash[_RECORDER] = Recorder(folder, bool(quick))


_RECORDER = pytest.StashKey[Recorder]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("benchmark_only", default=False):
        for item in items:
            if item.path.name.startswith("bench_"):
                item.add_marker(pytest.mark.skip(reason="takes minutes; give --benchmark-only"))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    results = config.stash[_RECORDER].results
    if results:
        terminalreporter.section("ours against the baselines")
        terminalreporter.write_line(tables(results))


@pytest.fixture(scope="session")
def quick(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("--quick", default=False))


@pytest.fixture(scope="session")
def recorder(pytestconfig: pytest.Config) -> Recorder:
    return pytestconfig.stash[_RECORDER]


@pytest.fixture(scope="session")
def threads(quick: bool) -> int:
    """Two where the machine has them, which is what the demo is made for; one where nobody reads the figures."""
    return 1 if quick else min(2, os.cpu_count() or 1)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory, quick: bool) -> Path:
    return write_random_cache(tmp_path_factory.mktemp("clips") / "cache", 64 if quick else CLIPS)

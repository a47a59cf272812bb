"""Options and fixtures of the benchmarks."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.records.recorder import RESULTS, Recorder
from benchmarks.records.render import render_tables
from benchmarks.suite.bench import Bench
from benchmarks.suite.clips import write_random_cache

CLIPS = 1024
RECORDER = pytest.StashKey[Recorder]()
LEFT_OUT = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("slim_fast benchmarks")
    group.addoption(
        "--quick", action="store_true", help="toy sizes and two rounds: shows that everything runs"
    )
    with contextlib.suppress(ValueError):  # the tests, run by the same command, have it too
        group.addoption(
            "--thorough",
            action="store_true",
            help="also the cases that take longest",
        )
    group.addoption(
        "--record", action="store_true", help="append the results to the machine's file"
    )
    group.addoption("--results", type=Path, default=RESULTS, help="folder of the results' files")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Measure in one process: what runs beside a benchmark slows it."""
    if config.getoption("benchmark_only", default=False):
        config.option.numprocesses, config.option.dist = 0, "no"


def pytest_configure(config: pytest.Config) -> None:
    quick, record = (config.getoption(name, default=False) for name in ("--quick", "--record"))
    folder = config.getoption("--results", default=RESULTS) if record else None
    config.stash[RECORDER] = Recorder(folder, bool(quick))
    without_gpu = "everything on a GPU: torch sees no CUDA device"
    config.stash[LEFT_OUT] = [] if torch.cuda.is_available() else [without_gpu]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("benchmark_only", default=False):
        for item in items:
            if item.path.name.startswith("bench_"):
                item.add_marker(pytest.mark.skip(reason="takes minutes; give --benchmark-only"))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    results = config.stash[RECORDER].results
    if results:
        skipped = {
            report.longrepr[2].removeprefix("Skipped: ")
            for report in terminalreporter.stats.get("skipped", [])
        }
        terminalreporter.section("left out")
        terminalreporter.write_line("\n".join([*config.stash[LEFT_OUT], *sorted(skipped)]))
        terminalreporter.section("ours against the baselines")
        terminalreporter.write_line(render_tables(results))


@pytest.fixture
def bench(benchmark: Any, pytestconfig: pytest.Config) -> Bench:
    return Bench(
        benchmark,
        pytestconfig.stash[RECORDER],
        pytestconfig.stash[LEFT_OUT],
        quick=bool(pytestconfig.getoption("--quick", default=False)),
        thorough=bool(pytestconfig.getoption("--thorough", default=False)),
    )


@pytest.fixture(scope="session", params=["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
def device(request: pytest.FixtureRequest) -> str:
    """Every device of the machine, one after the other."""
    return str(request.param)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    """A cache of random clips."""
    count = 64 if pytestconfig.getoption("--quick", default=False) else CLIPS
    return write_random_cache(tmp_path_factory.mktemp("clips") / "cache", count)

"""For every test: one thread, a fixed seed, and a working Ctrl-C, which a shell may have told
pytest to ignore. Tests run beside each other, one process a processor.
"""

import contextlib
import ctypes
import os

# Each of these is read when a library is first imported, by pytest's processes and by the commands
# that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run as many at once as there are processors
os.environ["TRITON_INTERPRET"] = "1"
# the interpreter is slow: what tests kernels asks for them
os.environ.setdefault("SLIM_KERNELS", "reference")

import gc
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

signal.signal(signal.SIGINT, signal.default_int_handler)
# as if it were not installed: importing openvino would fork this process to reach the network
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
# the same examples every time: what others find is found by tests/fuzz, and not by chance in a run
# that is about something else
settings.register_profile("fixed", derandomize=True, database=None)
settings.load_profile("fixed")


def pytest_addoption(parser: pytest.Parser) -> None:
    with contextlib.suppress(ValueError):  # the benchmarks, run by the same command, have it too
        parser.addoption("--thorough", action="store_true", help="also what takes many minutes")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """One process for a few files that are named; for folders as many as xdist thinks fit."""
    named = [Path(argument.split("::")[0]) for argument in config.args]
    return 0 if all(path.is_file() for path in named) else None


@pytest.fixture(scope="session")
def thorough(pytestconfig: pytest.Config) -> bool:
    """Whether `--thorough` was given."""
    return bool(pytestconfig.getoption("--thorough", default=False))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked long are left out but for `--thorough`."""
    if not config.getoption("--thorough", default=False):
        skip = pytest.mark.skip(reason="takes long: run with --thorough")
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(skip)


def pytest_collection_finish() -> None:
    """Tests and modules live as long as the process: no collection looks through them again."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="module")
def memory_given_back() -> Iterator[None]:
    """What a file's tests have freed: glibc keeps gigabytes of it for processes that run long."""
    yield
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)

"""For every test: one thread, a fixed seed, and a working Ctrl-C, which a shell may have told
pytest to ignore. Tests run beside each other, one process a processor.
"""

import contextlib
import os

# Each of these is read when a library is first imported, by pytest's processes and by the commands
# that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run as many at once as there are processors
os.environ["TRITON_INTERPRET"] = "1"
# the interpreter is slow: what tests kernels asks for them
os.environ.setdefault("SLIM_KERNELS", "reference")

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture
def only_thorough(thorough: bool) -> None:
    """Left out but for `--thorough`."""
    if not thorough:
        pytest.skip("takes long: run with --thorough")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)

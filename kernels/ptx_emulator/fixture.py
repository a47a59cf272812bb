"""The pytest fixture: `pytest_plugins = ["ptx_emulator.fixture"]` in a conftest.py gives it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest


@pytest.fixture
def emulated_gpu() -> Iterator[Callable[..., Any]]:
    """`gpu = emulated_gpu("sm_90")`: until the test ends, Triton's kernels compile for that target
    and run in the emulator; options and result as `ptx_emulator.device.emulated_gpu`.
    """
    pytest.importorskip("triton", reason="compiling kernels needs triton")
    from ptx_emulator.device import emulated_gpu as open_device

    with ExitStack() as stack:
        yield lambda target, **options: stack.enter_context(open_device(target, **options))

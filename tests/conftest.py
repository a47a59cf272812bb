"""For every test: one thread, a fixed seed, and a working Ctrl-C, which a shell may have told pytest to ignore."""

import os
import signal
from collections.abc import Iterator

import pytest
import torch

os.environ["TRITON_INTERPRET"] = "1"  # read when triton is first imported, whoever does that
os.environ.setdefault("SLIM_KERNELS", "reference")  # the interpreter is slow: what tests kernels asks for them
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)

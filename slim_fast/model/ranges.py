"""Parts of a training step as named ranges of a profiler's trace."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch._C._autograd import _profiler_enabled
from torch.profiler import record_function

DATA, FORWARD, LOSS, BACKWARD, OPTIMIZER = "data", "forward", "loss", "backward", "optimizer"
PARTS = (DATA, FORWARD, LOSS, BACKWARD, OPTIMIZER)
"""LOSS lies within FORWARD."""


def step_part(name: str) -> AbstractContextManager[Any]:
    """A range of a trace while a profiler is on; else nothing, at no cost."""
    return record_function(name) if _profiler_enabled() else nullcontext()

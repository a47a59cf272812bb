"""A training step as a CUDA graph: captured once, then replayed as a whole."""

import warnings
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from slim_kernels.runtime.dispatch import TRITON_INSTALLED, kernel_choice
from slim_kernels.runtime.tensor_cache import retain_results
from torch import Tensor

from slim_fast.errors import UserError
from slim_fast.training.config import PretrainConfig
from slim_fast.views.store import FrameStore

# Steps before a capture: libraries initialise, Triton compiles, small tables and AdamW's moments
# are made. They are steps like any other.
_WARM_UPS = 3

Step = Callable[[], dict[str, Tensor]]


def captures_steps(
    config: PretrainConfig, device: torch.device, processes: int, store: FrameStore
) -> bool:
    """Whether steps are captured, by config.graph and what can be.

    Raises: UserError where graphs are demanded and cannot be.
    """
    if config.graph == "off":
        return False
    obstacle = _obstacle(device, processes, store)
    if config.graph == "on":
        if obstacle:
            raise UserError(f"graph=on, but steps cannot be captured: {obstacle}; leave it out.")
        return True
    # elsewhere tokens are dropped, and a graph would have to compute them
    computes_all = config.method == "slim" and config.model.encoder.attention == "all"
    return computes_all and not obstacle


def _obstacle(device: torch.device, processes: int, store: FrameStore) -> str:
    if device.type != "cuda":
        return "that takes a CUDA device"
    if processes > 1:
        return "that takes a single process"
    if store.is_staged:
        return "that takes clips in device memory (data_memory)"
    if not TRITON_INSTALLED or kernel_choice() == "reference":
        return "that takes the Triton kernels"
    return ""


@dataclass(frozen=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    outputs: dict[str, Tensor]
    references: list[Any]
    """Cached tensors that the graph reads, kept alive with it."""


class StepGraphs:
    """Runs a step: the first times as it is, then by a CUDA graph of it.

    step: what it reads and writes stays at its address; nothing of it is decided on the host but by
    the key, which seldom changes: one graph is kept. is_optional: where it cannot be captured, warn
    and go on without.
    """

    def __init__(self, step: Step, device: torch.device, is_optional: bool) -> None:
        self._step, self._device, self._is_optional = step, device, is_optional
        self._captured: dict[Hashable, _Captured] = {}
        self._runs: dict[Hashable, int] = {}
        self._is_given_up = False

    def forget(self) -> None:
        """Begin anew, for tensors have moved."""
        self._captured.clear()
        self._runs.clear()

    def __call__(self, key: Hashable) -> dict[str, Tensor]:
        """The step's scalars; those of a graph are overwritten by the next step."""
        if self._is_given_up:
            return self._step()
        runs = self._runs[key] = self._runs.get(key, 0) + 1
        with torch.cuda.device(self._device):
            if runs <= _WARM_UPS:
                return self._run_beside()
            if key not in self._captured and not self._capture(key):
                return self._step()
        captured = self._captured[key]
        captured.graph.replay()
        return captured.outputs

    def _run_beside(self) -> dict[str, Tensor]:
        """The step on a stream other than the default one, as captures are."""
        side, current = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):
            values = self._step()
        current.wait_stream(side)
        return values

    def _capture(self, key: Hashable) -> bool:
        """Capture the step, which does not run it. Returns whether that could be done."""
        self._captured.clear()  # of another key, whose memory this one needs
        graph = torch.cuda.CUDAGraph()
        try:
            with retain_results() as references, torch.cuda.graph(graph):
                outputs = self._step()
        except torch.OutOfMemoryError:
            raise  # says which batch fits
        except RuntimeError as error:
            reason = f"A step cannot be captured as a CUDA graph ({str(error).splitlines()[0]})"
            if not self._is_optional:
                raise UserError(f"{reason}; leave graph=on out.") from error
            warnings.warn(f"{reason}; it is launched as it is", stacklevel=2)
            self._is_given_up = True
            return False
        self._captured[key] = _Captured(graph, outputs, references)
        return True

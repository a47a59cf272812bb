"""CUDA graphs of a function on tensors: captured once for each shape, then replayed."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from slim_kernels.runtime.tensor_cache import retain_results
from torch import Tensor
from typing_extensions import Self

Groups = list[Tensor]
Masks = list[Tensor | None]
Function = Callable[[Groups, Masks], list[list[Tensor]]]
# Runs before a capture: libraries initialise, Triton compiles, and small tables are cached.
_WARM_UPS = 3


@dataclass(frozen=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    clips: Groups
    masks: Masks
    outputs: list[list[Tensor]]
    references: list[Any]
    """Cached tensors that the graph reads, kept alive with it."""


class CudaGraphs:
    """Captured CUDA graphs of a function, one for each key, shapes, dtypes and autocast setting.

    The function must depend on nothing else but weights that stay at their addresses. There are no
    gradients; copies of this object start without graphs.
    """

    def __init__(self) -> None:
        self._captured: dict[Hashable, _Captured] = {}

    # Not in inference mode, whose tensors a later call outside of it could not overwrite.
    @torch.inference_mode(False)
    @torch.no_grad()
    def __call__(
        self, run: Function, clips: Groups, masks: Masks, key: Hashable
    ) -> list[list[Tensor]]:
        """The outputs of run(clips, masks), in new tensors."""
        if not any(len(x) for x in clips):
            return run(clips, masks)  # an empty graph can't be captured
        shapes = tuple(
            (tuple(x.shape), x.dtype, m is None) for x, m in zip(clips, masks, strict=True)
        )
        autocast = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
        entry = key, shapes, autocast
        if entry not in self._captured:
            with torch.cuda.device(clips[0].device):
                self._captured[entry] = self._capture(run, clips, masks)
        captured = self._captured[entry]
        for own, given in zip([*captured.clips, *captured.masks], [*clips, *masks], strict=True):
            if own is not None and given is not None:
                own.copy_(given)
        captured.graph.replay()
        return [[x.clone() for x in layer] for layer in captured.outputs]

    @staticmethod
    def _capture(run: Function, clips: Groups, masks: Masks) -> _Captured:
        clips = [x.clone() for x in clips]
        masks = [None if m is None else m.clone() for m in masks]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                run(clips, masks)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with retain_results() as references, torch.cuda.graph(graph):
            outputs = run(clips, masks)
        return _Captured(graph, clips, masks, outputs, references)

    def __deepcopy__(self, _: object) -> Self:
        return type(self)()

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()

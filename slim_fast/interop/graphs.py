"""CUDA graphs of a function on tensors: captured once for each shape, then replayed."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from slim_kernels.kept import holding
from torch import Tensor
from typing_extensions import Self

Groups = list[Tensor]
Masks = list[Tensor | None]
Function = Callable[[Groups, Masks], list[list[Tensor]]]
_WARM_UPS = 3  # before a capture: libraries set themselves up, Triton compiles and small tables are made


@dataclass(frozen=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    clips: Groups
    masks: Masks
    answers: list[list[Tensor]]
    held: list[Any]
    """What the graph reads beside them and the weights."""


class Graphs:
    """Calls a function through graphs. What it computes must depend on nothing but its tensors, `key`, autocast and
    weights that stay where they are. Copies of this start without graphs; there are no gradients.
    """

    def __init__(self) -> None:
        self._captured: dict[Hashable, _Captured] = {}

    # Not in inference mode: its tensors could not be written to by a later call outside of it.
    @torch.inference_mode(False)
    @torch.no_grad()
    def __call__(self, run: Function, clips: Groups, masks: Masks, key: Hashable) -> list[list[Tensor]]:
        """What run(clips, masks) returns, in tensors of the caller's own."""
        if not any(len(x) for x in clips):
            return run(clips, masks)  # an empty graph can't be captured
        shapes = tuple((tuple(x.shape), x.dtype, m is None) for x, m in zip(clips, masks, strict=True))
        autocast = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
        place = key, shapes, autocast
        if place not in self._captured:
            with torch.cuda.device(clips[0].device):
                self._captured[place] = self._capture(run, clips, masks)
        kept = self._captured[place]
        for mine, theirs in zip([*kept.clips, *kept.masks], [*clips, *masks], strict=True):
            if mine is not None and theirs is not None:
                mine.copy_(theirs)
        kept.graph.replay()
        return [[x.clone() for x in layer] for layer in kept.answers]

    @staticmethod
    def _capture(run: Function, clips: Groups, masks: Masks) -> _Captured:
        own, hidden = [x.clone() for x in clips], [None if m is None else m.clone() for m in masks]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                run(own, hidden)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with holding() as held, torch.cuda.graph(graph):
            answers = run(own, hidden)
        return _Captured(graph, own, hidden, answers, held)

    def __deepcopy__(self, _: object) -> Self:
        return type(self)()

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()

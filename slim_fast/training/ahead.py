"""Views of the next step, made on a GPU while it computes this one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from slim_fast.views.pipeline import ViewBatch


class ViewsAhead:
    """Makes the views of a step when they are asked for or, on a GPU, when `prepare` says so.

    Views are hundreds of small kernels, which leave a GPU idle; of a store that is not in its
    memory, the host reads the clips. On a stream of their own they wait for no other kernel and
    take the place that the step's large ones leave. What is made depends on the step alone, so that
    when it is made changes nothing. A step that is one CUDA graph makes its views itself.

    make: the views of a step, in the parts that it is computed in.
    """

    def __init__(self, make: Callable[[int], list[ViewBatch]], device: torch.device) -> None:
        self._make, self._made = make, dict[int, list[ViewBatch]]()
        self._stream = None
        if device.type == "cuda":
            # the more urgent: its kernels are small
            self._stream = torch.cuda.Stream(device, priority=-1)
            # behind whatever made the frames
            self._stream.wait_stream(torch.cuda.current_stream(device))

    def prepare(self, step: int) -> None:
        """Make the views of a step beside the kernels that are under way; on a CPU, nothing."""
        if self._stream is not None:
            with torch.cuda.stream(self._stream):
                self._made = {step: self._make(step)}

    def __call__(self, step: int) -> list[ViewBatch]:
        """The views of a step."""
        views = self._made.pop(step, None)
        if views is None or self._stream is None:
            return self._make(step)
        current = torch.cuda.current_stream(views[0].clip.device)
        current.wait_stream(self._stream)
        for tensor in _tensors(views):
            tensor.record_stream(current)  # so that their memory is not given away too early
        return views


def _tensors(parts: list[ViewBatch]) -> list[Tensor]:
    groups = [group for views in parts for group in views.groups]
    return [views.clip for views in parts] + [x for g in groups for x in (g.clips, g.mask)]

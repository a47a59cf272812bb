"""What slim_kernels' operations take, at the sizes with which a step calls them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from slim_kernels.cost.builds import Sequences
from slim_kernels.cost.counting import Counted, at_sizes, count_small
from slim_kernels.cost.devices import Device
from slim_kernels.cost.problems import (
    BATCH,
    ROW_OPS,
    TOKENS,
    Problem,
    attention_problem,
    embed_problem,
    prototype_problem,
    row_problem,
    tube_problem,
)
from slim_kernels.cost.table import predict_pass
from slim_kernels.prototype_loss.triton_stored import stored_bytes

from benchmarks.predicted.recording import Operation

Limits = dict[str, float]
"""Microseconds by what binds them."""
BESIDE = "PyTorch beside"
"""The limit of what PyTorch does inside an operation of slim_kernels."""


class KernelTimes:
    """Predictions on a device. Each kind of call is counted once, at small sizes."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._counted: dict[Any, Counted] = {}

    def predict(self, operation: Operation, visible: tuple[Sequences, ...]) -> Limits:
        """One call of an operation of slim_kernels.

        visible: the sequences of calls with visible keys, which a call does not tell; of a sample.
        """
        op = operation.name.removeprefix("slim_kernels::").removesuffix("_backward")
        which = "backward" if operation.name.endswith("_backward") else "forward"
        limits: defaultdict[str, float] = defaultdict(float)
        for key, problem, share in _problems(op, which, operation, visible):
            if key not in self._counted:
                self._counted[key] = count_small(problem, f"sm_{self.device.capability}")
            passes = at_sizes(problem, self._counted[key])
            row = predict_pass(problem, which, passes[which], self.device)
            for launch in row["launches"]:
                limits[launch["bound"]] += share * launch["microseconds"]
            limits[BESIDE] += share * row["torch"]
        return dict(limits)


def _problems(
    op: str, which: str, operation: Operation, kept: tuple[Sequences, ...]
) -> Iterator[tuple[Any, Problem, float]]:
    """Problems that make up a call, each with what tells its counts from others', and the share of
    its time.
    """
    first = operation.arguments[0]
    arguments = operation.arguments[1:] if which == "backward" else operation.arguments
    if op in ROW_OPS:
        # the residual's dtype is that of the output and its gradient
        stream = first if which == "backward" else operation.results[0]
        stream = arguments[0] if op == "norm_linear" else stream
        problem = row_problem(op, arguments[0].shape[0], stream=stream.dtype)
        yield (op, stream.dtype), problem, 1.0
    elif op == "packed_attention":
        visible, numbers = arguments[-2:]
        samples = numbers[0] // 2  # two global views come first
        kinds = tuple(
            Sequences(count // samples, longest, bucket=place)
            for place, (count, longest) in enumerate(zip(numbers[::2], numbers[1::2], strict=True))
        )
        kinds = kinds if visible is None else kept
        yield (op, kinds), attention_problem(kinds, samples), 1.0
    elif op == "tube_masks":
        shape = operation.results[0].shape
        yield (op, *shape[1:]), tube_problem(*shape), 1.0
    elif op == "embed_tokens":  # in proportion to its tokens
        tokens = (first if which == "backward" else operation.results[0]).shape[0]
        yield op, embed_problem(BATCH), tokens / TOKENS
    elif op == "prototype_loss":
        teacher, shared, budget = arguments[2].shape[0], arguments[4] is not None, arguments[11]
        is_stored = stored_bytes(teacher, arguments[1].shape[0], 2) <= budget
        kind = "stored" if is_stored else "streamed"
        yield (op, kind, shared), prototype_problem(teacher, kind, shared=shared), 1.0
    else:
        raise ValueError(f"slim_kernels.cost has no problem for {op}: add one.")

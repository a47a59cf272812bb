"""From operations to times on a device: the slower of products and bytes, launches, the host."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from slim_kernels.cost.builds import Sequences
from slim_kernels.cost.devices import COPY_SHARE, LAUNCH_MICROSECONDS, PRODUCT_SHARE, Device

from benchmarks.predicted.flash import predict_flash
from benchmarks.predicted.kernels import KernelTimes, Limits
from benchmarks.predicted.recording import FLASH, Operation

# From one operation's beginning to the next's on the host: orders of magnitude. PyTorch's go
# through its dispatcher; those of slim_kernels through Python, autograd and Triton's launcher too.
HOST_MICROSECONDS, HOST_OF_OURS = 6.0, 60.0
GAP, MEMORY, PRODUCT = "launch", "DRAM", "tensor"
_TYPES = {torch.bfloat16: "bf16", torch.float16: "f16"}


def predict_plain(operation: Operation, device: Device) -> Limits:
    """One kernel of PyTorch's, microseconds."""
    if operation.name.startswith(FLASH):
        which = "backward" if operation.name.endswith("_backward") else "forward"
        sequences, heads, tokens, width = operation.arguments[which == "backward"].shape
        return predict_flash(which, sequences, heads, tokens, width, device)
    product = 1e6 * operation.flops / _products_a_second(operation.dtype, device)
    moving = 1e6 * operation.bytes / (COPY_SHARE * device.dram * 1e12)
    bound = PRODUCT if product > moving else MEMORY
    return {bound: max(product, moving), GAP: LAUNCH_MICROSECONDS}


def _products_a_second(dtype: torch.dtype | None, device: Device) -> float:
    """FLOP a second that large products of operands of a dtype reach."""
    lanes = 2 * device.fma  # a multiply and an add
    clock = device.tensor[_TYPES[dtype]] if dtype in _TYPES else lanes
    return PRODUCT_SHARE * device.sms * device.ghz * 1e9 * clock


@dataclass
class Total:
    """What a kind of operations takes, in microseconds."""

    calls: int = 0
    host: float = 0.0
    limits: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """The GPU's, by what binds them."""


def is_ours(operation: Operation) -> bool:
    """Whether slim_kernels' launches make it."""
    name = operation.name
    return name.startswith("slim_kernels::") and name != "slim_kernels::prototype_loss_backward"


def kind(operation: Operation) -> str:
    """The row of the table to which an operation belongs."""
    name = operation.name
    if is_ours(operation):
        return name.removeprefix("slim_kernels::").removesuffix("_backward")
    part = operation.part.removesuffix(", gradients")
    if name.startswith(FLASH):
        return f"{part}: attention"
    return f"{part}: products" if operation.flops else f"{part}: other operations"


class Prediction:
    """What recorded operations take; times in microseconds.

    visible: see KernelTimes.predict.
    """

    def __init__(
        self,
        operations: Iterable[Operation],
        times: KernelTimes,
        visible: tuple[Sequences, ...] = (),
    ) -> None:
        self.totals: defaultdict[str, Total] = defaultdict(Total)
        self.gpu = self.host = 0.0
        """The GPU alone, as in a CUDA graph, and the host alone."""
        self.launched = 0.0
        """With a host that launches each operation."""
        known: dict[str, Limits] = {}
        since = [0.0, 0.0]  # on the GPU and on the host, since the host last waited
        for operation in operations:
            ours, key = is_ours(operation), repr(operation)
            if key not in known:
                known[key] = (
                    times.predict(operation, visible)
                    if ours
                    else predict_plain(operation, times.device)
                )
            total = self.totals[kind(operation)]
            host = HOST_OF_OURS if ours else HOST_MICROSECONDS
            total.calls, total.host = total.calls + 1, total.host + host
            for limit, microseconds in known[key].items():
                total.limits[limit] += microseconds
            since = [since[0] + sum(known[key].values()), since[1] + host]
            if operation.reads:
                since = self._wait(*since)
        self._wait(*since)

    def _wait(self, gpu: float, host: float) -> list[float]:
        self.gpu, self.host = self.gpu + gpu, self.host + host
        self.launched += max(gpu, host)
        return [0.0, 0.0]

    def make_beside(self, other: Prediction) -> None:
        """Take in what the host launches on a stream of its own, once it has launched all of this:
        on the GPU its work comes in addition, the time between its launches does not.
        """
        for name, total in other.totals.items():
            total.limits.pop(GAP, None)
            self.totals[name] = total
            self.gpu += sum(total.limits.values())
        self.host += other.host
        self.launched = max(self.gpu, self.host, self.launched)

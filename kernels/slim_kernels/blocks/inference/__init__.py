"""Blocks for inference: weights that will not change are laid out once for the device they lie on.

`prepare_block` is the only entry. A backend lays out a block's weights and returns a function of
packed tokens; another one is another line in BACKENDS.
"""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from slim_kernels.blocks.inference.block import BlockWeights, CpuBlock

__all__ = ["BACKENDS", "BlockWeights", "InferenceBlock", "prepare_block"]


class InferenceBlock(Protocol):
    """A transformer block without gradients, on copies of the weights it was made of."""

    def __call__(
        self,
        x: Tensor,
        cu_seqlens: Tensor,
        time: Tensor,
        visible: Tensor | None = None,
        queries: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Packed tokens (total, D) -> (total, D), or only the `rows`, (R, D).

        Args:
            cu_seqlens, time, visible: see `slim_kernels.packed_attention`.
            queries: see `slim_kernels.norm_attention`; given together with rows.
            rows: int64 (R,), tokens among the queries. Only for blocks made with selects_rows.
        """


BACKENDS: dict[str, Callable[[BlockWeights, bool], InferenceBlock]] = {"cpu": CpuBlock}
"""For each type of device: weights and selects_rows to a block."""


def prepare_block(weights: BlockWeights, selects_rows: bool = False) -> InferenceBlock | None:
    """The fastest form of a block on its weights' device, or None where there is none but the
    operations one after the other.

    selects_rows: whether calls may select rows, as an encoder's last block does when only CLS is
        read.
    """
    backend = BACKENDS.get(weights.qkv[0].device.type)
    return None if backend is None else backend(weights, selects_rows)

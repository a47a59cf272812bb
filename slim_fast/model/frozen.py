"""An encoder for inference only."""

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from slim_kernels.frozen import FrozenBlock
from torch import Tensor, nn
from typing_extensions import Self

from slim_fast.errors import UserError
from slim_fast.model.encoder import NORM_EPS, Block, Encoder
from slim_fast.model.packing import Packing, Reading

AnyEncoder = TypeVar("AnyEncoder", bound=Encoder)


class _Frozen(nn.Module):
    """Stands in for a Block; its weights are no parameters."""

    def __init__(self, block: nn.Module, last: bool) -> None:
        super().__init__()
        assert isinstance(block, Block)
        attn, mlp = block.attn, block.mlp
        norm1, qkv, proj, norm2, w12, w3 = (
            (layer.weight, layer.bias) for layer in (block.norm1, attn.qkv, attn.proj, block.norm2, mlp.w12, mlp.w3)
        )
        self._block = FrozenBlock(norm1, qkv, proj, norm2, w12, w3, block.heads, NORM_EPS, last)
        self._like = norm1[0].new_empty(0)

    def forward(self, x: Tensor, packed: Packing, read: Reading | None = None) -> Tensor:
        asked = () if read is None else (read.queries, read.rows)
        return self._block(x, packed.cu_seqlens, packed.time, packed.visible, *asked)

    def _apply(self, change: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        changed = change(self._like)
        if (changed.dtype, changed.device) != (self._like.dtype, self._like.device):
            raise UserError("A frozen encoder keeps its dtype and device: move the encoder first, then freeze it.")
        return self

    def get_extra_state(self) -> None:
        raise UserError("A frozen encoder can't be saved: save the encoder that it was made of.")

    def __deepcopy__(self, _: object) -> Self:
        raise UserError("A frozen encoder can't be copied: freeze the encoder that it was made of once more.")

    __reduce_ex__ = __deepcopy__  # type: ignore[assignment]


def freeze(encoder: AnyEncoder, dtype: torch.dtype | None = None) -> AnyEncoder:
    """A copy of `encoder` that answers the same without gradients; its blocks' matrix products in `dtype`, if given.

    Embedding, norms and residuals stay as they are: rounding them to bfloat16 would save little time and make the error
    larger. On a CPU the blocks' weights are laid out once for the processor: the copy can't be
    trained, saved, copied or moved, and torch.compile leaves its blocks alone.
    Raises: UserError for a dtype that is not floating-point, and for a frozen encoder.
    """
    if dtype is not None and not dtype.is_floating_point:
        raise UserError(f"freeze: dtype={dtype} holds no floating-point numbers; use torch.float32 or torch.bfloat16.")
    frozen = copy.deepcopy(encoder).eval().requires_grad_(False)
    for block in frozen.blocks:
        assert isinstance(block, Block)
        block.attn.to(dtype=dtype)
        block.mlp.to(dtype=dtype)
    if frozen.pos_embed.device.type == "cpu":
        frozen.blocks = nn.ModuleList(_Frozen(block, block is frozen.blocks[-1]) for block in frozen.blocks)
    return frozen

"""An encoder for inference only: `slim_kernels.blocks.inference` lays out its blocks' weights."""

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from slim_kernels.blocks.inference import BlockWeights, InferenceBlock, prepare_block
from torch import Tensor, nn
from typing_extensions import Self

from slim_fast.errors import UserError
from slim_fast.model.block import Block, TokenLayout, is_plain
from slim_fast.model.encoder import Encoder
from slim_fast.model.packing import Packing, TokenSelection

_NOT_EXPORTABLE = (
    "An optimized encoder can't be traced or exported: its weights are laid out for this "
    "processor. Export the encoder that optimize() was called on."
)
AnyEncoder = TypeVar("AnyEncoder", bound=Encoder)


class FrozenBlock(nn.Module):
    """Stands in for a plain Block during inference; its weights are no parameters."""

    def __init__(self, block: InferenceBlock, like: Tensor) -> None:
        super().__init__()
        self._block = block
        self._like = like.new_empty(0)

    def forward(self, x: Tensor, tokens: TokenLayout, read: TokenSelection | None = None) -> Tensor:
        """See `Block.forward`; tokens must be packed."""
        if not isinstance(tokens, Packing):
            raise UserError(_NOT_EXPORTABLE)
        selection = () if read is None else (read.queries, read.rows)
        return self._block(x, tokens.cu_seqlens, tokens.time, tokens.visible, *selection)

    def _apply(self, change: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        changed = change(self._like)
        if (changed.dtype, changed.device) != (self._like.dtype, self._like.device):
            raise UserError(
                "An optimized encoder keeps its dtype and device: move the encoder first, then "
                "call its optimize()."
            )
        return self

    def get_extra_state(self) -> None:
        raise UserError(
            "An optimized encoder can't be saved: save the one that optimize() was called on."
        )

    def __deepcopy__(self, _: object) -> Self:
        raise UserError(
            "An optimized encoder can't be copied: call optimize() of the original once more."
        )

    __reduce_ex__ = __deepcopy__  # type: ignore[assignment]


def freeze(encoder: AnyEncoder, dtype: torch.dtype | None = None) -> AnyEncoder:
    """A copy of `encoder` for inference; its blocks' matrix products in `dtype`, if given.

    Embedding, norms and residuals stay as they are: rounding them to bfloat16 would save little
    time and make the error larger. On a CPU the blocks' weights are laid out once for the
    processor: the copy can't be trained, saved, copied or moved, and torch.compile leaves its
    blocks alone. A block that was replaced or hooked, or any of whose layers was replaced, hooked
    or reparametrised, stays as it is, in its own dtype.
    Raises: UserError for a dtype that is not floating-point, and for an encoder that is frozen or
    can't be copied.
    """
    if dtype is not None and not dtype.is_floating_point:
        raise UserError(
            f"optimize: dtype={dtype} holds no floating-point numbers; use torch.float32 or "
            "torch.bfloat16."
        )
    frozen = copied(encoder).eval().requires_grad_(False)
    for number, block in enumerate(frozen.blocks):
        if not isinstance(block, Block) or not is_plain(block, everywhere=False):
            continue
        block.attn.to(dtype=dtype)
        block.mlp.to(dtype=dtype)
        is_last = number == len(frozen.blocks) - 1  # the only one of which rows are selected
        if block.norm1.eps == block.norm2.eps:
            prepared = prepare_block(_weights(block), selects_rows=is_last)
            if prepared is not None:
                frozen.blocks[number] = FrozenBlock(prepared, block.norm1.weight)
    return frozen


def _weights(block: Block) -> BlockWeights:
    attn, mlp = block.attn, block.mlp
    norm1, qkv, proj, norm2, w12, w3 = (
        (layer.weight, layer.bias)
        for layer in (block.norm1, attn.qkv, attn.proj, block.norm2, mlp.w12, mlp.w3)
    )
    return BlockWeights(norm1, qkv, proj, norm2, w12, w3, attn.heads, block.norm1.eps)


def copied(encoder: AnyEncoder) -> AnyEncoder:
    """A copy that shares nothing with `encoder`. Raises: UserError if it can't be copied."""
    try:
        return copy.deepcopy(encoder)
    except RuntimeError as error:  # weights that hooks recompute at every call are not parameters
        raise UserError(
            "The encoder can't be copied as it is, because hooks recompute its weights: make "
            "them lasting first, with prune.remove, remove_weight_norm or remove_spectral_norm "
            "of torch.nn.utils."
        ) from error


def expect_unfrozen(encoder: Encoder) -> None:
    """Raises: UserError for a frozen encoder."""
    if any(isinstance(block, FrozenBlock) for block in encoder.blocks):
        raise UserError(_NOT_EXPORTABLE)

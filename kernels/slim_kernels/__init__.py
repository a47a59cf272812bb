"""The operations SLiM's step is made of, on packed sequences. Depends on torch, and on triton where
it is installed; knows nothing of skeletons.

Packed: the tokens of all sequences lie end to end in one (total, ...) tensor; `cu_seqlens`,
int32 (S + 1), holds where each begins.
"""

from slim_kernels.attention import packed_attention
from slim_kernels.blocks.attention import attention_residual, norm_attention
from slim_kernels.embed_tokens import assemble_tokens, embed_tokens
from slim_kernels.feed_forward import norm_swiglu
from slim_kernels.linear import linear_residual, norm_linear
from slim_kernels.prototype_loss import prototype_loss
from slim_kernels.prototype_loss.sinkhorn import sinkhorn_potentials

__all__ = [
    "assemble_tokens",
    "attention_residual",
    "embed_tokens",
    "linear_residual",
    "norm_attention",
    "norm_linear",
    "norm_swiglu",
    "packed_attention",
    "prototype_loss",
    "sinkhorn_potentials",
]

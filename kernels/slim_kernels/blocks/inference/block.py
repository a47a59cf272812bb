"""A block on a CPU whose weights will not change: they are laid out once, and its arguments are not
checked again.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from slim_kernels.attention.rotary import pair_order
from slim_kernels.blocks.inference.attention import (
    InferenceChunk,
    Map,
    attend_chunk,
    inference_chunks,
)
from slim_kernels.feed_forward.cpu import norm_swiglu_without_gradients
from slim_kernels.runtime.matmul import linear, pack_weight


@dataclass(frozen=True)
class BlockWeights:
    """A pre-norm block: x + proj(attention(qkv(norm1 x))), then x + w3(SwiGLU(w12(norm2 x))).

    Tensors are (weight, bias). The maps' dtype, that of the matrix products, may be lower than the
    norms', that of the residual stream.
    """

    norm1: Map
    qkv: Map
    """(3 D, D) and (3 D,)."""
    proj: Map
    norm2: Map
    w12: Map
    """(2 F, D) and (2 F,): gate, then value."""
    w3: Map
    heads: int
    """H, such that D is a multiple of 2 H."""
    eps: float
    """Of both norms."""


class CpuBlock:
    """See `InferenceBlock`."""

    @torch.no_grad()
    def __init__(self, weights: BlockWeights, selects_rows: bool) -> None:
        width = len(weights.norm1[0])
        order = pair_order(width, weights.heads)
        self._heads, self._eps = weights.heads, weights.eps
        self._dtype = weights.qkv[0].dtype
        self._exact = torch.promote_types(self._dtype, torch.float32)
        self._norm1, self._norm2 = (
            (weight.clone(), bias.clone()) for weight, bias in (weights.norm1, weights.norm2)
        )
        weight, bias = weights.qkv[0][order], weights.qkv[1][order]
        self._qkv, self._q_and_kv = (pack_weight(weight), bias), None
        if selects_rows:  # packed weights can't be sliced, so the two parts are packed as well
            (q, kv), (b_q, b_kv) = (x.split([width, 2 * width]) for x in (weight, bias))
            self._q_and_kv = (pack_weight(q), b_q), (pack_weight(kv), b_kv)
        self._proj, self._w3 = (
            (pack_weight(weight), bias.clone()) for weight, bias in (weights.proj, weights.w3)
        )
        # gate and value apart, so that oneDNN applies SiLU while the gate is in registers
        (gate, value), (b_gate, b_value) = (x.chunk(2) for x in weights.w12)
        self._w12 = pack_weight(gate), pack_weight(value)
        self._b12 = b_gate.clone(), b_value.clone()

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # no compiler takes packed weights
    @torch.no_grad()
    def __call__(
        self,
        x: Tensor,
        cu_seqlens: Tensor,
        time: Tensor,
        visible: Tensor | None = None,
        queries: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """See `InferenceBlock`."""
        chunks = inference_chunks(
            cu_seqlens, queries, time, visible, self._heads, x.shape[1] // self._heads, self._exact
        )
        feed_forward = (*self._norm2, self._w12, self._b12, *self._w3, self._eps)
        if rows is None:  # a chunk goes through the whole block while it is in cache
            out = torch.empty_like(x)
            for chunk in chunks:
                h = x[chunk.rows]
                norm_swiglu_without_gradients(
                    h + linear(self._attend(h, chunk), *self._proj),
                    *feed_forward,
                    out=out[chunk.rows],
                )
            return out
        attended = (
            torch.cat([self._attend(x[chunk.rows], chunk) for chunk in chunks]) if chunks else x
        )
        return norm_swiglu_without_gradients(
            x[rows] + linear(attended[rows], *self._proj), *feed_forward
        )

    def _attend(self, x: Tensor, chunk: InferenceChunk) -> Tensor:
        """A chunk's attention (n, D); rows that are no queries are undefined."""
        out = x.new_empty(x.shape, dtype=self._dtype)
        attend_chunk(x, self._norm1, self._eps, self._qkv, self._q_and_kv, chunk, out)
        return out

"""A block whose weights will not change, on a CPU: they are laid out once, and its arguments are not checked again."""

import torch
from torch import Tensor

from slim_kernels.block_inference import Chunk, attend_chunk, chunks_of, feed_forward, pairs
from slim_kernels.products import linear, packed


class FrozenBlock:
    """linear_residual of norm_attention, then norm_swiglu, without gradients: products in the maps' dtype, norms and
    residuals in the norms', which may be wider.

    Args:
        norm1, norm2: weight and bias (D,) of the LayerNorms.
        qkv, proj: weight and bias of (3 D, D) and (D, D).
        w12, w3: weight and bias of (2 F, D) and (D, F).
        heads: H, such that D is a multiple of 2 H.
        reading: whether only some rows may be asked for.
    All are copied; later changes don't show.
    """

    def __init__(
        self,
        norm1: tuple[Tensor, Tensor],
        qkv: tuple[Tensor, Tensor],
        proj: tuple[Tensor, Tensor],
        norm2: tuple[Tensor, Tensor],
        w12: tuple[Tensor, Tensor],
        w3: tuple[Tensor, Tensor],
        heads: int,
        eps: float = 1e-6,
        reading: bool = False,
    ) -> None:
        width = len(norm1[0])
        order = pairs(width, heads)
        self._heads, self._eps = heads, eps
        self._dtype = qkv[0].dtype
        self._exact = torch.promote_types(self._dtype, torch.float32)
        with torch.no_grad():
            self._norm1, self._norm2 = ((weight.clone(), bias.clone()) for weight, bias in (norm1, norm2))
            weight, bias = qkv[0][order], qkv[1][order]
            self._qkv, self._parts = (packed(weight), bias), None
            if reading:
                (q, kv), (b_q, b_kv) = (x.split([width, 2 * width]) for x in (weight, bias))
                self._parts = (packed(q), b_q), (packed(kv), b_kv)
            self._proj, self._w3 = ((packed(weight), bias.clone()) for weight, bias in (proj, w3))
            (w1, w2), (b1, b2) = w12[0].chunk(2), w12[1].chunk(2)
            self._w12, self._b12 = (packed(w1), packed(w2)), (b1.clone(), b2.clone())

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
        """(total, D) packed tokens -> (total, D), or only the `rows` int64 (R,), (R, D), which lie among the queries.

        cu_seqlens, time, visible and queries, which come with rows: see `packed_attention`.
        """
        chunks = chunks_of(cu_seqlens, queries, time, visible, self._heads, x.shape[1] // self._heads, self._exact)
        feed = (*self._norm2, self._w12, self._b12, *self._w3, self._eps)
        if rows is None:  # all of the block a chunk at a time, in cache
            out = torch.empty_like(x)
            for chunk in chunks:
                h = x[chunk.rows]
                feed_forward(h + linear(self._attend(h, chunk), *self._proj), *feed, out=out[chunk.rows])
            return out
        attended = torch.cat([self._attend(x[chunk.rows], chunk) for chunk in chunks]) if chunks else x
        return feed_forward(x[rows] + linear(attended[rows], *self._proj), *feed)

    def _attend(self, x: Tensor, chunk: Chunk) -> Tensor:
        """A chunk's attention (n, D); rows that do not ask hold anything."""
        out = x.new_empty(x.shape, dtype=self._dtype)
        attend_chunk(x, self._norm1, self._eps, self._qkv, self._parts, chunk, out)
        return out

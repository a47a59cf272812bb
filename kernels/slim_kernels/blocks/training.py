"""A block's attention on a CPU for training: LayerNorm to softmax attention, a cache's worth of
sequences at a time and head by head, on strided views instead of copies.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from slim_kernels.attention.rotary import complex_rotations, pair_order
from slim_kernels.blocks.chunks import Chunk, count_times, split_into_chunks
from slim_kernels.runtime.matmul import add_matmul, linear

# Numbers of one head's scores (s, N, N), and of the keys and values (s N, 2 D), in a chunk of s
# sequences of length N: 1 MB each in float32, about a core's L2 cache. Larger chunks fetch scores
# again between the softmax's passes, smaller ones leave the matrix products few rows.
_CHUNK_NUMBERS = 1 << 18


@dataclass(frozen=True)
class AttentionChunk(Chunk):
    """A chunk with its rotations, and what attention does with it."""

    rotation: Tensor
    """Complex (1 or sequences, N, H, d / 2): rotates queries and keys."""

    def projections(self, width: int) -> list[tuple[slice, slice]]:
        """(packed tokens, columns of (queries, keys, values)) of the matrix products: one where all
        tokens are queries, else one for the queries and one for keys and values.
        """
        if self.step == 1:
            return [(self.rows, slice(3 * width))]
        return [(self.query_rows, slice(width)), (self.rows, slice(width, 3 * width))]

    def rotate(self, x: Tensor, inverse: bool = False) -> None:
        """Rotate queries or keys x (sequences · n or N, D) in place; features i and i + d / 2 are
        neighbours.
        """
        pairs = torch.view_as_complex(x.unflatten(1, (*self.rotation.shape[2:], 2))).unflatten(
            0, (self.sequences, -1)
        )
        rotation = self.rotation[:, : pairs.shape[1]]
        pairs.mul_(rotation.conj() if inverse else rotation)

    def probabilities(self, q: Tensor, k: Tensor) -> Tensor:
        """The softmax of q kᵀ / √d over the visible keys: (sequences, n, N)."""
        scores = _scaled_scores(q, k)
        return torch.softmax(
            scores if self.hidden is None else scores.masked_fill_(self.hidden, -torch.inf), -1
        )

    def heads(self, *packed: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Head by head, views (sequences, n, d) of each of the packed (sequences · n, D).

        One head at a time: its scores are used up before the next head's take their cache.
        """
        parts = (
            x.unflatten(0, (self.sequences, -1)).chunk(self.rotation.shape[2], -1) for x in packed
        )
        return zip(*parts, strict=True)


def _attention_chunks(
    cu_seqlens: Tensor,
    queries: Tensor | None,
    time: Tensor,
    visible: Tensor | None,
    heads: int,
    d: int,
    dtype: torch.dtype,
) -> Iterator[AttentionChunk]:
    table = complex_rotations(count_times(time), d, dtype)
    times, rotation = table, table
    for chunk in split_into_chunks(
        cu_seqlens,
        queries,
        time,
        visible,
        lambda length: max(1, _CHUNK_NUMBERS // max(length**2, 2 * length * heads * d)),
    ):
        if chunk.times is not times:  # sequences of one length share them, mostly
            times = chunk.times
            rotation = table[times][:, :, None].expand(-1, -1, heads, -1).contiguous()
        yield AttentionChunk(**vars(chunk), rotation=rotation)


def _scaled_scores(a: Tensor, b: Tensor) -> Tensor:
    """a bᵀ / √d: (s, n, d), (s, N, d) -> (s, n, N)."""
    return torch.baddbmm(
        a.new_empty(1, 1, 1), a, b.transpose(1, 2), beta=0, alpha=a.shape[-1] ** -0.5
    )


def _split(qkv: list[Tensor], width: int) -> list[Tensor]:
    """Queries, keys and values, each (tokens, D), of the results of `projections`."""
    return [part for columns in qkv for part in columns.split(width, 1)]


class NormAttention(torch.autograd.Function):
    """norm_attention with its gradients. Products with weights are in `dtype`; rotation, scores and
    softmax in float32 at least. Probabilities are not saved but computed again: they are N / d
    times as large as the queries or keys they come from.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gamma: Tensor,
        beta: Tensor,
        weight: Tensor,
        bias: Tensor,
        cu_seqlens: Tensor,
        queries: Tensor | None,
        time: Tensor,
        visible: Tensor | None,
        heads: int,
        eps: float,
        dtype: torch.dtype,
    ) -> Tensor:
        width = x.shape[1]
        exact = torch.promote_types(dtype, torch.float32)
        w, b = (v.index_select(0, pair_order(width, heads)).to(dtype) for v in (weight, bias))
        normed, mean, rstd = torch.native_layer_norm(x, (width,), gamma, beta, eps)
        normed = normed.to(dtype)
        chunks = list(
            _attention_chunks(cu_seqlens, queries, time, visible, heads, width // heads, exact)
        )
        out = x.new_zeros(x.shape, dtype=dtype)
        saved = []
        for chunk in chunks:
            qkv = [
                linear(normed[rows], w[c], b[c]).to(exact) for rows, c in chunk.projections(width)
            ]
            q, k, v = _split(qkv, width)
            chunk.rotate(q)
            chunk.rotate(k)
            for q_h, k_h, v_h, out_h in chunk.heads(q, k, v, out[chunk.query_rows]):
                out_h.copy_(torch.bmm(chunk.probabilities(q_h, k_h), v_h))
            if any(ctx.needs_input_grad):
                saved += qkv
        ctx.save_for_backward(x, gamma, beta, w, normed, mean, rstd, *saved)
        ctx.chunks, ctx.heads = chunks, heads
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # dtypes are the forward's, also where backward() is called under autocast
        with torch.autocast("cpu", enabled=False):
            return _attention_gradients(ctx, grads[0])


def _attention_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, gamma, beta, w, normed, mean, rstd, *saved = ctx.saved_tensors
    width = x.shape[1]
    grad_w, grad_b, grad_normed = x.new_zeros(w.shape), x.new_zeros(len(w)), torch.zeros_like(x)
    for chunk in ctx.chunks:
        projections = chunk.projections(width)
        qkv = [saved.pop(0) for _ in projections]
        grad_qkv = [torch.empty_like(x) for x in qkv]
        q, k, v = _split(qkv, width)
        grad_q, grad_k, grad_v = _split(grad_qkv, width)
        upstream = grad[chunk.query_rows].to(q.dtype)
        for q_h, k_h, v_h, up_h, grad_q_h, grad_k_h, grad_v_h in chunk.heads(
            q, k, v, upstream, grad_q, grad_k, grad_v
        ):
            probabilities = chunk.probabilities(q_h, k_h)
            grad_v_h.copy_(torch.bmm(probabilities.transpose(1, 2), up_h))
            grad_scores = torch._softmax_backward_data(
                _scaled_scores(up_h, v_h), probabilities, -1, probabilities.dtype
            )
            grad_q_h.copy_(torch.bmm(grad_scores, k_h))
            grad_k_h.copy_(torch.bmm(grad_scores.transpose(1, 2), q_h))
        chunk.rotate(grad_q, inverse=True)
        chunk.rotate(grad_k, inverse=True)
        for (rows, columns), grad_part in zip(projections, grad_qkv, strict=True):
            grad_b[columns] += grad_part.sum(0)
            low = grad_part.to(w.dtype)
            add_matmul(grad_w[columns], low.t(), normed[rows])
            add_matmul(grad_normed[rows], low, w[columns])
    grad_x, grad_gamma, grad_beta = torch.ops.aten.native_layer_norm_backward(
        grad_normed, x, (width,), mean, rstd, gamma, beta, [True, True, True]
    )
    back = pair_order(width, ctx.heads).argsort()
    grad_w, grad_b = grad_w.index_select(0, back), grad_b.index_select(0, back)
    return grad_x, grad_gamma, grad_beta, grad_w, grad_b, *[None] * 7

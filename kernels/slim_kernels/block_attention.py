"""A block's attention from its tokens on: LayerNorm, queries, keys and values, rotary embedding, softmax attention.

On a CPU it goes through the sequences a cache's worth at a time and head by head, on strided views instead of copies.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from slim_kernels.attention import equal_length_runs, packed_attention
from slim_kernels.block import norm_linear
from slim_kernels.block_inference import attend, no_gradient, pairs
from slim_kernels.checks import check_sequences, expect_floating, expect_shapes
from slim_kernels.dispatch import product_dtype, triton_wanted, without_autocast
from slim_kernels.products import add_product, linear
from slim_kernels.rotary import turns

# Numbers of one head's scores (s, N, N), and of the keys and values (s N, 2 D), in a chunk of s sequences of length N.
_CHUNK_NUMBERS = 1 << 18


@dataclass(frozen=True)
class _Chunk:
    """Some neighbouring sequences of one length N; only their first `queries` tokens ask (1 or N)."""

    first: int
    sequences: int
    length: int
    queries: int
    turn: Tensor
    """Complex (1 or sequences, N, H, d / 2): rotates queries and keys."""
    hidden: Tensor | None
    """(sequences, 1, N) bool: keys that nobody may ask, or None."""

    @property
    def asking(self) -> slice:
        """The queries among the packed tokens."""
        stop = self.first + self.sequences * self.length
        return slice(self.first, stop, self.length // self.queries)

    def products(self, width: int) -> list[tuple[slice, slice]]:
        """(packed tokens, columns of (queries, keys, values)) of the matrix products: one where all tokens ask."""
        rows = slice(self.first, self.asking.stop)
        if self.queries == self.length:
            return [(rows, slice(3 * width))]
        return [(self.asking, slice(width)), (rows, slice(width, 3 * width))]

    def rotate(self, x: Tensor, inverse: bool = False) -> None:
        """Rotate queries or keys x (sequences · queries or N, D) in place; features i and i + d / 2 are neighbours."""
        pairs = torch.view_as_complex(x.unflatten(1, (*self.turn.shape[2:], 2))).unflatten(0, (self.sequences, -1))
        turn = self.turn[:, : pairs.shape[1]]
        pairs.mul_(turn.conj() if inverse else turn)

    def shares(self, q: Tensor, k: Tensor) -> Tensor:
        """The softmax of q kᵀ / √d over the keys that may be asked: (sequences, n, N)."""
        scores = _scaled_product(q, k)
        return torch.softmax(scores if self.hidden is None else scores.masked_fill_(self.hidden, -torch.inf), -1)

    def heads(self, *packed: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Head by head, views (sequences, n, d) of each of the packed (sequences · n, D)."""
        parts = (x.unflatten(0, (self.sequences, -1)).chunk(self.turn.shape[2], -1) for x in packed)
        return zip(*parts, strict=True)


def _chunks(
    cu_seqlens: Tensor,
    queries: Tensor | None,
    time: Tensor,
    visible: Tensor | None,
    heads: int,
    d: int,
    dtype: torch.dtype,
) -> list[_Chunk]:
    chunks = []
    time = time.long().clamp_min(0)
    table = turns(int(time.max()) + 1 if len(time) else 0, d, dtype)
    for first, sequences, length, asking in equal_length_runs(cu_seqlens, queries):
        if asking not in (1, length):
            raise ValueError(f"queries must be 1 or a sequence's length; got {asking} of {length}")
        times = time[first : first + sequences * length].view(sequences, length)
        shared = bool((times == times[0]).all())
        size = max(1, _CHUNK_NUMBERS // max(length**2, 2 * length * heads * d))
        for begin in range(0, sequences, size):
            count = min(size, sequences - begin)
            if begin == 0 or not shared:
                turn = table[times[:1] if shared else times[begin : begin + count]]
                turn = turn[:, :, None].expand(-1, -1, heads, -1).contiguous()
            start = first + begin * length
            hidden = None
            if visible is not None:
                hidden = ~visible[start : start + count * length].view(count, 1, length)
                hidden = hidden if bool(hidden.any()) else None
            chunks.append(_Chunk(start, count, length, asking, turn, hidden))
    return chunks


def _split(qkv: list[Tensor], width: int) -> list[Tensor]:
    """Queries, keys and values, each (tokens, D), of the results of `products`."""
    return [part for columns in qkv for part in columns.split(width, 1)]


def _scaled_product(a: Tensor, b: Tensor) -> Tensor:
    """a bᵀ / √d: (s, n, d), (s, N, d) -> (s, n, N)."""
    return torch.baddbmm(a.new_empty(1, 1, 1), a, b.transpose(1, 2), beta=0, alpha=a.shape[-1] ** -0.5)


class _NormAttention(torch.autograd.Function):
    """Matrix products of weights are in `dtype`; rotation, scores and their softmax in float32 at least."""

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
        w, b = (v.index_select(0, pairs(width, heads)).to(dtype) for v in (weight, bias))
        normed, mean, rstd = torch.native_layer_norm(x, (width,), gamma, beta, eps)
        normed = normed.to(dtype)
        chunks = _chunks(cu_seqlens, queries, time, visible, heads, width // heads, exact)
        out = x.new_zeros(x.shape, dtype=dtype)
        kept = []
        for chunk in chunks:
            qkv = [linear(normed[rows], w[c], b[c]).to(exact) for rows, c in chunk.products(width)]
            q, k, v = _split(qkv, width)
            chunk.rotate(q)
            chunk.rotate(k)
            for q_h, k_h, v_h, out_h in chunk.heads(q, k, v, out[chunk.asking]):
                out_h.copy_(torch.bmm(chunk.shares(q_h, k_h), v_h))
            if any(ctx.needs_input_grad):
                kept += qkv
        ctx.save_for_backward(x, gamma, beta, w, normed, mean, rstd, *kept)
        ctx.chunks, ctx.heads = chunks, heads
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast("cpu", enabled=False):  # as in the forward, also when called under autocast
            return _attention_gradients(ctx, grads[0])


def _attention_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, gamma, beta, w, normed, mean, rstd, *kept = ctx.saved_tensors
    width = x.shape[1]
    grad_w, grad_b, grad_normed = x.new_zeros(w.shape), x.new_zeros(len(w)), torch.zeros_like(x)
    for chunk in ctx.chunks:
        products = chunk.products(width)
        qkv = [kept.pop(0) for _ in products]
        grad_qkv = [torch.empty_like(x) for x in qkv]
        q, k, v = _split(qkv, width)
        grad_q, grad_k, grad_v = _split(grad_qkv, width)
        upstream = grad[chunk.asking].to(q.dtype)
        for q_h, k_h, v_h, up_h, grad_q_h, grad_k_h, grad_v_h in chunk.heads(q, k, v, upstream, grad_q, grad_k, grad_v):
            shares = chunk.shares(q_h, k_h)
            grad_v_h.copy_(torch.bmm(shares.transpose(1, 2), up_h))
            slope = torch._softmax_backward_data(_scaled_product(up_h, v_h), shares, -1, shares.dtype)
            grad_q_h.copy_(torch.bmm(slope, k_h))
            grad_k_h.copy_(torch.bmm(slope.transpose(1, 2), q_h))
        chunk.rotate(grad_q, inverse=True)
        chunk.rotate(grad_k, inverse=True)
        for (rows, columns), grad_part in zip(products, grad_qkv, strict=True):
            grad_b[columns] += grad_part.sum(0)
            low = grad_part.to(w.dtype)
            add_product(grad_w[columns], low.t(), normed[rows])
            add_product(grad_normed[rows], low, w[columns])
    grad_x, grad_gamma, grad_beta = torch.ops.aten.native_layer_norm_backward(
        grad_normed, x, (width,), mean, rstd, gamma, beta, [True, True, True]
    )
    back = pairs(width, ctx.heads).argsort()
    grad_w, grad_b = grad_w.index_select(0, back), grad_b.index_select(0, back)
    return grad_x, grad_gamma, grad_beta, grad_w, grad_b, *[None] * 7


def norm_attention(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight: Tensor,
    bias: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    *,
    time: Tensor,
    heads: int,
    queries: Tensor | None = None,
    visible: Tensor | None = None,
    buckets: Sequence[int] | None = None,
    eps: float = 1e-6,
) -> Tensor:
    """packed_attention of norm_linear: the first half of a block up to its output projection (paper section 3.1).

    Args:
        x: (total, D) packed tokens.
        norm_weight, norm_bias: (D,) of the LayerNorm.
        weight, bias: (3 D, D) and (3 D,), queries first, then keys and values, each head by head.
        cu_seqlens, max_seqlen, time, visible, buckets: see `packed_attention`.
        heads: H, a divisor of D.
        queries: (S,) int64, how many of each sequence's tokens need an answer: 1 (its first) or all; None: all.

    Returns: (total, D) in x's dtype, under autocast in autocast's. Tokens beyond `queries` are not to be read: on a CPU
    they hold zeros without a gradient, elsewhere their answers.
    Raises: ValueError naming the argument that does not fit.
    """
    width = x.shape[-1]
    if heads < 1 or width % (2 * heads):
        raise ValueError(
            f"norm_attention: heads must be such that {width} features are a multiple of 2 heads; got {heads}"
        )
    if (
        x.device.type != "cpu"
        or torch.compiler.is_compiling()
        or triton_wanted("packed_attention", x, product_dtype(weight))
    ):
        qkv = norm_linear(x, norm_weight, norm_bias, weight, bias, eps).view(x.shape[0], 3, heads, width // heads)
        return packed_attention(
            qkv, cu_seqlens, max_seqlen, time=time, visible=visible, buckets=buckets
        ).flatten(1)  # fmt: skip
    expect_floating("norm_attention", x=x, norm_weight=norm_weight, norm_bias=norm_bias, weight=weight, bias=bias)
    expect_shapes(
        "norm_attention",
        x=(x, (x.shape[0], width)),
        norm_weight=(norm_weight, (width,)),
        norm_bias=(norm_bias, (width,)),
        weight=(weight, (3 * width, width)),
        bias=(bias, (3 * width,)),
        time=(time, (x.shape[0],)),
        visible=(visible, (x.shape[0],)),
    )
    check_sequences("norm_attention", cu_seqlens, x.shape[0], max_seqlen, time, visible)
    dtype = product_dtype(x)
    with without_autocast(x):
        if no_gradient(x, norm_weight, norm_bias, weight, bias):
            return attend(
                x, norm_weight, norm_bias, weight, bias, cu_seqlens, queries, time, visible, heads, eps, dtype
            )
        out: Tensor = _NormAttention.apply(
            x, norm_weight, norm_bias, weight, bias, cu_seqlens, queries, time, visible, heads, eps, dtype
        )
    return out

"""A block on a CPU where nobody wants gradients: nothing is kept, and attention runs on copies laid out head by head in
the products' dtype.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from slim_kernels.attention import equal_length_runs
from slim_kernels.kept import kept
from slim_kernels.products import linear
from slim_kernels.rotary import turns

# Tokens of the sequences that are attended to together, and numbers of the scores in memory at a time: both stay in
# cache.
_CHUNK_TOKENS = 1 << 10
_CHUNK_SCORES = 1 << 21
# Rows of the feed-forward at a time.
_CHUNK_ROWS = 1 << 10
# Sums of exponentials between this and its inverse are far from the ends of float32's range.
_LEAST_SUM = 1e-30


def no_gradient(*tensors: Tensor) -> bool:
    return not (torch.is_grad_enabled() and any(x.requires_grad for x in tensors))


def attend(
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
    """norm_attention of x (total, D) without gradients, products in `dtype`."""
    width = x.shape[1]
    exact = torch.promote_types(dtype, torch.float32)
    pairs = _pairs(width, heads)
    weight, bias = (v.index_select(0, pairs).to(dtype) for v in (weight, bias))
    normed = torch.native_layer_norm(x, (width,), gamma, beta, eps)[0].to(dtype)
    out = x.new_zeros(x.shape, dtype=dtype)
    for chunk in _chunks(cu_seqlens, queries, time, visible, heads, width // heads, exact):
        q, k, v = _queries_keys_values(normed[chunk.rows], weight, bias, chunk)
        answers = out[chunk.rows][:: chunk.step].view(chunk.sequences, -1, heads, width // heads)
        _softmax_average(q, k, v, chunk.hidden, answers.transpose(1, 2))
    return out


@dataclass(frozen=True)
class _Chunk:
    """Some neighbouring sequences of one length N, of which every step-th token asks: n in each."""

    rows: slice
    sequences: int
    step: int
    turns: tuple[Tensor, Tensor]
    """Complex (1 or s, n or N, H, d / 2): rotate queries, and divide them by √d; rotate keys."""
    hidden: Tensor | None
    """(s, 1, N) bool: keys that nobody may ask, or None."""


@kept(8)
def _chunks(
    cu_seqlens: Tensor,
    queries: Tensor | None,
    time: Tensor,
    visible: Tensor | None,
    heads: int,
    d: int,
    dtype: torch.dtype,
) -> list[_Chunk]:
    time = time.long().clamp_min(0)
    table = turns(int(time.max()) + 1 if len(time) else 0, d, dtype)
    chunks = []
    for first, sequences, length, asking in equal_length_runs(cu_seqlens, queries):
        if asking not in (1, length):
            raise ValueError(f"queries must be 1 or a sequence's length; got {asking} of {length}")
        end, step = first + sequences * length, length // asking
        size = length * max(1, _CHUNK_TOKENS // length)
        shared = bool((time[first:end].view(sequences, length) == time[first : first + length]).all())
        turn = table[time[first : first + length]][None, :, None].expand(-1, -1, heads, -1).contiguous()
        for rows in (slice(begin, min(begin + size, end)) for begin in range(first, end, size)):
            count = (rows.stop - rows.start) // length
            if not shared:
                turn = table[time[rows].view(count, length)][:, :, None].expand(-1, -1, heads, -1).contiguous()
            hidden = None if visible is None else ~visible[rows].view(count, 1, length)
            if hidden is not None and not hidden.any():
                hidden = None
            chunks.append(_Chunk(rows, count, step, (turn[:, ::step] * d**-0.5, turn), hidden))
    return chunks


@kept(8)
def _pairs(width: int, heads: int) -> Tensor:
    """The order of (queries, keys, values)' 3 D features that puts each query's and key's i beside its i + d / 2."""
    queries_keys, values = torch.arange(3 * width).split([2 * width, width])
    return torch.cat([queries_keys.view(2 * heads, 2, -1).transpose(1, 2).flatten(), values])


def _queries_keys_values(normed: Tensor, weight: Tensor, bias: Tensor, chunk: _Chunk) -> tuple[Tensor, Tensor, Tensor]:
    """Each (s, H, n or N, d), contiguous; queries and keys rotated."""
    width = normed.shape[1]
    if chunk.step == 1:
        parts = linear(normed, weight, bias).split(width, 1)
    else:
        asked = linear(normed, weight[width:], bias[width:]).split(width, 1)
        parts = (linear(normed[:: chunk.step], weight[:width], bias[:width]), *asked)
    laid = []
    heads = chunk.turns[1].shape[2]
    for part, turn in zip(parts, (*chunk.turns, None), strict=True):
        part = part.view(chunk.sequences, -1, heads, width // heads)
        if turn is not None:
            part = part.to(turn.dtype.to_real())
            torch.view_as_complex(part.view(*part.shape[:3], -1, 2)).mul_(turn)
        part = part.transpose(1, 2)
        laid.append(torch.empty(part.shape, dtype=normed.dtype).copy_(part))
    q, k, v = laid
    return q, k, v


def _softmax_average(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None, out: Tensor) -> None:
    """out = softmax(q kᵀ) v, all (s, H, n or N, d); hidden (s, 1, N): keys that nobody may ask."""
    if hidden is not None:
        hidden = hidden[:, None].expand(-1, q.shape[1], -1, -1).flatten(0, 1)
    q, k, v = (x.flatten(0, 1) for x in (q, k, v))
    answers, sums = torch.empty_like(q), q.new_ones(*q.shape[:2], 1)
    size = max(1, _CHUNK_SCORES // (q.shape[1] * k.shape[1]))
    for part in (slice(begin, begin + size) for begin in range(0, len(q), size)):
        shares = _shares(q[part], k[part], None if hidden is None else hidden[part], sums[part])
        torch.bmm(shares, v[part], out=answers[part])
    torch.div(*(x.view(*out.shape[:3], -1) for x in (answers, sums)), out=out)


def _shares(q: Tensor, k: Tensor, hidden: Tensor | None, sums: Tensor) -> Tensor:
    """The softmax of q kᵀ (g, n, N) times `sums` (g, n, 1), which is filled."""
    if q.dtype == torch.bfloat16:  # without the maximum's two passes, which cost more than the products
        shares = _scores(q, k, hidden).exp_()
        torch.sum(shares, -1, keepdim=True, out=sums)
        low, high = sums.aminmax()
        if low.item() > _LEAST_SUM and high.item() < 1 / _LEAST_SUM:
            return shares
        sums.fill_(1)
    scores = _scores(q, k, hidden)
    return torch._softmax(scores, -1, False, out=scores)


def _scores(q: Tensor, k: Tensor, hidden: Tensor | None) -> Tensor:
    scores = torch.bmm(q, k.transpose(1, 2))
    return scores if hidden is None else scores.masked_fill_(hidden, -torch.inf)


def feed_forward(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    w12: Tensor,
    b12: Tensor,
    w3: Tensor,
    b3: Tensor,
    eps: float,
    dtype: torch.dtype,
) -> Tensor:
    """norm_swiglu of x (total, D) without gradients, products in `dtype`."""
    w12, b12, w3, b3 = (p.to(dtype) for p in (w12, b12, w3, b3))
    (w1, w2), (b1, b2) = w12.chunk(2), b12.chunk(2)
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    for begin in range(0, len(x), _CHUNK_ROWS):
        rows = slice(begin, begin + _CHUNK_ROWS)
        normed = torch.native_layer_norm(x[rows], x.shape[-1:], gamma, beta, eps)[0].to(dtype)
        hidden = linear(normed, w1, b1, silu=True).mul_(linear(normed, w2, b2))
        torch.add(x[rows], linear(hidden, w3, b3), out=out[rows])
    return out

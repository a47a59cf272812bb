"""A block on a CPU where nobody wants gradients: nothing is kept, and attention runs on copies laid out head by head in
the products' dtype.
"""

import threading
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
_SCRATCH = threading.local()
Map = tuple[Tensor, Tensor]
"""Weight (E, D), which may be packed, and bias (E,)."""


def no_gradient(*tensors: Tensor) -> bool:
    forward_mode = torch.autograd.forward_ad._current_level >= 0
    return not (forward_mode or (torch.is_grad_enabled() and any(x.requires_grad for x in tensors)))


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
    width, exact = x.shape[1], torch.promote_types(dtype, torch.float32)
    weight, bias = (v.index_select(0, pairs(width, heads)).to(dtype) for v in (weight, bias))
    parts = (weight[:width], bias[:width]), (weight[width:], bias[width:])
    out = x.new_zeros(x.shape, dtype=dtype)
    for chunk in chunks_of(cu_seqlens, queries, time, visible, heads, width // heads, exact):
        attend_chunk(x[chunk.rows], (gamma, beta), eps, (weight, bias), parts, chunk, out[chunk.rows])
    return out


def attend_chunk(
    x: Tensor, norm: Map, eps: float, whole: Map, parts: tuple[Map, Map] | None, chunk: "Chunk", out: Tensor
) -> None:
    """The attention of a chunk's tokens x (n, D) into `out` (n, D), in the maps' dtype; only the rows that ask.

    whole: to queries, keys and values, (3 D, D) and (3 D,) in the order of `pairs`; parts: to queries, and to keys and
    values, which are needed where not all tokens ask.
    """
    normed = torch.native_layer_norm(x, x.shape[1:], *norm, eps)[0].to(whole[1].dtype)
    q, k, v = _queries_keys_values(normed, whole, parts, chunk)
    answers = out[:: chunk.step].view(chunk.sequences, -1, chunk.heads, v.shape[2])
    _softmax_average(q, k, v, chunk.hidden, answers.transpose(1, 2))


@dataclass(frozen=True)
class Chunk:
    """Some neighbouring sequences of one length N, of which every step-th token asks: n in each."""

    rows: slice
    sequences: int
    step: int
    heads: int
    times: Tensor
    """int64 (1 or s, N)."""
    table: Tensor
    """Complex (times, 2 H, d / 2): rotates queries, dividing them by √d, and keys."""
    hidden: Tensor | None
    """(s · H, 1, N) bool: keys that nobody may ask, or None."""

    @property
    def turns(self) -> Tensor:
        """Complex (1 or s, N, 2 H, d / 2)."""
        return self.table[self.times]


@kept(8)
def chunks_of(
    cu_seqlens: Tensor,
    queries: Tensor | None,
    time: Tensor,
    visible: Tensor | None,
    heads: int,
    d: int,
    dtype: torch.dtype,
) -> list[Chunk]:
    time = time.long().clamp_min(0)
    table = turns(int(time.max()) + 1 if len(time) else 0, d, dtype)
    scale = torch.tensor([d**-0.5, 1.0], dtype=dtype, device="cpu").repeat_interleave(heads)[:, None]
    table = table[:, None] * scale
    chunks = []
    for first, sequences, length, asking in equal_length_runs(cu_seqlens, queries):
        if asking not in (1, length):
            raise ValueError(f"queries must be 1 or a sequence's length; got {asking} of {length}")
        end, step = first + sequences * length, length // asking
        size = length * max(1, _CHUNK_TOKENS // length)
        shared = bool((time[first:end].view(sequences, length) == time[first : first + length]).all())
        for rows in (slice(begin, min(begin + size, end)) for begin in range(first, end, size)):
            count = (rows.stop - rows.start) // length
            times = time[None, first : first + length] if shared else time[rows].view(count, length)
            hidden = None if visible is None else ~visible[rows].view(count, 1, length)
            if hidden is not None and not hidden.any():
                hidden = None
            hidden = None if hidden is None else hidden.repeat_interleave(heads, 0)
            chunks.append(Chunk(rows, count, step, heads, times, table, hidden))
    return chunks


@kept(8)
def pairs(width: int, heads: int) -> Tensor:
    """The order of (queries, keys, values)' 3 D features that puts each query's and key's i beside its i + d / 2."""
    queries_keys, values = torch.arange(3 * width, device="cpu").split([2 * width, width])
    return torch.cat([queries_keys.view(2 * heads, 2, -1).transpose(1, 2).flatten(), values])


def _queries_keys_values(
    normed: Tensor, whole: Map, parts: tuple[Map, Map] | None, chunk: Chunk
) -> tuple[Tensor, Tensor, Tensor]:
    """Each contiguous (s · H, n or N, d); queries and keys rotated."""
    width, heads, rotation = normed.shape[1], chunk.heads, chunk.turns
    dtype = torch.float32 if normed.dtype == torch.float16 else normed.dtype  # whose range scores may leave
    if chunk.step == 1:
        qk, v = linear(normed, *whole).split([2 * width, width], 1)
        q, k = _head_by_head(_rotated(qk, rotation, chunk.sequences), 2, dtype)
    else:
        assert parts is not None
        q = linear(normed[:: chunk.step], *parts[0])
        k, v = linear(normed, *parts[1]).split(width, 1)
        turn_q, turn_k = rotation[:, :: chunk.step, :heads], rotation[:, :, heads:]
        (q,) = _head_by_head(_rotated(q, turn_q, chunk.sequences), 1, dtype)
        (k,) = _head_by_head(_rotated(k, turn_k, chunk.sequences), 1, dtype)
    (v,) = _head_by_head(v.view(chunk.sequences, -1, heads, width // heads), 1, dtype)
    return q, k, v


def _rotated(x: Tensor, turn: Tensor, sequences: int) -> Tensor:
    """x (s · n, G · d) -> (s, n, G, d), turned by complex (1 or s, n, G, d / 2); in place where it is exact enough."""
    x = x.to(turn.dtype.to_real()).view(sequences, -1, *turn.shape[2:], 2)
    torch.view_as_complex(x).mul_(turn)
    return x.flatten(3)


def _head_by_head(x: Tensor, kinds: int, dtype: torch.dtype) -> Tensor:
    """(s, n, kinds · H, d) -> contiguous (kinds, s · H, n, d)."""
    s, n, heads, d = x.shape
    laid = x.new_empty(kinds, s, heads // kinds, n, d, dtype=dtype)
    laid.copy_(x.view(s, n, kinds, -1, d).permute(2, 0, 3, 1, 4))
    return laid.view(kinds, -1, n, d)


def _softmax_average(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None, out: Tensor) -> None:
    """out (s, H, n, d) = softmax(q kᵀ) v, each (s · H, n or N, d); hidden (s · H, 1, N): keys that nobody may ask."""
    answers, sums = torch.empty_like(q), q.new_empty(*q.shape[:2], 1)
    size = max(1, _CHUNK_SCORES // (q.shape[1] * k.shape[1]))
    if size < len(q):
        for part in (slice(begin, begin + size) for begin in range(0, len(q), size)):
            some = None if hidden is None else hidden[part]
            torch.bmm(_shares(q[part], k[part], some, sums[part]), v[part], out=answers[part])
    else:
        torch.bmm(_shares(q, k, hidden, sums), v, out=answers)
    torch.div(answers.view(out.shape), sums.view(*out.shape[:3], 1), out=out)


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
    """In memory that the next scores will use again: to map and zero it anew costs more than the product."""
    size = q.shape[0] * q.shape[1] * k.shape[1]
    memory = getattr(_SCRATCH, str(q.dtype), None)
    if memory is None or len(memory) < size:
        with torch.inference_mode(False):
            memory = torch.empty(size, dtype=q.dtype, device=q.device)
        setattr(_SCRATCH, str(q.dtype), memory)
    scores = memory[:size].view(*q.shape[:2], k.shape[1])
    torch.bmm(q, k.transpose(1, 2), out=scores)
    return scores if hidden is None else scores.masked_fill_(hidden, -torch.inf)


def feed_forward(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    w12: tuple[Tensor, Tensor],
    b12: tuple[Tensor, Tensor],
    w3: Tensor,
    b3: Tensor,
    eps: float,
    out: Tensor | None = None,
) -> Tensor:
    """norm_swiglu of x (total, D) without gradients, products in the weights' dtype; w12 and b12 in their halves.

    out: (total, D) to be filled.
    """
    out = torch.empty_like(x, memory_format=torch.contiguous_format) if out is None else out
    for begin in range(0, len(x), _CHUNK_ROWS):
        rows = slice(begin, begin + _CHUNK_ROWS)
        normed = torch.native_layer_norm(x[rows], x.shape[-1:], gamma, beta, eps)[0].to(b3.dtype)
        hidden = linear(normed, w12[0], b12[0], silu=True).mul_(linear(normed, w12[1], b12[1]))
        torch.add(x[rows], linear(hidden, w3, b3), out=out[rows])
    return out

"""A block's attention on a CPU without gradients: nothing is saved for a backward, and queries,
keys and values are copied head by head in the dtype of the matrix products.
"""

import threading
from dataclasses import dataclass

import torch
from torch import Tensor

from slim_kernels.attention.rotary import complex_rotations, pair_order
from slim_kernels.blocks.chunks import Chunk, count_times, split_into_chunks
from slim_kernels.runtime.matmul import linear
from slim_kernels.runtime.tensor_cache import cached_tensors

# Tokens of the sequences that go through a block together: 1 MB of float32 rows of width 256, about
# a core's L2 cache, and enough rows for matrix products at full speed.
_CHUNK_TOKENS = 1 << 10
# Scores in memory at a time, of all heads: 4 MB in bfloat16, which stay in cache.
_CHUNK_SCORES = 1 << 21
# Sums of exponentials between this and its inverse are far from the ends of float32's range.
_LEAST_SUM = 1e-30
_SCRATCH = threading.local()
Map = tuple[Tensor, Tensor]
"""Weight (E, D), which may be packed, and bias (E,)."""


@dataclass(frozen=True)
class InferenceChunk(Chunk):
    """A chunk whose `hidden` is (sequences · H, 1, N), one for each head."""

    heads: int
    table: Tensor
    """Complex (times, 2 H, d / 2): rotates queries, dividing them by √d, and keys."""

    @property
    def rotations(self) -> Tensor:
        """Complex (1 or sequences, N, 2 H, d / 2)."""
        return self.table[self.times]


@cached_tensors(8)
def inference_chunks(
    cu_seqlens: Tensor,
    queries: Tensor | None,
    time: Tensor,
    visible: Tensor | None,
    heads: int,
    d: int,
    dtype: torch.dtype,
) -> list[InferenceChunk]:
    """The chunks of packed sequences; all blocks of an encoder share them, so they are cached."""
    table = complex_rotations(count_times(time), d, dtype)
    # the softmax's 1 / √d rides on the rotation of the queries, which saves a pass over the scores
    scale = torch.tensor([d**-0.5, 1.0], dtype=dtype, device="cpu").repeat_interleave(heads)
    table = table[:, None] * scale[:, None]
    chunks = []
    for chunk in split_into_chunks(
        cu_seqlens, queries, time, visible, lambda length: max(1, _CHUNK_TOKENS // length)
    ):
        hidden = chunk.hidden if chunk.hidden is None else chunk.hidden.repeat_interleave(heads, 0)
        chunks.append(InferenceChunk(**{**vars(chunk), "hidden": hidden}, heads=heads, table=table))
    return chunks


def norm_attention_without_gradients(
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
    """norm_attention of x (total, D) without gradients, matrix products in `dtype`."""
    width, exact = x.shape[1], torch.promote_types(dtype, torch.float32)
    weight, bias = (v.index_select(0, pair_order(width, heads)).to(dtype) for v in (weight, bias))
    q_and_kv = (weight[:width], bias[:width]), (weight[width:], bias[width:])
    out = x.new_zeros(x.shape, dtype=dtype)
    for chunk in inference_chunks(cu_seqlens, queries, time, visible, heads, width // heads, exact):
        attend_chunk(
            x[chunk.rows], (gamma, beta), eps, (weight, bias), q_and_kv, chunk, out[chunk.rows]
        )
    return out


def attend_chunk(
    x: Tensor,
    norm: Map,
    eps: float,
    qkv: Map,
    q_and_kv: tuple[Map, Map] | None,
    chunk: InferenceChunk,
    out: Tensor,
) -> None:
    """Fill the queries' rows of `out` (n, D), in the maps' dtype, with the attention of a chunk's
    tokens x (n, D).

    qkv: the linear map to queries, keys and values, (3 D, D) and (3 D,) in `pair_order`.
    q_and_kv: the same as one map to queries and one to keys and values, needed where not all tokens
        are queries.
    """
    normed = torch.native_layer_norm(x, x.shape[1:], *norm, eps)[0].to(qkv[1].dtype)
    q, k, v = _queries_keys_values(normed, qkv, q_and_kv, chunk)
    averages = out[:: chunk.step].view(chunk.sequences, -1, chunk.heads, v.shape[2])
    _softmax_average(q, k, v, chunk.hidden, averages.transpose(1, 2))


def _queries_keys_values(
    normed: Tensor, qkv: Map, q_and_kv: tuple[Map, Map] | None, chunk: InferenceChunk
) -> tuple[Tensor, Tensor, Tensor]:
    """Each contiguous (s · H, n or N, d); queries and keys rotated."""
    width, heads, rotation = normed.shape[1], chunk.heads, chunk.rotations
    # scores may leave float16's range
    dtype = torch.float32 if normed.dtype == torch.float16 else normed.dtype
    if chunk.step == 1:
        qk, v = linear(normed, *qkv).split([2 * width, width], 1)
        q, k = _head_by_head(_rotated(qk, rotation, chunk.sequences), 2, dtype)
    else:
        assert q_and_kv is not None
        q = linear(normed[:: chunk.step], *q_and_kv[0])
        k, v = linear(normed, *q_and_kv[1]).split(width, 1)
        rotation_q, rotation_k = rotation[:, :: chunk.step, :heads], rotation[:, :, heads:]
        (q,) = _head_by_head(_rotated(q, rotation_q, chunk.sequences), 1, dtype)
        (k,) = _head_by_head(_rotated(k, rotation_k, chunk.sequences), 1, dtype)
    (v,) = _head_by_head(v.view(chunk.sequences, -1, heads, width // heads), 1, dtype)
    return q, k, v


def _rotated(x: Tensor, rotation: Tensor, sequences: int) -> Tensor:
    """x (s · n, G · d) -> (s, n, G, d), rotated by complex (1 or s, n, G, d / 2), in float32 at
    least: in place where x has that dtype.
    """
    x = x.to(rotation.dtype.to_real()).view(sequences, -1, *rotation.shape[2:], 2)
    torch.view_as_complex(x).mul_(rotation)
    return x.flatten(3)


def _head_by_head(x: Tensor, kinds: int, dtype: torch.dtype) -> Tensor:
    """(s, n, kinds · H, d) -> contiguous (kinds, s · H, n, d).

    One copy, so that the products over heads run as one batched product on contiguous operands.
    """
    s, n, heads, d = x.shape
    laid = x.new_empty(kinds, s, heads // kinds, n, d, dtype=dtype)
    laid.copy_(x.view(s, n, kinds, -1, d).permute(2, 0, 3, 1, 4))
    return laid.view(kinds, -1, n, d)


def _softmax_average(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None, out: Tensor) -> None:
    """out (s, H, n, d) = softmax(q kᵀ) v, each (s · H, n or N, d); hidden (s · H, 1, N): keys that
    are masked out.
    """
    averages, sums = torch.empty_like(q), q.new_empty(*q.shape[:2], 1)
    size = max(1, _CHUNK_SCORES // (q.shape[1] * k.shape[1]))
    if size < len(q):
        for part in (slice(begin, begin + size) for begin in range(0, len(q), size)):
            some = None if hidden is None else hidden[part]
            torch.bmm(
                _unnormalised_softmax(q[part], k[part], some, sums[part]),
                v[part],
                out=averages[part],
            )
    else:
        torch.bmm(_unnormalised_softmax(q, k, hidden, sums), v, out=averages)
    torch.div(averages.view(out.shape), sums.view(*out.shape[:3], 1), out=out)


def _unnormalised_softmax(q: Tensor, k: Tensor, hidden: Tensor | None, sums: Tensor) -> Tensor:
    """The softmax of q kᵀ (g, n, N) times `sums` (g, n, 1), which is filled."""
    # bfloat16 has float32's range, so exponentials rarely overflow without the row's maximum
    # subtracted, whose two passes over the scores cost more than the matrix products. Sums near the
    # ends of the range show where they do.
    if q.dtype == torch.bfloat16:
        exponentials = _scores(q, k, hidden).exp_()
        torch.sum(exponentials, -1, keepdim=True, out=sums)
        low, high = sums.aminmax()
        if low.item() > _LEAST_SUM and high.item() < 1 / _LEAST_SUM:
            return exponentials
    sums.fill_(1)
    scores = _scores(q, k, hidden)
    return torch._softmax(scores, -1, False, out=scores)


def _scores(q: Tensor, k: Tensor, hidden: Tensor | None) -> Tensor:
    """q kᵀ (g, n, N), -inf where hidden, in memory that the thread's next scores overwrite.

    Fresh memory of this size is mapped and zeroed by the system, which costs more than the product.
    """
    size = q.shape[0] * q.shape[1] * k.shape[1]
    memory = getattr(_SCRATCH, str(q.dtype), None)
    if memory is None or len(memory) < size:
        with torch.inference_mode(False):
            memory = torch.empty(size, dtype=q.dtype, device=q.device)
        setattr(_SCRATCH, str(q.dtype), memory)
    scores = memory[:size].view(*q.shape[:2], k.shape[1])
    torch.bmm(q, k.transpose(1, 2), out=scores)
    return scores if hidden is None else scores.masked_fill_(hidden, -torch.inf)

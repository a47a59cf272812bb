"""Rotary embedding of a token's time, half-split pairing (feature i with i + d/2)."""

import torch
from torch import Tensor

from slim_kernels.runtime.tensor_cache import cached_tensors

BASE = 10000.0
# Numbers rotated at a time on a CPU: the passes over them stay in a core's cache.
_CHUNK_NUMBERS = 1 << 17


def frequencies(half: int, device: torch.device) -> Tensor:
    """10000^(-i / half), (half,) float64."""
    return BASE ** (-torch.arange(half, dtype=torch.float64, device=device) / half)


@cached_tensors(16)
def tables(
    half: int, times: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """cos and sin (times, half) of time · 10000^(-i / half)."""
    angle = torch.arange(times, dtype=torch.float64, device=device)[:, None] * frequencies(
        half, device
    )
    return angle.cos().to(dtype), angle.sin().to(dtype)


def rotation(time: Tensor, times: int, d: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin (total, 1, 1, d / 2), in at least float32, of each token's angles.

    time: (total,) integers below `times`; negative = not rotated, which is a rotation by time 0.
    """
    cos, sin = tables(d // 2, times, time.device, torch.promote_types(dtype, torch.float32))
    index = time.long().clamp_min(0)
    return cos[index][:, None, None], sin[index][:, None, None]


def rotate_into(out: Tensor, x: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Write x (n, ..., d), rotated, into `out` (n, ..., d); computed in the tables' dtype. The
    inverse takes -sin.
    """
    size = (
        max(1, _CHUNK_NUMBERS // max(x[:1].numel(), 1))
        if x.device.type == "cpu"
        else max(len(x), 1)
    )
    for parts in zip(*(v.split(size) for v in (out, x, cos, sin)), strict=True):
        _rotate_chunk(*parts)


def _rotate_chunk(out: Tensor, x: Tensor, cos: Tensor, sin: Tensor) -> None:
    (a, b), (out_a, out_b) = (v.unflatten(-1, (2, -1)).unbind(-2) for v in (x, out))
    if out.dtype == cos.dtype:
        torch.mul(a, cos, out=out_a).addcmul_(b, sin, value=-1)
        torch.mul(b, cos, out=out_b).addcmul_(a, sin)
    else:
        out_a.copy_(a * cos - b * sin)
        out_b.copy_(b * cos + a * sin)


def complex_rotations(times: int, d: int, dtype: torch.dtype) -> Tensor:
    """exp(i · time · 10000^(-2 j / d)), complex (times, d / 2) on the CPU, in the complex type of
    `dtype`.
    """
    cos, sin = tables(d // 2, times, torch.device("cpu"), torch.float64)
    return torch.complex(cos, sin).to(dtype.to_complex())


@cached_tensors(8)
def pair_order(width: int, heads: int) -> Tensor:
    """The order of (queries, keys, values)' 3 D features that puts each query's and key's feature i
    beside its i + d / 2.

    Weights in this order make pairs neighbours in memory, and a rotation one complex product in
    place; scores, which sum over features, stay the same.
    """
    queries_keys, values = torch.arange(3 * width, device="cpu").split([2 * width, width])
    return torch.cat([queries_keys.view(2 * heads, 2, -1).transpose(1, 2).flatten(), values])

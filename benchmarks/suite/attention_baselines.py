"""Attention within packed sequences by PyTorch, with rotation: SDPA by length, FlexAttention."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from slim_kernels.attention.rotary import rotation, tables
from torch import Tensor

from benchmarks.baselines.eager_encoder import rotate
from slim_fast.model.packing import Packing

Attend = Callable[[Tensor], Tensor]


def by_length(packed: Packing, d: int) -> Attend:
    """SDPA on each group of sequences of one length, a dense batch; heads of d features."""
    groups = []
    for count, times in packed.groups:
        cos, sin = (
            table[:times].repeat_interleave(packed.joints, 0)
            for table in tables(d // 2, packed.max_seqlen, packed.time.device, torch.float32)
        )
        groups.append((count, packed.prefix + times * packed.joints, cos, sin))

    def run(qkv: Tensor) -> Tensor:
        outputs, first = [], 0
        for count, length, cos, sin in groups:
            part = qkv[first : first + count * length].unflatten(0, (count, length))
            q, k, v = part.permute(2, 0, 3, 1, 4)  # (count, H, length, d) each
            out = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v)
            outputs.append(out.transpose(1, 2).flatten(0, 1))
            first += count * length
        return torch.cat(outputs)

    return run


def by_length_compiled(packed: Packing, d: int) -> Attend:
    torch.compiler.reset()
    return torch.compile(by_length(packed, d), dynamic=False)


def flex(packed: Packing, d: int) -> Attend:
    """FlexAttention over all tokens with a block mask by sequence; compiled, the rotation too."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    torch.compiler.reset()
    total, device = len(packed.time), packed.time.device
    lengths = packed.cu_seqlens.diff().long()
    sequence = torch.arange(len(lengths), device=device).repeat_interleave(lengths)
    cos, sin = (
        table[:, 0, 0] for table in rotation(packed.time, packed.max_seqlen, d, torch.float32)
    )

    def same(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return sequence[query] == sequence[key]

    # Compiled: the mask of all pairs of tokens would not fit.
    mask = torch.compile(create_block_mask)(same, None, None, total, total, device=device)

    def run(qkv: Tensor) -> Tensor:
        q, k, v = qkv.permute(1, 2, 0, 3)[:, None]  # (1, H, total, d) each
        # Contiguous: with strides of its own choice the compiler has given wrong results (torch
        # 2.13, on a CPU).
        q, k, v = (x.contiguous() for x in (rotate(q, cos, sin), rotate(k, cos, sin), v))
        out = flex_attention(q, k, v, block_mask=mask)
        return out[0].transpose(0, 1)

    return torch.compile(run, dynamic=False)


BASELINES = {
    "SDPA by length": by_length,
    "SDPA by length, compiled": by_length_compiled,
    "FlexAttention": flex,
}

"""What the encoder is made of: the patch embedding and the transformer block.

Where layers are unmodified, fused operations on their weights compute what calling them would.
Replaced, wrapped, hooked or reparametrised layers (LoRA, pruning, quantisation, probes) are called,
as those of any nn.Module.
"""

from typing import Protocol

import torch.nn.functional as F
from einops import rearrange
from slim_kernels import attention_residual, norm_swiglu
from torch import Tensor, nn
from torch.jit._trace import is_tracing
from torch.nn.modules import module as nn_module
from torch.utils.module_tracker import ModuleTracker

from slim_fast.model.packing import Packing, TokenSelection

NORM_EPS = 1e-6


class TokenLayout(Protocol):
    """Which tokens attend to which, and the time of each."""

    def attend(self, qkv: Tensor, heads: int) -> Tensor:
        """Softmax attention with rotary embedding: qkv (..., 3 D) -> (..., D)."""


class Attention(nn.Module):
    """A block's attention (names of the public checkpoints)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, tokens: TokenLayout) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.proj(tokens.attend(self.qkv(x), self.heads))


class SwiGLU(nn.Module):
    """A block's feed-forward (names of the public checkpoints)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        if is_tracing() and is_plain(self.w12):
            # runtimes would copy both halves of one product
            weight, bias, half = self.w12.weight, self.w12.bias, self.w12.out_features // 2
            gate = F.linear(x, weight[:half], bias[:half])
            value = F.linear(x, weight[half:], bias[half:])
        else:
            gate, value = self.w12(x).chunk(2, -1)
        return self.w3(F.silu(gate) * value)


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, NORM_EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, NORM_EPS)
        self.mlp = SwiGLU(width, hidden)
        self.drop_path = 0.0
        """Probability of leaving a branch out of a sequence in training (`drop_branch`)."""

    def forward(
        self, x: Tensor, tokens: TokenLayout, selection: TokenSelection | None = None
    ) -> Tensor:
        """x (..., D) -> (..., D); of packed tokens (total, D), only the selected rows (R, D).

        Of the selected rows, the residual is taken before the projection, so that all that follows
        attention is computed for them alone.
        """
        if not self.training or not self.drop_path:
            return self._feed_forward(self._attend(x, tokens, selection), tokens)
        attended = self._attend(x, tokens, selection)
        if selection is not None:
            x = x.index_select(0, selection.rows)
        x = drop_branch(x, attended, self.drop_path, tokens, selection)
        return drop_branch(x, self._feed_forward(x, tokens), self.drop_path, tokens, selection)

    def _attend(self, x: Tensor, tokens: TokenLayout, selection: TokenSelection | None) -> Tensor:
        """x plus its attention, of the selected rows."""
        packed = tokens if isinstance(tokens, Packing) else None
        norm, attn = self.norm1, self.attn
        if packed is not None and is_plain(norm) and is_plain(attn):
            qkv, proj = attn.qkv, attn.proj
            return attention_residual(
                x,
                norm.weight,
                norm.bias,
                qkv.weight,
                qkv.bias,
                proj.weight,
                proj.bias,
                packed.cu_seqlens,
                packed.max_seqlen,
                time=packed.time,
                heads=attn.heads,
                queries=None if selection is None else selection.queries,
                rows=None if selection is None else selection.rows,
                visible=packed.visible,
                buckets=packed.buckets,
                eps=norm.eps,
            )
        x = x + attn(norm(x), tokens)
        return x if selection is None else x.index_select(0, selection.rows)

    def _feed_forward(self, x: Tensor, tokens: TokenLayout) -> Tensor:
        """x plus its feed-forward."""
        norm, mlp = self.norm2, self.mlp
        if isinstance(tokens, Packing) and is_plain(norm) and is_plain(mlp):
            w12, w3 = mlp.w12, mlp.w3
            return norm_swiglu(
                x, norm.weight, norm.bias, w12.weight, w12.bias, w3.weight, w3.bias, norm.eps
            )
        return x + mlp(norm(x))


def drop_branch(
    x: Tensor,
    with_branch: Tensor,
    rate: float,
    tokens: TokenLayout,
    selection: TokenSelection | None = None,
) -> Tensor:
    """x for a share `rate` of the sequences, drawn by torch's generator; for the others x and the
    branch that `with_branch` adds to it, enlarged by 1 / (1 - rate) (stochastic depth, Huang et
    al. 2016).

    x, with_branch: (total, D) of packed tokens, or their selected rows; else (N, tokens, D).
    """
    sequences = len(tokens.cu_seqlens) - 1 if isinstance(tokens, Packing) else len(x)
    keep = x.new_empty(sequences).bernoulli_(1 - rate) / (1 - rate)
    if isinstance(tokens, Packing):
        keep = keep.repeat_interleave(tokens.cu_seqlens.diff())
    if selection is not None:
        keep = keep.index_select(0, selection.rows)
    return x + keep.view(-1, *[1] * (x.dim() - 1)) * (with_branch - x)


class PatchEmbed(nn.Module):
    """A linear map of 8 frames of a joint, stored as the public checkpoints' (8, 1) convolution."""

    def __init__(self, channels: int, width: int, patch_frames: int) -> None:
        super().__init__()
        self.patch_size = (patch_frames, 1)
        self.proj = nn.Conv2d(channels, width, self.patch_size, self.patch_size)

    def forward(self, clips: Tensor) -> Tensor:
        """(N, T, V, C) -> (N, T / patch_frames, V, D)."""
        patches = self.proj(rearrange(clips, "n t v c -> n c t v"))
        return rearrange(patches, "n d t v -> n t v d")


_OWN_FORWARD: dict[type[nn.Module], object] = {
    kind: kind.forward
    for kind in (nn.Linear, nn.LayerNorm, nn.Conv2d, Attention, SwiGLU, Block, PatchEmbed)
}


def is_plain(module: nn.Module, everywhere: bool = True) -> bool:
    """Whether a module's output depends on its own parameters alone, and no hook watches it:
    neither it nor any module inside it is of another class, has a forward of its own, hooks,
    parametrizations, or parameters that are missing or of a kind that computes in its own way
    (quantised, distributed).

    everywhere: also that no hook is on all modules.
    """
    own = module.__dict__
    if (
        _OWN_FORWARD.get(type(module)) is not type(module).forward
        or own["_forward_hooks"]
        or own["_forward_pre_hooks"]
        or own["_backward_hooks"]
        or own["_backward_pre_hooks"]
        or "forward" in own
        or (everywhere and nn_module._has_any_global_hook() and _has_other_global_hooks())
    ):
        return False
    for parameter in own["_parameters"].values():
        if type(parameter) is not nn.Parameter and (
            parameter is None or hasattr(type(parameter), "__tensor_flatten__")
        ):
            return False
    for inside in own["_modules"].values():  # noqa: SIM110  # faster than all() of a generator
        if not is_plain(inside, False):
            return False
    return True


def _has_other_global_hooks() -> bool:
    """Whether one of the hooks on all modules is another than FlopCounterMode's: that one only
    records where it is, and is to count the operations that run without it.
    """
    kinds = "forward_pre", "forward", "backward_pre", "backward"
    hooks = [
        hook for kind in kinds for hook in getattr(nn_module, f"_global_{kind}_hooks").values()
    ]
    return not all(isinstance(getattr(hook, "__self__", None), ModuleTracker) for hook in hooks)


def is_plain_patch_embed(embedding: nn.Module) -> bool:
    """Whether a patch embedding is the linear map of its projection's weights."""
    if not isinstance(embedding, PatchEmbed) or not is_plain(embedding):
        return False
    return embedding.proj.stride == embedding.proj.kernel_size and not any(embedding.proj.padding)

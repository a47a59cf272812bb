"""What the operations demand of their arguments. Shapes and devices are looked at always; what tensors hold only where
that costs no wait for a GPU: on a CPU, or everywhere under SLIM_KERNELS_CHECK=1.
"""

import os

import torch
from torch import Tensor


def expect_shapes(operation: str, **arguments: tuple[Tensor | None, tuple[int, ...]]) -> None:
    """Raises: ValueError naming the argument that has another shape than expected or lies on another device than the
    first. None is passed over.
    """
    device = None
    for name, (tensor, shape) in arguments.items():
        if tensor is None:
            continue
        if tensor.shape != shape:
            raise ValueError(f"{operation}: {name} must be of shape {tuple(shape)}; got {tuple(tensor.shape)}")
        device = device or tensor.device
        if tensor.device != device:
            raise ValueError(f"{operation}: {name} lies on {tensor.device}, {next(iter(arguments))} on {device}")


def contents_checked(x: Tensor) -> bool:
    """Whether to look into tensors on x's device."""
    if torch.compiler.is_compiling():
        return False
    return x.device.type == "cpu" or os.environ.get("SLIM_KERNELS_CHECK") == "1"


def check_sequences(
    operation: str, cu_seqlens: Tensor, total: int, max_seqlen: int, time: Tensor, visible: Tensor | None
) -> None:
    """Raises: ValueError when cu_seqlens, max_seqlen, time or visible do not describe packed sequences."""
    if cu_seqlens.dim() != 1 or cu_seqlens.shape[0] < 1 or cu_seqlens.is_floating_point():
        raise ValueError(f"{operation}: cu_seqlens must be integers (S + 1,); got {cu_seqlens.dtype} "
                         f"{tuple(cu_seqlens.shape)}")  # fmt: skip
    if time.is_floating_point():
        raise ValueError(f"{operation}: time must be integers; got {time.dtype}")
    if visible is not None and visible.dtype != torch.bool:
        raise ValueError(f"{operation}: visible must be bool; got {visible.dtype}")
    if not contents_checked(cu_seqlens):
        return
    lengths = cu_seqlens.diff()
    if int(cu_seqlens[0]) or int(cu_seqlens[-1]) != total:
        raise ValueError(f"{operation}: cu_seqlens must begin with 0 and end at the number of tokens, {total}; it "
                         f"begins with {int(cu_seqlens[0])} and ends at {int(cu_seqlens[-1])}")  # fmt: skip
    if not len(lengths):
        return
    if int(lengths.min()) < 0:
        raise ValueError(f"{operation}: cu_seqlens must not fall; it falls after entry {int(lengths.argmin())}")
    if int(lengths.max()) > max_seqlen:
        raise ValueError(f"{operation}: max_seqlen is {max_seqlen}, but a sequence has {int(lengths.max())} tokens")
    if total and int(time.max()) >= max(max_seqlen, 1):
        raise ValueError(f"{operation}: time must stay below max_seqlen, {max_seqlen}; it reaches {int(time.max())}")
    if visible is not None:
        seen = torch.cat([visible.new_zeros(1, dtype=torch.int64), visible.cumsum(0)])[cu_seqlens.long()].diff()
        blind = (seen == 0) & (lengths > 0)
        if bool(blind.any()):
            raise ValueError(f"{operation}: sequence {int(blind.long().argmax())} has no visible token")


def check_targets(target: Tensor, rows: int) -> None:
    """Raises: ValueError when a target is no row of the teacher's."""
    if target.numel() and contents_checked(target) and (int(target.min()) < 0 or int(target.max()) >= rows):
        raise ValueError(f"prototype_loss: target must lie within 0 and {rows - 1}, the teacher's rows; it lies within "
                         f"{int(target.min())} and {int(target.max())}")  # fmt: skip

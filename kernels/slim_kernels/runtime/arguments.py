"""What the operations demand of their arguments. Shapes and devices are looked at always; what
tensors hold only where
that costs no wait for a GPU: on a CPU, or everywhere under SLIM_KERNELS_CHECK=1.
"""

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from slim_kernels.runtime.tensor_cache import cached_tensors


def expect_shapes(operation: str, **arguments: tuple[Tensor | None, tuple[int, ...]]) -> None:
    """Raises: ValueError naming the argument that has another shape than expected or lies on
    another device than the first. None is passed over.
    """
    device = None
    for name, (tensor, shape) in arguments.items():
        if tensor is None:
            continue
        if tensor.shape != shape:
            raise ValueError(
                f"{operation}: {name} must be of shape {tuple(shape)}; got {tuple(tensor.shape)}"
            )
        device = device or tensor.device
        if tensor.device != device:
            raise ValueError(
                f"{operation}: {name} lies on {tensor.device}, {next(iter(arguments))} on {device}"
            )


def expect_floating(operation: str, **arguments: Tensor) -> None:
    """Raises: ValueError naming the argument that holds no floating-point numbers, or rows of no
    features.
    """
    for name, tensor in arguments.items():
        if not tensor.is_floating_point() or tensor.shape[-1:] == (0,):
            raise ValueError(
                f"{operation}: {name} must hold floating-point rows of at least one number; got "
                f"{tensor.dtype} {tuple(tensor.shape)}"
            )


def expect_constant(operation: str, **arguments: object) -> None:
    """Raises: ValueError naming the argument that waits for a gradient, which it would not get."""
    for name, value in arguments.items():
        if isinstance(value, Tensor) and value.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f"{operation}: {name} requires a gradient but is a constant here; pass "
                f"{name}.detach()"
            )


def expect_bool(operation: str, **arguments: Tensor | None) -> None:
    """Raises: ValueError naming the argument that is not bool. None is passed over."""
    for name, tensor in arguments.items():
        if tensor is not None and tensor.dtype != torch.bool:
            raise ValueError(f"{operation}: {name} must be bool; got {tensor.dtype}")


def check_buckets(operation: str, buckets: Sequence[int], cu_seqlens: Tensor) -> None:
    """Raises: ValueError when buckets are not (sequences, their longest) alternating, as cu_seqlens
    describes.
    """
    counts, longest = buckets[::2], buckets[1::2]
    sequences = cu_seqlens.shape[0] - 1
    if len(buckets) % 2 or any(number < 0 for number in buckets) or sum(counts) != sequences:
        raise ValueError(
            f"{operation}: buckets must hold sequences and their longest in turn, {sequences} "
            f"sequences in all; got {list(buckets)}"
        )
    if contents_checked(cu_seqlens):
        for number, (part, most) in enumerate(
            zip(cu_seqlens.diff().split(list(counts)), longest, strict=True)
        ):
            if len(part) and int(part.max()) > most:
                raise ValueError(
                    f"{operation}: buckets says sequences of at most {most} tokens of bucket "
                    f"{number}, which has one of {int(part.max())}"
                )


def contents_checked(x: Tensor) -> bool:
    """Whether to look into tensors on x's device."""
    if torch.compiler.is_compiling():
        return False
    return x.device.type == "cpu" or os.environ.get("SLIM_KERNELS_CHECK") == "1"


@cached_tensors(16)
def check_sequences(
    operation: str,
    cu_seqlens: Tensor,
    total: int,
    max_seqlen: int,
    time: Tensor,
    visible: Tensor | None,
) -> None:
    """Raises: ValueError when cu_seqlens, max_seqlen, time or visible do not describe packed
    sequences.
    """
    if cu_seqlens.dim() != 1 or cu_seqlens.shape[0] < 1 or cu_seqlens.is_floating_point():
        raise ValueError(
            f"{operation}: cu_seqlens must be integers (S + 1,); got {cu_seqlens.dtype} "
            f"{tuple(cu_seqlens.shape)}"
        )
    if time.is_floating_point():
        raise ValueError(f"{operation}: time must be integers; got {time.dtype}")
    expect_bool(operation, visible=visible)
    if not contents_checked(cu_seqlens):
        return
    lengths = cu_seqlens.diff()
    if int(cu_seqlens[0]) or int(cu_seqlens[-1]) != total:
        raise ValueError(
            f"{operation}: cu_seqlens must begin with 0 and end at the number of tokens, {total}; "
            f"it begins with {int(cu_seqlens[0])} and ends at {int(cu_seqlens[-1])}"
        )
    if not len(lengths):
        return
    if int(lengths.min()) < 0:
        raise ValueError(
            f"{operation}: cu_seqlens must not fall; it falls after entry {int(lengths.argmin())}"
        )
    if int(lengths.max()) > max_seqlen:
        raise ValueError(
            f"{operation}: max_seqlen is {max_seqlen}, but a sequence has {int(lengths.max())} "
            "tokens"
        )
    if total and int(time.max()) >= max(max_seqlen, 1):
        raise ValueError(
            f"{operation}: time must stay below max_seqlen, {max_seqlen}; it reaches "
            f"{int(time.max())}"
        )
    if visible is not None:
        seen = torch.cat([visible.new_zeros(1, dtype=torch.int64), visible.cumsum(0)])[
            cu_seqlens.long()
        ].diff()
        blind = (seen == 0) & (lengths > 0)
        if bool(blind.any()):
            raise ValueError(
                f"{operation}: sequence {int(blind.long().argmax())} has no visible token"
            )


def check_targets(target: Tensor, rows: int) -> None:
    """Raises: ValueError when a target is no row of the teacher's."""
    if (
        target.numel()
        and contents_checked(target)
        and (int(target.min()) < 0 or int(target.max()) >= rows)
    ):
        raise ValueError(
            f"prototype_loss: target must lie within 0 and {rows - 1}, the teacher's rows; it "
            f"lies within {int(target.min())} and {int(target.max())}"
        )

"""Single operations of a step beside eager PyTorch and, for attention, the best library."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.predicted.cost import Prediction
from benchmarks.predicted.flash import predict_flash, predict_rotation
from benchmarks.predicted.kernels import KernelTimes, Limits
from benchmarks.predicted.recording import Operation, Recorder
from benchmarks.predicted.step import pretended_gpu
from benchmarks.suite.ops import ENCODER, PROBLEMS, Draw, Sizes, prepare

OPS = ("embed_tokens", "packed_attention", "norm_linear", "linear_residual", "norm_swiglu")
LOSS = "prototype_loss"


def record_op(name: str, sizes: Sizes, side: str) -> list[Operation]:
    """One op of benchmarks.suite.ops forward and backward; side: ours or eager."""
    recorder = Recorder()
    with pretended_gpu():
        draw = Draw(torch.device("cpu"), 0)
        draw.low = torch.bfloat16
        problem = dataclasses.replace(PROBLEMS[name](sizes, draw), autocast=name in OPS[2:])
        run = prepare(problem, getattr(problem, side))
        run()  # draws the gradient that comes
        with recorder, recorder.part(name):
            run()
    return recorder.operations


def compare_ops(sizes: Sizes, times: KernelTimes) -> Iterator[dict[str, Any]]:
    """Forward and backward of each op, microseconds: ours, the other side and its name."""
    for name in (*OPS, LOSS):
        ours, eager = (
            Prediction(record_op(name, sizes, side), times).gpu for side in ("ours", "eager")
        )
        yield {"op": name, "ours": ours, "other": "eager PyTorch", "theirs": eager}
        if name == "packed_attention":
            library = sum(sum(limits.values()) for limits in best_library(sizes, times))
            yield {"op": name, "ours": ours, "other": "the best library", "theirs": library}


def best_library(sizes: Sizes, times: KernelTimes) -> Iterator[Limits]:
    """Attention on packed sequences with rotation by FlashAttention, both ways; launches join."""
    device, width = times.device, sizes.width // sizes.heads
    for which in ("forward", "backward"):
        for count, frames in sizes.views:
            tokens = 1 + ENCODER.registers + frames // ENCODER.patch_frames * sizes.joints
            sequences = count * sizes.samples
            yield predict_flash(which, sequences, sizes.heads, tokens, width, device)
        yield predict_rotation(sizes.tokens * sizes.width, device)

"""python launched.py DEVICE ...: every op, forward and backward, launched as for a GPU of this kind
but neither compiled nor run; prints what `slim_kernels.check` would not have compiled.

Without Triton's interpreter, so in a process of its own.
"""

import itertools
import sys
from typing import Any

import torch
from slim_kernels.attention import triton as attention
from slim_kernels.check.cases import DEVICES, KERNELS, cases
from slim_kernels.check.compiled import AbsentDevice, arguments
from slim_kernels.embed_tokens import triton as embed_tokens
from slim_kernels.feed_forward import triton as feed_forward
from slim_kernels.linear import triton as linear
from slim_kernels.prototype_loss import triton as prototype_loss
from slim_kernels.prototype_loss import triton_inputs
from slim_kernels.runtime import launch
from slim_kernels.runtime.launch import COMPILED_WITH
from slim_kernels.tube_masks.triton import tube_masks
from torch import Tensor
from triton import knobs
from triton.runtime import driver

ROWS, WIDTH, HIDDEN, FEATURES, HEADS = 48, 256, 688, 768, 8


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(shape, dtype=dtype).requires_grad_()


def embed(stream: torch.dtype, masked: bool, indexed: bool) -> Tensor:
    clips = [torch.rand(2, 16, 25, 3, dtype=stream)]
    masks = [torch.zeros(*((2, 2, 25) if masked else (0,)), dtype=torch.bool)]
    prefix, parameters = draw(5, WIDTH), (draw(WIDTH, 3, 8), draw(WIDTH), draw(WIDTH))
    joints = draw(25, WIDTH, dtype=stream)
    index = torch.arange(ROWS) if indexed else None
    return embed_tokens.embed_tokens(clips, masks, *parameters, joints, prefix, index)


def attend(dtype: torch.dtype, longest: int, visible: bool) -> Tensor:
    qkv = draw(ROWS, 3, HEADS, WIDTH // HEADS, dtype=dtype)
    bounds, time = torch.tensor([0, ROWS], dtype=torch.int32), torch.zeros(ROWS, dtype=torch.int32)
    hidden = torch.ones(ROWS, dtype=torch.bool) if visible else None
    angles = torch.zeros(2, longest, WIDTH // HEADS // 2)
    return attention.packed_attention(qkv, bounds, longest, *angles, time, hidden, None)[0]


def run_ops() -> None:
    """Each op with what its kernels are compiled anew for."""
    norm = (draw(WIDTH), draw(WIDTH))
    both = (False, True)
    for dtype in (torch.bfloat16, torch.float16):
        for longest, visible in itertools.product((32, 64, 128, 256, 1024), both):
            attend(dtype, longest, visible).sum().backward()
        for stream in (torch.float32, dtype):
            x, weight = draw(ROWS, WIDTH, dtype=stream), draw(FEATURES, WIDTH, dtype=dtype)
            linear.norm_linear(x, *norm, weight, draw(FEATURES), 1e-6).sum().backward()
            residual = draw(ROWS, FEATURES, dtype=stream)
            linear.linear_residual(
                draw(ROWS, WIDTH, dtype=dtype), weight, draw(FEATURES), residual
            ).sum().backward()
            w12, w3 = draw(2 * HIDDEN, WIDTH, dtype=dtype), draw(WIDTH, HIDDEN, dtype=dtype)
            biases = draw(2 * HIDDEN), draw(WIDTH)
            feed_forward.norm_swiglu(x, *norm, w12, biases[0], w3, biases[1], 1e-6).sum().backward()
            for masked, indexed in itertools.product(both, both):
                embed(stream, masked, indexed).sum().backward()
    whole, parts = torch.ones(ROWS, dtype=torch.int64), torch.ones(5, 2)
    for joints in (25, 1017):
        tube_masks(*[whole] * 4, parts, torch.arange(joints), 9, 8)
    rows, prototypes, target = draw(ROWS, WIDTH), draw(64, WIDTH), torch.zeros(ROWS, 1).long()
    for valid, place, budget in itertools.product(
        (None, torch.ones(ROWS, dtype=torch.bool)), (None, target), (0, 1 << 20)
    ):
        prototype_loss.prototype_loss(
            *(rows, prototypes, rows, prototypes, place, torch.ones(ROWS)),
            *(valid, 0.1, 0.05, 3, None, budget, True, True),
        )


def missing_launches(name: str) -> set[str]:
    """Of the ops' launches on a device those that the check leaves out."""
    device = next(device for device in DEVICES if str(device) == name)
    driver.set_active(AbsentDevice(device))
    launch.architecture = lambda _: DEVICES[device].entry
    # what the ops do for tensors on a GPU only
    embed_tokens._precision = lambda _: launch.float32_precision(device)
    triton_inputs.operand_type = lambda _: torch.float16
    seen: set[str] = set()

    def record(*, fn: Any, repr: str, compile: dict[str, Any], **_: Any) -> bool:
        # all that decides what is compiled: types, constants, divisibility, options
        described = (fn.name, compile["signature"], compile["constants"], compile["configs"])
        seen.add(f"{described} {repr}")
        return True  # as if it had been compiled elsewhere

    knobs.runtime.jit_cache_hook = record
    for case in cases(every=True):
        if case.architecture == device and case.constants.get("D", WIDTH) in (32, WIDTH):
            options = {"num_warps": case.warps, "num_stages": case.stages, **COMPILED_WITH}
            KERNELS[case.kernel].function.warmup(**arguments(case), grid=(1,), **options)
    checked, seen = seen, set()
    run_ops()
    print(device, len(seen), len({entry.split("'")[1] for entry in seen}), "launches, kernels")
    return seen - checked


if __name__ == "__main__":
    missing = set().union(*map(missing_launches, sys.argv[1:]))
    print(*sorted(missing), sep="\n")
    sys.exit(bool(missing))

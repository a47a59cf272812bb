"""The drop-in encoder on the device: exact, also with empty people and from CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.baselines import eager_encoder
from benchmarks.eager_sizes import eager_config
from benchmarks.encoders import spread
from benchmarks.gpu.correctness import FORWARD_BOUND, LEAST_ERROR, relative_error
from benchmarks.gpu.ops import CHANNELS
from benchmarks.gpu.record import Row
from benchmarks.gpu.run import Run
from benchmarks.gpu.step import JOINTS, TOY
from slim_fast import SLiMEncoder
from slim_fast.model.slim import ModelConfig


@torch.no_grad()
def drop_in(run: Run) -> None:
    """SLiMEncoder, optimised and captured, against SLiM's encoder in eager PyTorch and float64."""
    cuda, model = run.device.type == "cuda", TOY if run.quick or run.device.type == "cpu" else ModelConfig()
    low = torch.bfloat16 if cuda else torch.float32
    torch.manual_seed(0)
    encoder = SLiMEncoder(JOINTS, config=model.encoder)
    spread(encoder)
    encoder = encoder.eval().to(run.device)
    told = eager_config(model, JOINTS, CHANNELS)

    def eager(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        """CLS of everybody."""
        made = eager_encoder.Encoder(JOINTS, CHANNELS, told.width, told.depth, told.heads, told.registers)
        made.load_state_dict(encoder.state_dict())
        made.eval().to(run.device, dtype)
        return lambda x: made(x.permute(0, 4, 2, 3, 1).flatten(0, 1).to(dtype))[:, 0]

    clips = torch.randn(4, CHANNELS, 16 if model is TOY else 64, JOINTS, 2, device=run.device)
    clips[1, ..., 1] = clips[2, ..., 0] = 0
    present = (clips != 0).flatten(1, 3).any(1).flatten()
    exact, plain = eager(torch.float64)(clips)[present], eager(low)
    theirs = relative_error(plain(clips)[present], exact)
    ways = {"optimize()": encoder.optimize(low)}
    if cuda:
        ways["CUDA graph"] = encoder.optimize(low, cuda_graphs=True)
    for name, fast in ways.items():
        with run.attempt(name):
            for _ in range(2):  # a graph is captured first, then replayed
                got = fast(clips)
            mine = relative_error(got[present], exact)
            ratio = mine / max(theirs, LEAST_ERROR)
            row = Row("drop_in", name, "error of CLS", mine, theirs, ratio=ratio, target=FORWARD_BOUND, at_most=True)
            run.add(row, check=True)
            wrong = float(got[~present].any(1).sum())
            run.add(Row("drop_in", name, "empty people not zero", wrong, target=0, at_most=True), check=True)

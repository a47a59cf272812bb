"""The drop-in encoder on the device: exact, also with empty people and from CUDA graphs."""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor

from benchmarks.gpu.correctness import FORWARD_BOUND, LEAST_ERROR, relative_error
from benchmarks.gpu.run import Run
from benchmarks.gpu.step import JOINTS, TOY
from benchmarks.suite.eager import eager_encoder_like
from benchmarks.suite.encoders import spread
from benchmarks.suite.ops import CHANNELS
from slim_fast import SLiMEncoder
from slim_fast.model.slim import ModelConfig


@torch.no_grad()
def drop_in(run: Run) -> None:
    """SLiMEncoder, optimised and captured, against SLiM's encoder in eager PyTorch and float64."""
    cuda = run.device.type == "cuda"
    model = TOY if run.quick or not cuda else ModelConfig()
    low = torch.bfloat16 if cuda else torch.float32
    torch.manual_seed(0)
    encoder = SLiMEncoder(JOINTS, config=model.encoder)
    spread(encoder)
    encoder = encoder.eval().to(run.device)

    def eager(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        """CLS of every person."""
        made = eager_encoder_like(encoder, model, JOINTS, CHANNELS).to(run.device, dtype)
        return lambda x: made(rearrange(x, "b c t v m -> (b m) t v c").to(dtype))[:, 0]

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
            fields = {"ratio": mine / max(theirs, LEAST_ERROR), "target": FORWARD_BOUND}
            run.add(name, "error of CLS", mine, baseline=theirs, **fields, at_most=True, check=True)
            wrong = float(got[~present].any(1).sum())
            run.add(name, "empty people not zero", wrong, target=0, at_most=True, check=True)

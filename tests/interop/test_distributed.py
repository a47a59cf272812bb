"""DistributedDataParallel trains encoders and classifiers: every parameter that wants a gradient
gets one, at every step.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from slim_fast import SLiMClassifier, SLiMEncoder
from slim_fast.model.encoder import EncoderConfig

SMALL = EncoderConfig(width=16, depth=2, heads=2, registers=2)
FROZEN = ("patch_embed", "blocks.0", "mask_token", "cls_token")
WORKER = """
import os, sys, torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from tests.interop.test_distributed import clips, kinds, masks

rank, size = int(sys.argv[1]), int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[3]}", rank=rank, world_size=size)
for name, model in kinds().items():
    parallel = DistributedDataParallel(model)
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=1e-3)
    for step in range(4):
        x, hidden = clips(10 * step + rank), masks(step)
        if step == 2 and rank == size - 1:
            x.zero_()  # nobody is there
        answer = parallel(x) if hidden is None or "classifier" in name else parallel(x, hidden)
        optimizer.zero_grad()
        answer.square().sum().backward()
        optimizer.step()
    total = torch.cat([p.detach().flatten() for p in model.parameters()])
    first = total.clone()
    dist.broadcast(first, 0)
    assert torch.equal(first, total), name
    print(name, "trained", flush=True)
dist.destroy_process_group()
"""


def kinds() -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    no_registers = EncoderConfig(width=16, depth=1, heads=2, registers=0)
    made: dict[str, torch.nn.Module] = {
        "encoder": SLiMEncoder(5, config=SMALL),
        "encoder without registers": SLiMEncoder(5, config=no_registers),
        "encoder of visible tokens": SLiMEncoder(
            5, config=EncoderConfig(**{**vars(SMALL), "attention": "visible"})
        ),
        "classifier": SLiMClassifier(3, 5, config=SMALL),
        "classifier of CLS": SLiMClassifier(3, 5, config=SMALL, pool="cls", people_pool="max"),
        "classifier without a head": SLiMClassifier(0, 5, config=SMALL, pool="mean"),
        "frozen in part, classifier": SLiMClassifier(3, 5, config=SMALL),
    }
    for name, parameter in made["frozen in part, classifier"].named_parameters():
        parameter.requires_grad_(not name.startswith(FROZEN))
    return made


def clips(seed: int) -> torch.Tensor:
    return torch.randn(3, 3, 16, 5, 2, generator=torch.Generator().manual_seed(seed))


def masks(step: int) -> torch.Tensor | None:
    return None if step % 2 else torch.arange(60).view(6, 10) % 3 == 0


@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.long), 2])
def test_several_steps_with_and_without_masks(size, tmp_path):
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), str(root / "kernels"), os.environ.get("PYTHONPATH", "")])
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rank), str(size), str(tmp_path / "store")],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(size)
    ]
    for worker in workers:
        said, _ = worker.communicate(timeout=300)
        assert worker.returncode == 0, said
        assert said.count("trained") == len(kinds())


def test_without_masks_the_mask_token_has_a_gradient_of_zeros():
    for model in (SLiMEncoder(5, config=SMALL), SLiMClassifier(3, 5, config=SMALL)):
        model(clips(0)).sum().backward()
        assert model.mask_token.grad is not None
        assert not model.mask_token.grad.any()
        assert all(p.grad is not None for p in model.parameters())
    encoder = SLiMEncoder(5, config=SMALL)
    encoder(clips(0), masks(0)).square().sum().backward()
    assert encoder.mask_token.grad.any()

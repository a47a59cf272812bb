"""prototype_loss at scale: memory that does not grow with N×K, and rows spread over processes."""

import os
import socket
from typing import Any

import pytest
import slim_kernels.sinkhorn
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from slim_kernels import prototype_loss
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def unit(rows: int, width: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, width, generator=generator, dtype=dtype), dim=-1)


class LargestTensor(TorchDispatchMode):
    """Remembers the most bytes that any tensor's storage had."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        sizes = [leaf.untyped_storage().nbytes() for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        self.bytes = max([self.bytes, *sizes])
        return out


def largest(rows: int, prototypes: int, target: bool) -> int:
    e, c = unit(rows, 8, 0).requires_grad_(), unit(prototypes, 8, 1).requires_grad_()
    x, d = unit(rows, 8, 2), unit(prototypes, 8, 3)
    index = torch.arange(rows)[:, None].expand(-1, 2) if target else None
    with LargestTensor() as seen:
        prototype_loss(e, c, x, d, target=index, student_temp=0.1, teacher_temp=0.05).backward()
    return seen.bytes


def test_the_meter_sees_a_materialised_product():
    with LargestTensor() as seen:
        (unit(100, 8, 0) @ unit(200, 8, 1).t()).softmax(1)
    assert seen.bytes == 100 * 200 * 4


@pytest.mark.parametrize("target", [False, True])
def test_memory_does_not_grow_with_rows_times_prototypes(target, monkeypatch):
    monkeypatch.setattr(slim_kernels.sinkhorn, "CHUNK_LOGITS", 1 << 14)
    chunk = 4 << 14
    grown = {(n, k): largest(n, k, target) for n, k in [(512, 256), (2048, 256), (512, 1024), (2048, 1024)]}
    for (n, k), size in grown.items():
        assert size <= max(chunk, 4 * 8 * 2 * max(n, k))  # a chunk of logits, or features of two target rows
        assert size < n * k * 4 / 2
    assert grown[2048, 1024] <= 2 * grown[512, 256]


def _rank(rank: int, port: int, split: int, out: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    try:
        e, c, x, d, weight, target = _problem()
        teachers, students = (slice(0, split), slice(split, None))[rank], (slice(0, 5), slice(5, None))[rank]
        target = target[students] - (0 if rank == 0 else split)
        e, c = e[students].requires_grad_(), c.requires_grad_()
        loss = prototype_loss(
            e, c, x[teachers], d, target=target, weight=weight[students], student_temp=0.1, teacher_temp=0.05,
            group=dist.group.WORLD,
        )  # fmt: skip
        loss.backward()
        torch.save((loss.detach(), e.grad, c.grad), f"{out}/{rank}.pt")
    finally:
        dist.destroy_process_group()


def _problem(split: int = 9) -> tuple[Tensor, ...]:
    """12 student rows; the first five look at the first nine teachers, the others at the last four."""
    e, c, x, d = (unit(n, 6, seed, torch.float64) for seed, n in enumerate((12, 10, 13, 10)))
    generator = torch.Generator().manual_seed(9)
    weight = torch.rand(12, generator=generator, dtype=torch.float64)
    first = torch.randint(split, (5, 2), generator=generator)
    return e, c, x, d, weight, torch.cat([first, torch.randint(split, 13, (7, 2), generator=generator)])


def test_rows_over_two_processes_give_the_single_process_result(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_rank, (port, 9, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))

    e, c, x, d, weight, target = _problem()
    e.requires_grad_(), c.requires_grad_()
    arguments = {"target": target, "weight": weight, "student_temp": 0.1, "teacher_temp": 0.05}
    alone = prototype_loss(e, c, x, d, **arguments)
    alone.backward()
    torch.testing.assert_close(first[0] + second[0], alone.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(torch.cat([first[1], second[1]]), e.grad, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(first[2] + second[2], c.grad, rtol=1e-10, atol=1e-10)
    # Without the group the two halves balance their prototypes apart from each other.
    apart = prototype_loss(e[:5], c, x[:9], d, **(arguments | {"target": target[:5], "weight": weight[:5]}))
    assert abs(apart.item() - first[0].item()) > 1e-4

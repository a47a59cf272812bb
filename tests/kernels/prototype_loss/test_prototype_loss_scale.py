"""prototype_loss at scale: memory that does not grow with N×K, and rows spread over processes."""

import os
import socket
import weakref
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from slim_kernels import prototype_loss, sinkhorn_potentials
from slim_kernels.prototype_loss import sinkhorn
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
        sizes = [
            leaf.untyped_storage().nbytes() for leaf in tree_leaves(out) if isinstance(leaf, Tensor)
        ]
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
    monkeypatch.setattr(sinkhorn, "CHUNK_LOGITS", 1 << 14)
    chunk = 4 << 14
    grown = {
        (n, k): largest(n, k, target)
        for n, k in [(512, 256), (2048, 256), (512, 1024), (2048, 1024)]
    }
    for (n, k), size in grown.items():
        # a chunk of logits, or features of two target rows
        assert size <= max(chunk, 4 * 8 * 2 * max(n, k))
        assert size < n * k * 4 / 2
    assert grown[2048, 1024] <= 2 * grown[512, 256]


def test_a_gpu_takes_larger_chunks_than_a_cache_holds():
    """64 rows of the recipe's prototypes on a CPU, 1,024 on a GPU; there no tensor is needed."""
    assert (sinkhorn.chunk_rows(65_536), sinkhorn.chunk_rows(65_536, "cuda")) == (64, 1024)
    x, d = torch.empty(3000, 8, device="meta"), torch.empty(65_536, 8, device="meta")
    assert [part.stop - part.start for part, _ in sinkhorn.ExpLogits(x, d, 0.1)] == [
        1024,
        1024,
        952,
    ]


@pytest.mark.parametrize("rows", [40, 400, 4000])
def test_no_more_exponentials_are_kept_than_allowed(rows, monkeypatch):
    monkeypatch.setattr(sinkhorn, "CHUNK_LOGITS", 50 * 16)
    monkeypatch.setattr(sinkhorn, "KEPT_LOGITS", 50 * 100)
    x, d = unit(rows, 8, 0), unit(50, 8, 1)
    kernel = sinkhorn.ExpLogits(x, d, 0.1, keep=True)
    for _ in range(3):
        seen: list[weakref.ref[Tensor]] = []
        for chunk, values in kernel:
            torch.testing.assert_close(values, (x[chunk] @ d.t() / 0.1).exp(), rtol=1e-5, atol=0)
            seen.append(weakref.ref(values))
            assert sum(ref().numel() for ref in seen if ref() is not None) <= min(
                rows * 50, 50 * 100 + 2 * 50 * 16
            )


def _problem() -> dict[str, Tensor]:
    """12 student rows: targets of the first five are the first nine teacher rows, of the others the
    last four.
    """
    e, c, x, d = (unit(n, 6, seed, torch.float64) for seed, n in enumerate((12, 10, 13, 10)))
    generator = torch.Generator().manual_seed(9)
    weight = torch.rand(12, generator=generator, dtype=torch.float64)
    first, others = (
        torch.randint(*r, generator=generator) for r in ((0, 9, (5, 2)), (9, 13, (7, 2)))
    )
    return {"e": e, "c": c, "x": x, "d": d, "weight": weight, "target": torch.cat([first, others])}


def _share(rank: int | None, paired: bool, **options: Any) -> list[Tensor]:
    """Loss and gradients of one rank's rows (None: of all rows), of row i with row i or with its
    targets.
    """
    p = _problem()
    students = {None: slice(12), 0: slice(5), 1: slice(5, 12)}[rank]
    teachers = students if paired else {None: slice(13), 0: slice(9), 1: slice(9, 13)}[rank]
    e, c = p["e"][students].requires_grad_(), p["c"].requires_grad_()
    loss = prototype_loss(
        e,
        c,
        p["x"][teachers],
        p["d"],
        target=None if paired else p["target"][students] - teachers.indices(13)[0],
        weight=p["weight"][students],
        student_temp=0.1,
        teacher_temp=0.05,
        **options,
    )
    return [loss.detach(), *torch.autograd.grad(loss, (e, c))]


def _rank(rank: int, port: int, out: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    try:
        torch.save(
            [_share(rank, paired, group=dist.group.WORLD) for paired in (False, True)],
            f"{out}/{rank}.pt",
        )
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("kernels", [pytest.param("reference", marks=pytest.mark.long), "triton"])
def test_rows_over_two_processes_give_the_single_process_result(tmp_path, kernels, monkeypatch):
    if kernels == "triton":
        pytest.importorskip("triton", reason="the Triton kernels need triton")
    monkeypatch.setenv("SLIM_KERNELS", kernels)  # for the processes too
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_rank, (port, str(tmp_path)), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for i, paired in enumerate((False, True)):
        (loss_0, e_0, c_0), (loss_1, e_1, c_1) = (rank[i] for rank in ranks)
        loss, e, c = _share(None, paired)
        torch.testing.assert_close(loss_0 + loss_1, loss, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(torch.cat([e_0, e_1]), e, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(c_0 + c_1, c, rtol=1e-10, atol=1e-10)
        # Without the group each half balances the prototypes on its own.
        assert abs(_share(0, paired)[0] - loss_0) > 1e-4


@pytest.mark.parametrize("kernels", ["reference", "triton"])
@pytest.mark.parametrize("paired", [False, True])
def test_parts_with_the_potentials_of_all_rows_give_the_whole(kernels, paired, monkeypatch):
    if kernels == "triton":
        pytest.importorskip("triton", reason="the Triton kernels need triton")
    monkeypatch.setenv("SLIM_KERNELS", kernels)
    p = _problem()
    rows = p["x"][:12] if paired else p["x"]
    known = sinkhorn_potentials(rows, p["d"], 0.05)
    parts = [_share(rank, paired, potentials=known) for rank in range(2)]
    loss, e, c = _share(None, paired)
    torch.testing.assert_close(parts[0][0] + parts[1][0], loss, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(torch.cat([part[1] for part in parts]), e, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(parts[0][2] + parts[1][2], c, rtol=1e-10, atol=1e-10)


def test_potentials_pass_rows_over_that_do_not_count():
    x, d = unit(9, 6, 0), unit(10, 6, 1)
    valid = torch.arange(9) < 5
    ours, wanted = (
        sinkhorn_potentials(x, d, 0.05, valid=valid),
        sinkhorn_potentials(x[:5], d, 0.05),
    )
    torch.testing.assert_close(ours, wanted)
    with pytest.raises(ValueError, match="potentials must be of shape"):
        prototype_loss(x, d, x, d, student_temp=0.1, teacher_temp=0.05, potentials=wanted[1:])

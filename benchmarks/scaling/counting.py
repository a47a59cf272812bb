"""What real processes hand to torch.distributed in a step, counted."""

from __future__ import annotations

import os
import socket
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as processes
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.suite.clips import write_random_cache
from slim_fast.data.cache import ClipCache
from slim_fast.training.config import PretrainConfig
from slim_fast.training.ranks import join_ranks
from slim_fast.training.sharding import Sharding
from slim_fast.training.trainer import Trainer
from slim_fast.views.store import FrameStore

CLIPS = 16
_KINDS = {
    "c10d::allreduce_": "all_reduce",
    "_c10d_functional::all_reduce": "all_reduce",
    "c10d::allgather_": "all_gather",
    "c10d::_allgather_base_": "all_gather",
    "c10d::_reduce_scatter_base_": "reduce_scatter",
}
_LOCAL = ("_wrap_tensor", "wait_tensor")  # of the same packages, but nothing is sent


class CollectiveCounter(TorchDispatchMode):
    """Counts the bytes of the collectives that run under it, by kind: what is summed, what is
    gathered, what is to be scattered.

    Raises: NotImplementedError for a collective of another kind.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # comes again as what its processes do
        name = func._schema.name
        if "c10d" in func.namespace and not name.split("::")[1].startswith(_LOCAL):
            if name not in _KINDS:
                raise NotImplementedError(f"{name} is not counted")
            # of a gathering the result comes first, of a scattering the source second
            tensors = [x for x in tree_leaves(args) if isinstance(x, torch.Tensor)]
            moved = max(tensors, key=lambda x: x.numel())
            count = sum(x.nbytes for x in tensors[:-1]) if name == "c10d::allgather_" else None
            self.bytes[_KINDS[name]] += moved.nbytes if count is None else count
        return func(*args, **(kwargs or {}))


def count_step(config: PretrainConfig, size: int, sharding: Sharding) -> Counter[str]:
    """Bytes by kind of the third step of `size` processes of this machine, which must agree."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        cache = write_random_cache(Path(folder) / "cache", CLIPS)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        found = processes.get_context("fork").SimpleQueue()
        config = replace(config, sharding=sharding, device="cpu", precision="fp32")
        arguments = (config, cache, size, port, found)
        processes.start_processes(_count, arguments, size, start_method="fork")
        counts = [found.get() for _ in range(size)]
    assert all(count == counts[0] for count in counts), counts
    return Counter(counts[0])


def _count(
    rank: int, config: PretrainConfig, cache: Path, size: int, port: int, found: Any
) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with join_ranks(torch.device("cpu")) as ranks:
        trainer = Trainer(config, FrameStore(ClipCache.open(cache)), ranks)
        trainer.step(0)
        trainer.step(1)
        with CollectiveCounter() as counter:
            trainer.step(2)
        found.put(dict(counter.bytes))

"""python -m tests.training.ranks FOLDER CACHE: 20 steps of the smallest runs on 1, 2 and 4
processes.

They are forked from one that has imported everything, and find each other by the variables that
torchrun sets. Each writes what it got into FOLDER/NAME-SIZE-RANK.pt.
"""

import os
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor

from slim_fast import pretrain
from slim_fast.data import ClipCache
from slim_fast.training.checkpoint import Checkpoints
from slim_fast.training.clips import hash_clips
from slim_fast.training.ranks import join_ranks
from slim_fast.training.run import restore
from slim_fast.training.trainer import Trainer
from slim_fast.views.store import FrameStore

STEPS = 20
_MAE = [
    *("--method=mae", "--mae.decoder_depth=1", "--views.local=[]"),
    *("--views.mask.global_share=1", "--views.mask.ratio=[0.8, 0.9]"),
]
VARIANTS: dict[str, tuple[str, tuple[int, ...], list[str]]] = {
    "slim": ("slim", (1, 2, 4), ["--model.encoder.attention=visible"]),
    "unwatched": ("slim", (2,), ["--model.encoder.attention=visible"]),
    "parts": ("slim", (1, 2), ["--model.encoder.attention=visible", "--accumulate=2"]),
    "contrastive": ("contrastive", (1, 2), ["--model.loss.masked=0"]),
    "fsdp": ("slim", (2, 4), ["--model.encoder.attention=visible", "--sharding=fsdp"]),
    "fsdp-parts": (
        *("slim", (2,)),
        ["--model.encoder.attention=visible", "--sharding=fsdp", "--accumulate=2"],
    ),
    "mae": ("mae", (1,), _MAE),
    "mae-parts": ("mae", (2,), [*_MAE, "--accumulate=2"]),
    "mae-fsdp": ("mae", (2,), [*_MAE, "--sharding=fsdp"]),
}
"""Name: whose losses and weights it must have on one process, on how many it runs, what is set."""
FEW = [("slim", 1), ("slim", 2), ("fsdp", 2)]
"""What is run but for --thorough."""
MOVES = {"from-shards": (("fsdp", 2), ("slim", 1)), "to-shards": (("slim", 1), ("fsdp", 2))}
"""Runs that go on from a checkpoint of others: which, on how many processes, before and after."""


def fork(size: int, work: Callable[[], None]) -> list[int]:
    """Run `work` in `size` processes of a run; their exit statuses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    children = []
    for rank in range(size):
        child = os.fork()
        if not child:
            status = 1
            try:
                os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_PORT": port}
                os.environ["MASTER_ADDR"] = "127.0.0.1"
                work()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def train(name: str, words: list[str], folder: Path, move: str = "", stops: bool = False) -> None:
    """STEPS steps; of a move, the first half, which ends with a checkpoint, or the second one."""
    if name.startswith("mae"):
        words = [w for w in words if not w.startswith(("--model.head", "--optim.freeze"))]
    config = pretrain.parse([*words, *VARIANTS[name][2]])
    cache, checkpoints = ClipCache.open(Path(config.data)), Checkpoints(folder / move, 1)
    with join_ranks(torch.device("cpu")) as ranks:
        # a dozen clips in batches of 8: some batches hold a clip twice
        trainer = Trainer(config, FrameStore(cache), ranks, unwatched=name == "unwatched" or None)
        before = restore(trainer, checkpoints, cache) if move and not stops else None
        steps = range(before["step"] if before else 0, STEPS // 2 if stops else STEPS)
        losses = [{k: v.clone() for k, v in trainer.step(step)[0].items()} for step in steps]
        held = sum(local(x).numel() for x in trainer.model.parameters())
        state = trainer.state_dict()
        if trainer.is_sharded:
            state = {name: ranks.share(value) for name, value in state.items()}
        if stops and ranks.is_first:
            about = {"step": len(losses), "seconds": 0.0, "clips": hash_clips(trainer.store)}
            checkpoints.save(len(losses), {**state, **about})
        result = {"losses": losses, "held": held, **state}
        torch.save(result, folder / f"{move or name}-{ranks.size}-{ranks.rank}.pt")


def local(x: torch.Tensor) -> torch.Tensor:
    """What this process holds of a parameter."""
    return x.to_local() if isinstance(x, DTensor) else x


def main(folder: Path, every: bool, words: list[str]) -> int:
    torch.set_num_threads(1)
    runs = [(name, size) for name, v in VARIANTS.items() for size in v[1]] if every else FEW
    work = [(size, (name, words, folder)) for name, size in runs]
    for move, halves in MOVES.items() if every else ():
        for (name, size), stops in zip(halves, (True, False), strict=True):
            work.append((size, (name, words, folder, move, stops)))
    failed = [
        (size, arguments[0])
        for size, arguments in work
        if any(fork(size, lambda arguments=arguments: train(*arguments)))  # type: ignore[misc]
    ]
    print(failed or "done")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2] == "every", sys.argv[3:]))

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

from slim_fast import pretrain
from slim_fast.data import ClipCache
from slim_fast.training.ranks import join_ranks
from slim_fast.training.trainer import Trainer
from slim_fast.views.store import FrameStore

STEPS = 20
_MAE = [
    *("--method=mae", "--mae.decoder_depth=1", "--views.local=[]"),
    *("--views.mask.global_share=1", "--views.mask.ratio=[0.8, 0.9]"),
]
VARIANTS: dict[str, tuple[str, tuple[int, ...], list[str]]] = {
    "slim": ("slim", (1, 2, 4), ["--model.encoder.attention=visible"]),
    "parts": ("slim", (1, 2), ["--model.encoder.attention=visible", "--accumulate=2"]),
    "contrastive": ("contrastive", (1, 2), ["--model.loss.masked=0"]),
    "mae": ("mae", (1,), _MAE),
    "mae-parts": ("mae", (2,), [*_MAE, "--accumulate=2"]),
}
"""Name: whose losses and weights it must have on one process, on how many it runs, what is set."""


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


def train(name: str, words: list[str], folder: Path) -> None:
    if name.startswith("mae"):
        words = [w for w in words if not w.startswith(("--model.head", "--optim.freeze"))]
    config = pretrain.parse([*words, *VARIANTS[name][2]])
    cache = ClipCache.open(Path(config.data))
    with join_ranks(torch.device("cpu")) as ranks:
        # a dozen clips in batches of 8: some batches hold a clip twice
        trainer = Trainer(config, FrameStore(cache), ranks)
        losses = [trainer.step(step)[0] for step in range(STEPS)]
        result = {"losses": losses, **trainer.state_dict()}
        torch.save(result, folder / f"{name}-{ranks.size}-{ranks.rank}.pt")


def main(folder: Path, words: list[str]) -> int:
    torch.set_num_threads(1)
    failed = [
        (name, size)
        for name, (_, sizes, _) in VARIANTS.items()
        for size in sizes
        if any(fork(size, lambda name=name: train(name, words, folder)))  # type: ignore[misc]
    ]
    print(failed or "done")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))

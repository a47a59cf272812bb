"""How each Triton kernel is launched: plain data by architecture, for bfloat16, checked by
`python -m slim_kernels.check`.

Nothing is tuned in a user's run.
"""

from functools import lru_cache

import torch

# kernel -> compute capability -> (longest sequence, largest head, queries a block, keys a block, warps, stages): the
# first that is large enough is taken.
SMALL = (32, 64, 32, 32, 4, 2)
ATTENTION = {
    "forward": {
        80: [SMALL, (1024, 64, 64, 64, 4, 2)],
        90: [SMALL, (1024, 64, 64, 64, 4, 2)],
        100: [SMALL, (1024, 64, 64, 32, 4, 2)],
    },
    "backward_queries": {
        80: [SMALL, (1024, 32, 64, 32, 4, 2), (1024, 64, 32, 32, 4, 2)],
        90: [SMALL, (1024, 32, 64, 64, 4, 2), (1024, 64, 32, 32, 4, 2)],
        100: [SMALL, (1024, 32, 64, 64, 4, 2), (1024, 64, 32, 32, 4, 2)],
    },
    "backward_keys": {
        80: [SMALL, (1024, 32, 32, 64, 4, 2), (1024, 64, 32, 32, 4, 2)],
        90: [SMALL, (1024, 32, 32, 64, 4, 2), (1024, 64, 32, 32, 4, 2)],
        100: [SMALL, (1024, 32, 64, 64, 4, 2), (1024, 64, 32, 32, 4, 2)],
    },
}


def attention_launch(kernel: str, max_seqlen: int, head: int, architecture: int) -> dict[str, int]:
    """Tile sizes, warps and stages for sequences of up to `max_seqlen` tokens and heads of `head` features."""
    options = ATTENTION[kernel][architecture]
    fitting = (option for option in options if max_seqlen <= option[0] and head <= option[1])
    return dict(zip(("BM", "BN", "num_warps", "num_stages"), next(fitting, options[-1])[2:], strict=True))


@lru_cache
def architecture(device: torch.device) -> int:
    """The newest architecture on file that is not newer than the device's; the oldest for an interpreter on a CPU."""
    known = sorted(next(iter(ATTENTION.values())))
    if device.type != "cuda":
        return known[0]
    major, minor = torch.cuda.get_device_capability(device)
    return max([cc for cc in known if cc <= 10 * major + minor], default=known[0])

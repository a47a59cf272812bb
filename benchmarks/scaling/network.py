"""Links between GPUs, and how long a collective takes on them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.scaling.collectives import Collective


@dataclass(frozen=True)
class Network:
    """Nodes of GPUs; bandwidths in bytes a second and direction, times in seconds.

    Bandwidths are published: NVIDIA's data sheet of the H100 and H200 (NVLink, 900 GB/s both ways
    together) and NDR InfiniBand, 400 Gbit/s an adapter, one a GPU as in a DGX H100. The share
    reached, the start and the hops are orders of magnitude.
    """

    node: int = 8
    nvlink: float = 450e9
    adapter: float = 50e9
    share: float = 0.8
    start: float = 10e-6
    nvlink_hop: float = 1e-6
    adapter_hop: float = 5e-6

    def bandwidth(self, gpus: int) -> float:
        """Of the slowest link of a ring through all GPUs."""
        across = self.node * self.adapter
        return self.share * (self.nvlink if gpus <= self.node else min(self.nvlink, across))

    def seconds(self, collective: Collective, gpus: int) -> float:
        """Of all its calls."""
        if gpus == 1:
            return 0.0
        rounds = 2 if collective.kind == "all_reduce" else 1
        within = math.log2(min(gpus, self.node))
        across = math.log2(max(1, gpus / self.node))
        hops = rounds * (within * self.nvlink_hop + across * self.adapter_hop)
        return collective.calls * (self.start + hops) + sent(collective, gpus) / self.bandwidth(
            gpus
        )


def sent(collective: Collective, gpus: int) -> float:
    """Bytes that a GPU sends in a ring."""
    rounds = 2 if collective.kind == "all_reduce" else 1
    return rounds * (gpus - 1) / gpus * collective.bytes

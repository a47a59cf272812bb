"""A step's time on many GPUs: computing, what is sent, the host, and which of them is the limit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from slim_kernels.cost.devices import COPY_SHARE, DEVICES, PRODUCT_SHARE

from benchmarks.predicted.cost import GAP
from benchmarks.scaling.collectives import Sizes, build_model, list_collectives
from benchmarks.scaling.network import Network, sent
from slim_fast.training.config import PretrainConfig
from slim_fast.training.sharding import Sharding
from slim_fast.training.work import count_step

ONCE = ("clipping", "optimiser", "teacher's average")
"""Kinds of operations whose time does not depend on the samples."""
HIDDEN = 0.5  # of a step's computing, beside which something can be sent
HELD = 20  # bytes a trained weight: it, its gradient, two moments, the teacher's


def predict_step(
    recorded: Mapping[str, Any],
    device: str,
    gpus: int,
    batch: int,
    sharding: Sharding,
    network: Network | None = None,
) -> dict[str, Any]:
    """Milliseconds and bytes of a step of the recipe, `batch` samples on all GPUs together.

    recorded: a step of one GPU, of benchmarks.predicted.
    """
    network = network or Network()
    config = replace(PretrainConfig(), batch=batch)
    model = build_model(config, Sizes())
    collectives = list_collectives(config, model, gpus, sharding)
    kinds = recorded["kinds"]
    launches = sum(kind["limits"].get(GAP, 0.0) for kind in kinds.values())
    once = sum(
        kind["gpu"] - kind["limits"].get(GAP, 0.0)
        for name, kind in kinds.items()
        if name.startswith(ONCE)
    )
    samples = batch / gpus / recorded["samples"]
    koleo = 1e3 * koleo_seconds(batch, batch // gpus, config.model.encoder.width, device)
    each = once / (gpus if sharding == "fsdp" else 1)
    computing = samples * (recorded["gpu"] - once - launches) + launches + each
    sending: defaultdict[str, float] = defaultdict(float)
    waits = beside = 0.0
    for collective in collectives:
        took = 1e3 * network.seconds(collective, gpus)
        sending[collective.purpose] += took
        if collective.is_beside:
            beside += took
        else:
            waits += took
    waits += max(0.0, beside - HIDDEN * computing)
    gpu, host = computing + koleo + waits, sum(kind["host"] for kind in kinds.values())
    weights = sum(x.numel() for x in model.student.parameters())
    limits = {"computing": computing, "KoLeo's neighbours": koleo, "sending": waits}
    return {
        "gpus": gpus,
        "batch": batch,
        "sharding": sharding,
        "sent": sum(sent(collective, gpus) for collective in collectives),
        "held": HELD * weights / (gpus if sharding == "fsdp" else 1),
        "operations": (count_step(config, 25, 3) or 0.0) / gpus,
        "computing": computing,
        "koleo": koleo,
        "sending": dict(sending),
        "waits": waits,
        "gpu": gpu,
        "host": host,
        "step": max(gpu, host),
        "limit": "host" if host > gpu else max(limits, key=lambda name: limits[name]),
        "graph_limit": max(limits, key=lambda name: limits[name]),
    }


def koleo_seconds(batch: int, own: int, width: int, device: str) -> float:
    """The neighbours of a process' own samples among a whole batch, for both global views."""
    gpu = DEVICES[device]
    lanes = PRODUCT_SHARE * gpu.sms * gpu.ghz * 1e9 * 2 * gpu.fma
    moved = 2 * 4 * own * batch  # similarities, written and read
    return 2 * (2 * own * batch * width / lanes + moved / (COPY_SHARE * gpu.dram * 1e12))

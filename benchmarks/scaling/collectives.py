"""What the processes of a run send each other in a step, from the method's sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from slim_fast.model.block import Block
from slim_fast.model.slim import SLiM
from slim_fast.training.config import PretrainConfig
from slim_fast.training.sharding import Sharding
from slim_fast.training.trainer import build_method

Kind = Literal["all_reduce", "all_gather", "reduce_scatter"]
# bytes of a float32, of a row's number, and of DistributedDataParallel's note of a used weight
FLOAT, INDEX, FLAG = 4, 8, 4
SINKHORN_ITERATIONS = 3
BUCKET = 25 << 20  # bytes in which DistributedDataParallel sums gradients


@dataclass(frozen=True)
class Collective:
    """Calls of one kind for one purpose."""

    purpose: str
    kind: Kind
    bytes: int
    """Of all calls: what is summed, what is gathered, what is to be scattered."""
    calls: int
    is_beside: bool = False
    """Whether the computation goes on meanwhile."""


@dataclass(frozen=True)
class Sizes:
    """What a run's weights and clips are, beside its configuration."""

    joints: int = 25
    channels: int = 3


def build_model(config: PretrainConfig, sizes: Sizes) -> SLiM:
    """The method without data. Raises: ValueError for another method than SLiM."""
    with torch.device("meta"):
        method = build_method(config, sizes.joints, sizes.channels)
    if not isinstance(method, SLiM):
        raise ValueError("only what SLiM sends is known")
    return method


def list_collectives(
    config: PretrainConfig, model: SLiM, processes: int, sharding: Sharding
) -> list[Collective]:
    """Of one step whose prototypes are not frozen, in one part, in float32."""
    if processes == 1:
        return []
    loss = config.model.loss
    terms = sum(map(bool, (loss.contrastive, loss.masked, loss.koleo)))
    targets = sum(map(bool, (loss.contrastive, loss.masked)))
    columns = SINKHORN_ITERATIONS * config.model.head.prototypes
    found = [
        Collective("losses", "all_reduce", FLOAT * (1 + terms), 1),
        Collective("Sinkhorn-Knopp", "all_reduce", FLOAT * targets, targets),
        Collective(
            "Sinkhorn-Knopp", "all_reduce", FLOAT * targets * columns, targets * SINKHORN_ITERATIONS
        ),
    ]
    if loss.koleo:
        rows = 2 * config.batch
        found.append(
            Collective("KoLeo", "all_gather", FLOAT * rows * config.model.encoder.width, 1)
        )
        found.append(Collective("KoLeo", "all_gather", INDEX * rows, 1))
    if sharding == "ddp":
        return [*found, *_whole(model)]
    return [*found, *_sharded(model, processes)]


def _whole(model: SLiM) -> Iterator[Collective]:
    """Each process has all weights, and the trainer one parameter more, which is never used."""
    parameters = list(model.student.parameters())
    gradients = FLOAT * (sum(x.numel() for x in parameters) + 1)
    yield Collective("gradients", "all_reduce", gradients, -(-gradients // BUCKET), True)
    yield Collective("gradients", "all_reduce", FLAG * (len(parameters) + 1), 1)


def _sharded(model: SLiM, processes: int) -> Iterator[Collective]:
    """Blocks' weights are gathered when they compute, the student's once more for their gradients;
    the others', and the parameter that is never used, once a step.
    """
    blocks = {True: _blocks(model.student), False: _blocks(model.teacher)}
    inside = {id(x) for both in blocks.values() for block in both for x in block.parameters()}
    outer = [x for x in model.parameters() if id(x) not in inside]
    moved = {
        trained: sum(_padded(block.parameters(), processes) for block in both)
        for trained, both in blocks.items()
    }
    rest = FLOAT * processes + _padded(outer, processes)
    yield Collective("weights", "all_gather", rest, 1)
    calls = 2 * len(blocks[True]) + len(blocks[False])
    yield Collective("weights", "all_gather", 2 * moved[True] + moved[False], calls, True)
    yield Collective("gradients", "reduce_scatter", moved[True], len(blocks[True]), True)
    trained = _padded((x for x in outer if x.requires_grad), processes)
    yield Collective("gradients", "reduce_scatter", trained, 1, True)
    children = [len(list(child.parameters())) for child in model.student.children()]
    yield Collective("norms", "all_reduce", FLOAT * sum(children), len(children))


def _blocks(network: nn.Module) -> list[Block]:
    return [module for module in network.modules() if isinstance(module, Block)]


def _padded(parameters: Iterable[torch.Tensor], processes: int) -> int:
    """Bytes of parameters of which each process has as many rows."""
    return FLOAT * sum(
        processes * -(-len(x) // processes) * (x.numel() // max(1, len(x))) for x in parameters
    )

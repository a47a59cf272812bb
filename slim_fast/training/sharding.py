"""How the processes of a run hold its weights: each all of them (DDP), or a shard (FSDP2)."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_map

from slim_fast.model.block import Block
from slim_fast.model.encoder import Encoder
from slim_fast.training.ranks import Ranks

Sharding = Literal["ddp", "fsdp"]


def distribute(losses: nn.Module, ranks: Ranks, sharding: Sharding) -> nn.Module:
    """The module to call instead of `losses`, so that its gradients are the processes' mean.

    fsdp: each process keeps a part of every parameter along its first dimension, of the gradient
    and of what the optimiser makes of it; a block's are gathered for the time that it computes,
    all others' for the step. `losses` may also be called by its method `survey`.
    """
    if ranks.size == 1:
        return losses
    if sharding == "ddp":
        return DistributedDataParallel(
            losses, process_group=ranks.group, find_unused_parameters=True
        )
    assert ranks.group is not None
    mesh = DeviceMesh.from_group(ranks.group, next(losses.parameters()).device.type)
    for module in list(losses.modules()):
        if isinstance(module, Block):
            fully_shard(module, mesh=mesh)
    fully_shard(losses, mesh=mesh)
    # the block that is computed last in the forward pass is the teacher's, which has no backward
    trained = [b for b in losses.modules() if isinstance(b, Block) and _is_trained(b)]
    losses.set_modules_to_backward_prefetch(trained[-1:])  # type: ignore[operator]
    register_fsdp_forward_method(losses, "survey")
    return losses


def _is_trained(module: nn.Module) -> bool:
    return next(module.parameters()).requires_grad


def gradients_stay(losses: nn.Module) -> AbstractContextManager[Any]:
    """While it is open, backward passes add to this process' gradients alone."""
    return losses.no_sync() if isinstance(losses, DistributedDataParallel) else nullcontext()


def is_sharded(losses: nn.Module) -> bool:
    """Whether this process holds a part of each weight only."""
    return isinstance(losses, FSDPModule)


def gather(state: Any, keep: bool) -> Any:
    """Nested values with every sharded tensor whole, on the CPU; by all processes together.

    keep: whether this process wants them; else None is in their place.
    """

    def whole(value: Any) -> Any:
        if not isinstance(value, DTensor):
            return value
        tensor = value.full_tensor()
        return tensor.cpu() if keep else None

    return tree_map(whole, state)


@torch.no_grad()
def put(parameters: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """Copy whole weights into parameters of the same names, of sharded ones the own part."""
    for name, parameter in parameters.items():
        parameter.copy_(shard_like(weights[name], parameter))


def shard_like(value: Any, parameter: Tensor) -> Any:
    """A whole tensor as `parameter` is held: of a sharded one's shape, this process' part."""
    if not isinstance(parameter, DTensor) or value.shape != parameter.shape:
        return value
    value = value.to(parameter.device)
    # every process has the same: nothing needs to be sent
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)


def gather_encoder(encoder: Encoder, keep: bool) -> Encoder:
    """The encoder with whole weights, itself if it has them; by all processes together.

    Without `keep`, its weights hold no data.
    """
    if not any(isinstance(x, DTensor) for x in encoder.parameters()):
        return encoder
    device = next(encoder.parameters()).device
    weights = gather(encoder.state_dict(), keep)
    with torch.device("meta"):
        whole = Encoder(encoder.config, encoder.joints, encoder.channels)
    whole.topology, whole.channel_names = encoder.topology, encoder.channel_names
    if keep:
        whole.load_state_dict(weights, assign=True)
        whole.to(device)
    return whole.train(encoder.training)

"""AdamW with the recipe's parameter groups, and clipping by submodule."""

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from slim_fast.training.config import OptimConfig
from slim_fast.training.schedules import ScheduleValues


def build_optimizer(trained: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """One group for each combination of (patch embedding or not) and (decayed or not).

    Biases and norms are not decayed; CLS, register and mask tokens, the joint embedding and
    prototypes are.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in trained.named_parameters():
        decayed = not (name.endswith("bias") or ".norm" in name)
        groups.setdefault(("patch_embed" in name, decayed), []).append(parameter)
    scales = {True: config.patch_embed_scale, False: 1.0}
    options = [
        {"params": params, "lr_scale": scales[is_patch], "decayed": decayed}
        for (is_patch, decayed), params in groups.items()
    ]
    return torch.optim.AdamW(options, lr=0.0, betas=config.betas, fused=True)


def apply_schedules(optimizer: torch.optim.Optimizer, now: ScheduleValues) -> None:
    """Learning rate and weight decay of this step."""
    for group in optimizer.param_groups:
        group["lr"] = now.learning_rate * group["lr_scale"]
        group["weight_decay"] = now.weight_decay if group["decayed"] else 0.0
        group["capturable"] = False


def clip_gradients(trained: nn.Module, limit: float) -> torch.Tensor:
    """Clip the gradient norm of encoder, heads, ..., each on its own; returns the norms before,
    of sharded gradients those of all processes.
    """
    zero = torch.zeros((), device=next(trained.parameters()).device)  # of a part without gradients
    norms = []
    for part in trained.children():
        moved = [p for p in part.parameters() if p.grad is not None]
        norm = nn.utils.clip_grad_norm_(moved, limit) if moved else zero
        norms.append(norm.full_tensor() if isinstance(norm, DTensor) else norm)
    return torch.stack(norms)

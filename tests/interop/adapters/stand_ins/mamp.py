"""What MAMP's main_linprobe.py and main_finetune.py do with a model, from their interface."""

from collections.abc import Iterable
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

# Arguments of its model/transformer.py's Transformer.
ARGUMENTS = (
    "dim_in num_classes dim_feat depth num_heads mlp_ratio num_frames num_joints patch_size "
    "t_patch_size qkv_bias qk_scale drop_rate attn_drop_rate drop_path_rate norm_layer protocol"
)

Batches = Iterable[tuple[Tensor, Tensor]]


def build(config: dict[str, Any]) -> Any:
    """Walks the dotted name down from the top package, which alone is imported."""
    top, *rest = config["model"].split(".")
    return reduce(getattr, rest, __import__(top))(**config["model_args"])


def layer_decay_groups(model: Any, weight_decay: float, decay: float) -> list[dict[str, Any]]:
    """Rates fall from the head (layer N + 1 of N blocks) to the embeddings it knows by name (layer
    0).
    """
    last = len(model.blocks) + 1
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        layer = last
        if name in ("temp_embed", "pos_embed") or name.startswith("joints_embed"):
            layer = 0
        elif name.startswith("blocks"):
            layer = int(name.split(".")[1]) + 1
        flat = parameter.ndim == 1
        group = groups.setdefault(
            (layer, flat),
            {
                "params": [],
                "lr_scale": decay ** (last - layer),
                "weight_decay": 0.0 if flat else weight_decay,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def finetune(config: dict[str, Any], batches: Batches) -> tuple[Any, list[float]]:
    """The model and its losses. A process group must be there, as under its launcher."""
    model = build(config)
    parallel = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(
        layer_decay_groups(model, 0.05, config["layer_decay"]), lr=config["lr"]
    )
    for group in optimizer.param_groups:
        group["lr"] = config["lr"] * group["lr_scale"]
    parallel.train(True)
    return model, _train(parallel, optimizer, batches)


def linprobe(config: dict[str, Any], batches: Batches) -> tuple[Any, list[float]]:
    model = build(config)
    fc = model.head.fc
    model.head.fc = nn.Sequential(nn.BatchNorm1d(fc.in_features, affine=False, eps=1e-6), fc)
    for parameter in model.parameters():
        parameter.requires_grad = False
    for parameter in model.head.parameters():
        parameter.requires_grad = True
    parallel = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.head.parameters(), lr=config["lr"], momentum=0.9)
    parallel.eval()
    parallel.module.head.train(True)
    return model, _train(parallel, optimizer, batches)


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, batches: Batches) -> list[float]:
    losses = []
    for clips, labels in batches:
        loss = nn.functional.cross_entropy(model(clips), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def evaluate(model: nn.Module, clips: Tensor) -> Tensor:
    return model.eval()(clips).argmax(1)

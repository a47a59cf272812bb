"""What the main.py of CTR-GCN and SkateFormer do with a model, from their interface."""

import importlib
import inspect
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# Arguments of CTR-GCN's model/ctrgcn.py's Model and of SkateFormer's model/SkateFormer.py's
# SkateFormer.
CTRGCN = "num_class num_point num_person graph graph_args in_channels drop_out adaptive"
SKATEFORMER = (
    "in_channels depths channels num_classes embed_dim num_people num_frames num_points "
    "kernel_size num_heads type_1_size type_2_size type_3_size type_4_size attn_drop head_drop "
    "drop rel drop_path mlp_ratio act_layer norm_layer_transformer index_t global_pool"
)


def build(config: dict[str, Any], work_dir: Path) -> Any:
    """Keeps a copy of the model's source beside the run."""
    module, _, name = config["model"].rpartition(".")
    kind = getattr(importlib.import_module(module), name)
    shutil.copy2(inspect.getfile(kind), work_dir)
    return kind(**config["model_args"])


def train(model: Any, config: dict[str, Any], batches: Iterable[tuple[Any, ...]]) -> list[float]:
    """Losses; batches (data, label), or SkateFormer's (data, index_t, label)."""
    options = {"lr": float(config["base_lr"]), "weight_decay": config["weight_decay"]}
    optimizer = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}[config["optimizer"]](
        model.parameters(), **options
    )
    model.train()
    losses = []
    for *data, labels in batches:
        loss = nn.functional.cross_entropy(model(*data), labels)
        optimizer.zero_grad()
        loss.backward()
        if config.get("grad_clip"):
            nn.utils.clip_grad_norm_(model.parameters(), config["grad_max"])
        optimizer.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def evaluate(model: Any, *data: Tensor) -> Tensor:
    return model.eval()(*data).argmax(1)

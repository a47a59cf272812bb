"""What PYSKL and mmaction2 do with a config and a backbone, from their interface."""

import importlib
import runpy
import types
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# Arguments of STGCN, in both.
ARGUMENTS = (
    "graph_cfg in_channels base_channels data_bn_type ch_ratio num_person num_stages "
    "inflate_stages down_stages"
)


class Registry:
    def __init__(self) -> None:
        self.kinds: dict[str, Any] = {}

    def register_module(
        self, name: str | None = None, force: bool = False, module: Any = None
    ) -> Any:
        if name in self.kinds and not force:
            raise KeyError(f"{name} is already registered")
        self.kinds[name or module.__name__] = module
        return module

    def build(self, config: dict[str, Any]) -> Any:
        options = dict(config)
        return self.kinds[options.pop("type")](**options)


def packages(registry: Registry) -> dict[str, dict[str, types.ModuleType]]:
    """Package -> its modules by name, as far as a backbone needs them."""
    made = {}
    for package, home, attribute in (
        ("pyskl", "pyskl.models.builder", "BACKBONES"),
        ("mmaction", "mmaction.registry", "MODELS"),
    ):
        names = [".".join(home.split(".")[: n + 1]) for n in range(home.count(".") + 1)]
        made[package] = {name: types.ModuleType(name) for name in names}
        setattr(made[package][home], attribute, registry)
    return made


def read_config(path: Path) -> dict[str, Any]:
    """The names a config file defines; its custom_imports are imported."""
    config = {
        name: value
        for name, value in runpy.run_path(str(path)).items()
        if not name.startswith("__")
    }
    for module in config["custom_imports"]["imports"]:
        importlib.import_module(module)
    return config


class GCNHead(nn.Module):
    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(in_channels, num_classes)

    def init_weights(self) -> None:
        nn.init.normal_(self.fc.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        n, m, c, t, v = x.shape
        return self.fc(self.pool(x.view(n * m, c, t, v)).view(n, m, c).mean(1))


class RecognizerGCN(nn.Module):
    def __init__(self, registry: Registry, model: dict[str, Any]) -> None:
        super().__init__()
        self.backbone = registry.build(model["backbone"])
        self.cls_head = GCNHead(**{k: v for k, v in model["cls_head"].items() if k != "type"})
        for part in (self.backbone, self.cls_head):
            part.init_weights()

    def forward(self, keypoint: Tensor) -> Tensor:
        """keypoint (N, clips, M, T, V, C) -> scores, the mean over clips, (N, classes)."""
        scores = self.cls_head(self.backbone(keypoint.flatten(0, 1)))
        return scores.unflatten(0, keypoint.shape[:2]).softmax(-1).mean(1)

    def train_step(
        self, keypoint: Tensor, label: Tensor, optimizer: torch.optim.Optimizer
    ) -> float:
        loss = nn.functional.cross_entropy(self.cls_head(self.backbone(keypoint[:, 0])), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

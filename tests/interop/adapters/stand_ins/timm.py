"""What timm's registry and its fine-tuning do with a model, from their interface."""

import re
import sys
import types
from collections.abc import Callable
from typing import Any

ENTRIES: dict[str, Callable[..., Any]] = {}


def register_model(function: Callable[..., Any]) -> Callable[..., Any]:
    module = sys.modules[function.__module__]
    module.__all__ = [*getattr(module, "__all__", []), function.__name__]
    ENTRIES[function.__name__] = function
    return function


def create_model(
    name: str, pretrained: bool = False, pretrained_cfg_overlay: Any = None, **options: Any
) -> Any:
    given = {k: v for k, v in options.items() if v is not None}
    return ENTRIES[name](
        pretrained=pretrained,
        pretrained_cfg=None,
        pretrained_cfg_overlay=pretrained_cfg_overlay,
        **given,
    )


def packages() -> dict[str, types.ModuleType]:
    made = {name: types.ModuleType(name) for name in ("timm", "timm.models")}
    made["timm.models"].register_model = register_model  # type: ignore[attr-defined]
    return made


def layer_numbers(model: Any) -> dict[str, int]:
    """Parameter -> layer, by the model's group_matcher: 99999 joins the layer before, what nothing
    matches is last.
    """
    rules = []
    for order, rule in enumerate(model.group_matcher(coarse=False).values()):
        rules += [(order, *part) for part in (rule if isinstance(rule, list) else [(rule, None)])]
    keys = {}
    for name, _ in model.named_parameters():
        keys[name] = (float("inf"),)
        for order, pattern, suffix in rules:
            if found := re.match(pattern, name):
                keys[name] = (order, *map(float, filter(None, found.groups())), *(suffix or ()))
                break
    layers, number = {}, -1
    for key in sorted(set(keys.values())):
        number += key[-1] != 99999 or number < 0
        layers[key] = number
    return {name: layers[key] for name, key in keys.items()}

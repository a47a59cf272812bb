"""Layer-wise learning rates and their schedule."""

import math
import re
from collections.abc import Iterator
from typing import Any

import torch

from slim_fast.evaluation.tuning.classifier import TunedClassifier
from slim_fast.evaluation.tuning.recipe import TuningRecipe

MOMENTUM = 0.9
_TOKENS = {"cls_token", "pos_embed", "register_tokens", "mask_token"}


def layer_of(name: str, depth: int) -> int:
    """0 for the tokens and the patch embedding, the blocks from 1 on, the final norm as the last
    block; `name` is of a parameter of an encoder of `depth` blocks.
    """
    block = re.match(r"blocks\.(\d+)\.", name)
    if block:
        return int(block[1]) + 1
    return depth if name.startswith("norm.") else 0


def parameter_groups(model: TunedClassifier, recipe: TuningRecipe) -> Iterator[dict[str, Any]]:
    """One group a parameter, with its learning rate and weight decay."""
    depth = model.encoder.config.depth
    for name, parameter in model.encoder.named_parameters():
        decay = recipe.layer_decay ** (depth - layer_of(name, depth))
        plain = parameter.dim() == 1 or name in _TOKENS
        yield {
            "params": [parameter],
            "lr": recipe.learning_rate * recipe.encoder_share * decay,
            "weight_decay": 0.0 if plain else recipe.weight_decay,
        }
    for parameter in model.head.parameters():
        plain = parameter.dim() == 1
        decay = 0.0 if plain else recipe.weight_decay
        yield {"params": [parameter], "lr": recipe.learning_rate, "weight_decay": decay}


def make_optimizer(model: TunedClassifier, recipe: TuningRecipe) -> torch.optim.Optimizer:
    """The recipe's optimiser."""
    groups = list(parameter_groups(model, recipe))
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=MOMENTUM)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)


def rate_share(iteration: int, iterations: int, warmup: float) -> float:
    """Share of the learning rate at an iteration: linear growth, then a cosine to 0."""
    warm = round(warmup * iterations)
    if iteration < warm:
        return (iteration + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (iteration - warm) / max(1, iterations - warm)))

"""Encoders whose layers were replaced, hooked or reparametrised."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from slim_fast.model.encoder import Encoder, EncoderConfig

JOINTS = 5


def encoder(attention: Any = "all", dtype: torch.dtype = torch.float64) -> Encoder:
    made = Encoder(
        EncoderConfig(width=16, depth=3, heads=2, registers=2, attention=attention), JOINTS
    ).to(dtype)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return made


class Doubled(nn.Linear):
    def __call__(self, x: Tensor) -> Tensor:
        return 2 * super().__call__(x)


class Scaled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 0.5 * weight


class LoRA(nn.Module):
    """As peft does it: stands in for a Linear, and still offers its weight."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        like = {"bias": False, "dtype": base.weight.dtype}
        self.base, self.down = base, nn.Linear(base.in_features, 2, **like)
        self.up = nn.Linear(2, base.out_features, **like)

    weight, bias = (
        property(lambda self, name=name: getattr(self.base, name)) for name in ("weight", "bias")
    )

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


def each_linear(model: Encoder, change: Callable[[nn.Linear], nn.Module | None]) -> None:
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Linear):
            parent, _, own = name.rpartition(".")
            made = change(layer)
            setattr(model.get_submodule(parent), own, layer if made is None else made)


def doubled(layer: nn.Linear) -> nn.Module:
    made = Doubled(layer.in_features, layer.out_features, dtype=layer.weight.dtype)
    made.load_state_dict(layer.state_dict())
    return made


def own_forward(layer: nn.Linear) -> None:
    forward = layer.forward
    layer.forward = lambda x: -forward(x)  # type: ignore[method-assign]


def of_blocks(change: Callable[[Any], None]) -> Callable[[Encoder], None]:
    return lambda model: [change(block) for block in model.blocks] and None  # type: ignore[func-returns-value]


def of_linears(change: Callable[[nn.Linear], Any]) -> Callable[[Encoder], None]:
    return lambda model: each_linear(model, change)


def put(path: str, make: Callable[[nn.Module], nn.Module]) -> Callable[[Encoder], None]:
    def change(block: nn.Module) -> None:
        parent, _, name = path.rpartition(".")
        setattr(block.get_submodule(parent), name, make(block.get_submodule(path)))

    return of_blocks(change)


class Passing(nn.Module):
    """An attention of somebody else's."""

    def forward(self, x: Tensor, tokens: Any) -> Tensor:
        return 2 * x


OTHER: dict[str, Callable[[Encoder], Any]] = {
    "LoRA": of_linears(LoRA),
    "a subclass with its own __call__": of_linears(doubled),
    "an object with its own forward": of_linears(own_forward),
    "pruning": of_linears(lambda x: prune.l1_unstructured(x, "weight", 0.5) and None),
    "spectral_norm": of_linears(parametrizations.spectral_norm),
    "parametrize": of_linears(
        lambda x: parametrize.register_parametrization(x, "weight", Scaled())
    ),
    "no bias": of_linears(
        lambda x: nn.Linear(x.in_features, x.out_features, bias=False, dtype=torch.float64)
    ),
    "RMSNorm": put("norm1", lambda _: nn.RMSNorm(16, dtype=torch.float64)),
    "LayerNorm without weights": put("norm2", lambda _: nn.LayerNorm(16, elementwise_affine=False)),
    "LayerNorm of another eps": put(
        "norm2", lambda _: nn.LayerNorm(16, eps=1.0, dtype=torch.float64)
    ),
    "another feed-forward": put(
        "mlp", lambda _: nn.Sequential(nn.Linear(16, 16, dtype=torch.float64), nn.GELU())
    ),
    "another attention": put("attn", lambda _: Passing()),
    "no projection": put("attn.proj", lambda _: nn.Identity()),
    "hooks that change what comes out": put(
        "mlp", lambda x: x.register_forward_hook(lambda *_: 3 * _[2]) and x
    ),
    "parametrized patches": lambda m: parametrize.register_parametrization(
        m.patch_embed.proj, "weight", Scaled()
    ),
    "parametrized positions": lambda m: parametrize.register_parametrization(
        m, "pos_embed", Scaled()
    ),
}

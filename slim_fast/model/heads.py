"""The prototype head: features to unit rows, compared with unit prototypes (paper section 3.3)."""

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from slim_fast.limits import Count


@dataclass
class HeadConfig:
    """Sizes of the two prototype heads."""

    hidden: Count = 2048
    """Width of the MLP's two hidden layers."""
    bottleneck: Count = 256
    """Width of the features that are compared with the prototypes."""
    prototypes: Annotated[int, Ge(2)] = 65536
    """Number of prototypes K."""


class PrototypeHead(nn.Module):
    """MLP width -> hidden -> hidden -> bottleneck with GELU, normalised; K prototypes of norm 1.

    The prototypes' gains are fixed at 1, so every logit lies in [-1, 1]; the release lets them
    train and decay.
    """

    def __init__(self, width: int, config: HeadConfig) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.bottleneck),
        )
        self.prototypes = nn.Parameter(torch.empty(config.prototypes, config.bottleneck))
        for module in self.mlp:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.prototypes, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width) -> (N, bottleneck) float32 (float64 for a float64 head) of norm 1."""
        x = self.mlp(x)
        eps = 1e-6 if x.dtype == torch.float16 else 1e-12
        return F.normalize(x.to(self.prototypes.dtype), dim=-1, eps=eps)

    def unit_prototypes(self) -> Tensor:
        """(K, bottleneck) rows of norm 1."""
        return F.normalize(self.prototypes, dim=-1)

"""norm_linear and linear_residual in PyTorch's operations: specification and tests' oracle."""

import torch.nn.functional as F
from torch import Tensor

from slim_kernels.runtime.layer_norm import layer_norm


def norm_linear(
    x: Tensor, norm_weight: Tensor, norm_bias: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> Tensor:
    """LayerNorm(x) weightᵀ + bias: (total, D) -> (total, E)."""
    return F.linear(layer_norm(x, norm_weight, norm_bias, eps), weight, bias)


def linear_residual(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    """residual + x weightᵀ + bias: (total, E) -> (total, D)."""
    return residual + F.linear(x, weight, bias)

"""norm_swiglu in PyTorch's operations: the specification, and the tests' oracle."""

import torch.nn.functional as F
from torch import Tensor

from slim_kernels.runtime.layer_norm import layer_norm


def norm_swiglu(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    w12: Tensor,
    b12: Tensor,
    w3: Tensor,
    b3: Tensor,
    eps: float,
) -> Tensor:
    """x + w3 (SiLU(gate) · value) + b3, gate and value the halves of w12 LayerNorm(x) + b12."""
    hidden = F.linear(layer_norm(x, norm_weight, norm_bias, eps), w12, b12)
    gate, value = hidden.chunk(2, -1)
    return x + F.linear(F.silu(gate) * value, w3, b3)

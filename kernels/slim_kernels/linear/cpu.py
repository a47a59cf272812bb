"""linear_residual on a CPU where no gradient is wanted: by oneDNN, whose product is faster."""

from torch import Tensor

from slim_kernels.runtime.dispatch import product_dtype, without_autocast
from slim_kernels.runtime.matmul import linear


def linear_residual(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    """residual + x weightᵀ + bias, multiplied in autocast's dtype where that is on."""
    dtype = product_dtype(x)
    with without_autocast(x):
        return residual + linear(*(v.to(dtype) for v in (x, weight, bias)))

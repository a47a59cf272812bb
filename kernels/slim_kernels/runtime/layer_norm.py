"""LayerNorm as the operations' references take it."""

import torch
import torch.nn.functional as F
from torch import Tensor


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """F.layer_norm of rows x (..., D); with eps = 0, where PyTorch divides 0 by 0, a row without
    variance is normalised to zeros and gets no gradient.
    """
    if eps != 0:
        return F.layer_norm(x, x.shape[-1:], weight, bias, eps)
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    centred = wide - wide.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    normed = centred * torch.where(variance == 0, torch.inf, variance).rsqrt()
    return (normed * weight + bias).to(x.dtype)

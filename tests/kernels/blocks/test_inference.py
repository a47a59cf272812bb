"""What runs on a CPU where nobody wants gradients: a block in bfloat16, its guards, and the
products it is made of.
"""

import pytest
import torch
from slim_kernels import linear_residual, norm_attention, norm_swiglu
from torch import Tensor

D, HEADS = 64, 2


def attention(
    lengths: list[int], dtype: torch.dtype
) -> tuple[dict[str, Tensor], dict[str, object]]:
    total = sum(lengths)
    shapes = {
        "x": (total, D),
        "norm_weight": (D,),
        "norm_bias": (D,),
        "weight": (3 * D, D),
        "bias": (3 * D,),
    }
    tensors = {
        name: torch.randn(shape) * (0.2 if name == "weight" else 1)
        for name, shape in shapes.items()
    }
    layout = {
        "cu_seqlens": torch.tensor([0, *lengths]).cumsum(0).to(torch.int32),
        "max_seqlen": max(lengths),
        "time": torch.cat([torch.arange(n) // 25 - 1 for n in lengths]).to(torch.int32),
        "heads": HEADS,
    }
    return {name: x.to(dtype) for name, x in tensors.items()}, layout


def exact(tensors: dict[str, Tensor], layout: dict[str, object]) -> Tensor:
    """In float64, through the path with gradients."""
    return norm_attention(
        **{name: x.double().requires_grad_() for name, x in tensors.items()}, **layout
    ).detach()


def relative(got: Tensor, want: Tensor) -> float:
    return ((got.double() - want).norm() / want.norm()).item()


def test_attention_in_bfloat16_is_about_as_exact_as_pytorch():
    tensors, layout = attention([80, 80, 30], torch.bfloat16)
    want = exact(tensors, layout)
    with torch.no_grad():
        got = norm_attention(**tensors, **layout)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = norm_attention(**{name: x.float() for name, x in tensors.items()}, **layout)
    plain = norm_attention(**{n: x.clone().requires_grad_() for n, x in tensors.items()}, **layout)
    assert got.dtype == mixed.dtype == torch.bfloat16
    assert relative(got, want) < 2 * relative(plain.detach(), want) < 0.05
    assert relative(mixed, want) < 2 * relative(plain.detach(), want)


@pytest.mark.parametrize("sign", [1, -1])
def test_scores_beyond_the_range_of_exp_are_answered_as_softmax_answers_them(sign):
    """All keys alike, so that every score of a query is far above or below what exp can hold."""
    tensors, layout = attention([40], torch.bfloat16)
    tensors["weight"].zero_()
    tensors["weight"][2 * D :] = torch.randn(D, D)
    tensors["bias"][:D] = 30
    tensors["bias"][D : 2 * D] = 30 * sign  # scores of ± 900 √d on unrotated tokens
    layout["time"] = torch.full((40,), -1, dtype=torch.int32)
    with torch.no_grad():
        got = norm_attention(**tensors, **layout)
    assert got.isfinite().all()
    assert relative(got, exact(tensors, layout)) < 0.02


def test_hidden_keys_are_not_asked_in_bfloat16():
    tensors, layout = attention([40, 40], torch.bfloat16)
    layout["visible"] = torch.arange(80) % 3 > 0
    with torch.no_grad():
        before = norm_attention(**tensors, **layout)
        tensors["x"][::3] = 1  # hidden ones
        tensors["x"][::3] += torch.randn(27, D)
        after = norm_attention(**tensors, **layout)
    assert torch.equal(before[layout["visible"]], after[layout["visible"]])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [0, 1, 7, 1500])
def test_dense_parts_equal_those_with_gradients(rows, dtype):
    f = 24
    shapes = [(rows, D), (D,), (D,), (2 * f, D), (2 * f,), (D, f), (D,)]
    arguments = [
        (torch.randn(shape) * (0.1 if len(shape) > 1 and i else 1)).to(dtype)
        for i, shape in enumerate(shapes)
    ]
    residual, weight, bias = (
        torch.randn(rows, D).to(dtype),
        torch.randn(D, D).to(dtype),
        torch.randn(D).to(dtype),
    )
    tolerance = (
        {"rtol": 1e-10, "atol": 1e-10} if dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-5}
    )
    if dtype == torch.bfloat16:
        tolerance = {"rtol": 0.03, "atol": 0.1}
    for op, given in (
        (norm_swiglu, arguments),
        (linear_residual, [arguments[0], weight, bias, residual]),
    ):
        with torch.no_grad():
            got = op(*given)
        want = op(*(x.clone().requires_grad_() for x in given)).detach()
        assert got.dtype == want.dtype
        torch.testing.assert_close(got, want, **tolerance)


def test_float16_scores_leave_its_range():
    tensors, layout = attention([20], torch.float16)
    tensors["bias"][: 2 * D] = 150
    with torch.no_grad():
        got = norm_attention(**tensors, **layout)
    assert got.dtype == torch.float16
    assert relative(got, exact(tensors, layout)) < 0.02


def test_forward_mode_derivatives_pass():
    x, w, bias, residual, tangent = (torch.randn(6, 6) for _ in range(5))
    _, slope = torch.func.jvp(lambda x: linear_residual(x, w, bias[0], residual), (x,), (tangent,))
    torch.testing.assert_close(slope, tangent @ w.t())

"""embed_tokens as a registered op, and what it says of arguments that do not fit."""

import pytest
import torch
from slim_kernels import embed_tokens

from tests.kernels.embed_tokens.conftest import C, groups, parameters


def test_registration_holds():
    triton_ops = pytest.importorskip(
        "slim_kernels.embed_tokens.triton", reason="the Triton kernels need triton"
    )
    clips, masks = groups([(2, 2), (1, 1)], 5, True)
    masks = [torch.zeros(0, dtype=torch.bool) if mask is None else mask for mask in masks]
    clips, parts = [x.float() for x in clips], parameters(8, 5, 1, torch.float32)
    for index in (None, torch.tensor([0, 5, 11, 20])):
        torch.library.opcheck(triton_ops.embed_tokens, (clips, masks, *parts, index))
        plain = [p.detach() for p in parts]
        grad = torch.randn_like(triton_ops.embed_tokens(clips, masks, *plain, index))
        for wanted in ([True] * 5, [True, False, True, False, True]):
            torch.library.opcheck(
                triton_ops.embed_tokens_backward, (grad, clips, masks, *plain, index, wanted)
            )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clips": [torch.zeros(2, 5, 5, C)]}, "T a multiple of 2"),
        ({"clips": [torch.zeros(2, 4, 6, C)]}, r"clips\[0\]"),
        ({"clips": [torch.zeros(2, 4, 5, 2)]}, r"clips\[0\] must be of shape \(2, 4, 5, 3\)"),
        ({"masks": [torch.zeros(2, 2, 4).bool()]}, r"masks\[0\]"),
        ({"masks": []}, "1 groups and 0 masks"),
        ({"bias": torch.zeros(7)}, "bias"),
        ({"index": torch.tensor([0, 22])}, "within 0 and 21"),
        ({"index": torch.tensor([0], dtype=torch.int32)}, "index must be int64"),
        ({"weight": torch.zeros(8, 6)}, r"weight \(D, C, P\)"),
        ({"prefix": torch.zeros(8)}, r"prefix \(R, D\)"),
        ({"masks": [torch.zeros(2, 2, 5)]}, r"masks\[0\] must be bool"),
        ({"index": torch.zeros(3, dtype=torch.int64, device="meta")}, "index lies on meta"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    names = ("weight", "bias", "mask_token", "joints", "prefix")
    parts = dict(zip(names, parameters(8, 5, 1, torch.float32), strict=True))
    arguments = {"clips": [torch.zeros(2, 4, 5, C)], "masks": [None], **parts, **change}
    with pytest.raises(ValueError, match=message):
        embed_tokens(**arguments)

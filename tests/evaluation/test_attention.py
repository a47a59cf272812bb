"""CLS's attention is that of the block itself."""

import pytest
import torch

from slim_fast.errors import UserError
from slim_fast.evaluation.attention import attend_from_cls


@torch.no_grad()
def test_attention_is_what_the_packed_operation_weighs_values_by(encoder):
    """With one-hot values, the operation's output for CLS is its attention to each token."""
    clips, heads, features = torch.randn(3, 24, 25, 3), 2, 8
    shares = attend_from_cls(encoder, clips)
    assert shares.shape == (3, 3, 25)
    packed = encoder.pack([clips])
    block = encoder.blocks[-1]
    x = encoder.blocks[0](encoder.embed([clips], [None], packed), packed)
    queries, keys, _ = block.attn.qkv(block.norm1(x)).unflatten(1, (3, heads, features)).unbind(1)
    one_hot = torch.eye(78)[:, 3:].repeat(3, 1)  # after CLS and 2 registers: 75 patches
    weights = []
    for some in one_hot.split(features, 1):
        values = torch.nn.functional.pad(some, (0, features - some.shape[1]))
        values = values[:, None].expand(-1, heads, -1)
        out = packed.attend(torch.stack([queries, keys, values], 1).flatten(1), heads)
        weights.append(out[packed.cls_rows].unflatten(1, (heads, -1)).mean(1)[:, : some.shape[1]])
    torch.testing.assert_close(torch.cat(weights, 1), shares.flatten(1), atol=1e-5, rtol=1e-4)


def test_a_replaced_block_is_refused(encoder):
    encoder.blocks[-1] = torch.nn.Identity()
    with pytest.raises(UserError, match="own blocks"):
        attend_from_cls(encoder, torch.randn(1, 8, 25, 3))

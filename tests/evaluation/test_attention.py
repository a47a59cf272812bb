"""CLS's attention is that of the block itself."""

import pytest
import torch

from slim_fast.errors import UserError
from slim_fast.evaluation.attention import attend_from_cls


@torch.no_grad()
def test_attention_explains_what_the_block_adds_to_cls(encoder):
    """With values that are the numbers of the tokens, the block's attention output is the mean
    token number that CLS looks at.
    """
    clips = torch.randn(3, 24, 25, 3)
    shares = attend_from_cls(encoder, clips)
    assert shares.shape == (3, 3, 25)
    assert (shares > 0).all()
    packed = encoder.pack([clips])
    block, heads, width = encoder.blocks[-1], 2, 16
    x = encoder.blocks[0](encoder.embed([clips], [None], packed), packed)
    qkv = block.attn.qkv(block.norm1(x)).unflatten(1, (3, heads, -1))
    number = torch.eye(80)[:, 3:].repeat(3, 1)  # one-hot of patches; 2 registers and CLS before
    looked = []
    for token in range(0, 77, width // heads):  # as many tokens at a time as a head has features
        values = torch.zeros(240, heads, width // heads)
        some = number[:, token : token + width // heads]
        values[:, :, : some.shape[1]] = some[:, None]
        changed = torch.stack([qkv[:, 0], qkv[:, 1], values], 1).flatten(1)
        out = packed.attend(changed, heads)[packed.cls_rows].unflatten(1, (heads, -1)).mean(1)
        looked.append(out[:, : some.shape[1]])
    # 77 columns: those after the 75 patches are of no token
    torch.testing.assert_close(
        torch.cat(looked, 1)[:, :75], shares.flatten(1), atol=1e-5, rtol=1e-4
    )


def test_a_replaced_block_is_refused(encoder):
    encoder.blocks[-1] = torch.nn.Identity()
    with pytest.raises(UserError, match="own blocks"):
        attend_from_cls(encoder, torch.randn(1, 8, 25, 3))

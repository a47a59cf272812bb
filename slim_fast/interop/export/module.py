"""The module that is exported: the encoder in plain PyTorch operations on padded sequences."""

import torch
from einops import rearrange
from torch import Tensor, nn

from slim_fast.interop.classifier import SLiMClassifier
from slim_fast.interop.clips.people import find_present_people, zero_undetected
from slim_fast.interop.encoder import SLiMEncoder
from slim_fast.model.frozen import expect_unfrozen
from slim_fast.model.padded import encode_padded


class ExportModule(nn.Module):
    """An encoder or classifier without custom operations or reads on the host; B, T, M dynamic.

    It shares the weights, float32 or float64. Takes clips (B, C, T, V, M) in the weights' dtype, T
    a multiple of patch_frames; for any other length an operation raises. All people are computed;
    with skip_empty, outputs of those whose
    joints do not spread are zeros. Returns one tensor for each name in `axes`: for an encoder, CLS
    and patches, time-major, of the last block through the final LayerNorm, and bool who is present;
    for a classifier its logits (without a head: the pooled features).
    Raises: UserError for an optimized encoder, which has no plain weights any more.
    """

    def __init__(self, encoder: SLiMEncoder) -> None:
        super().__init__()
        expect_unfrozen(encoder)
        self.encoder = encoder

    @property
    def axes(self) -> dict[str, tuple[str | int, ...]]:
        """Output -> its axes, in forward's order; t = T / patch_frames."""
        encoder, config = self.encoder, self.encoder.config
        if isinstance(encoder, SLiMClassifier):
            if encoder.num_classes:
                return {"logits": ("B", encoder.num_classes)}
            return {"features": ("B", encoder.num_features)}
        return {
            "cls": ("B", "M", config.width),
            "patches": ("B", "M", f"{encoder.joints}*t", config.width),
            "present": ("B", "M"),
        }

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The outputs, in the order of `axes`."""
        encoder, prefix = self.encoder, 1 + self.encoder.config.registers
        x = zero_undetected(x, encoder.channel_names)
        batch, people = x.shape[0], x.shape[4]
        if encoder.skip_empty:
            present = find_present_people(x, encoder.channel_names)
        else:
            present = torch.ones(batch, people, dtype=torch.bool, device=x.device)
        clips = rearrange(x, "b c t v m -> (b m) t v c")
        depth, mask = encoder.config.depth, present.flatten()[:, None, None]
        layers = encode_padded(encoder, clips, None, range(depth - encoder.cls_blocks, depth))
        tokens = torch.where(mask, encoder.norm(layers[-1]), 0)  # (B * M, L, D)
        if isinstance(encoder, SLiMClassifier):
            features = {
                "x_norm_clstoken": tokens[:, 0],
                "x_norm_clstokens": encoder.norm(torch.stack([h[:, 0] for h in layers], 1)),
                "x_norm_patchtokens": tokens[:, prefix:],
                "people": present,
            }
            return (encoder.forward_head(features),)
        tokens = tokens.unflatten(0, (batch, people))
        return tokens[:, :, 0], tokens[:, :, prefix:], present

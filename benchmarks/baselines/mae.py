"""Masked autoencoders on skeletons in plain eager PyTorch: SkeletonMAE and MAMP.

SkeletonMAE (Wu et al., arXiv 2209.02399) in the form that MAMP's authors compare with: random
masking, coordinates are predicted. MAMP (Mao et al., arXiv 2308.07092): motion-aware masking,
motion (the difference to the next frame) is predicted; the decoder has 5 blocks, or 3. The loss is
the mean squared error at masked tokens. Targets normalised within each patch come from the masked
autoencoder of images (He et al., arXiv 2111.06377) and are in MAMP's published configurations; here
they are an option that is off, because only time is measured. The method to train is
slim_fast.model.mae, whose targets are tested against these.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.baselines.masking import motion, patches, take
from benchmarks.baselines.transformer import Decoder, MaskedConfig, MaskedModel, init_weights


@dataclass(frozen=True)
class MAEConfig(MaskedConfig):
    """The defaults are MAMP's."""

    decoder_depth: int = 5
    target: Literal["coordinates", "motion"] = "motion"
    normalised: bool = False
    """Every patch's target has mean 0 and variance 1."""


class MaskedAutoencoder(MaskedModel):
    """Encoder of the visible tokens, decoder of all; predicts what the masked patches hold."""

    config: MAEConfig

    def __init__(self, config: MAEConfig = MAEConfig()) -> None:
        super().__init__(config)
        self.decoder = Decoder(config, config.decoder_depth, config.patch_numbers)
        self.apply(init_weights)

    def targets(self, clips: Tensor) -> Tensor:
        """(B, N, patch frames * C) of clips (B, T, V, C)."""
        wanted = motion(clips) if self.config.target == "motion" else clips
        rows = patches(wanted, self.config.patch_frames)
        return F.layer_norm(rows, rows.shape[-1:], eps=1e-6) if self.config.normalised else rows

    def loss(self, clips: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Mean squared error at the masked tokens of clips (B, T, V, C), a scalar."""
        visible, masked = self.split(clips, generator)
        predicted = self.decoder(self.encoder(clips, visible), visible)  # (B, N, patch frames * C)
        return F.mse_loss(
            take(predicted, masked).float(), take(self.targets(clips), masked).float()
        )

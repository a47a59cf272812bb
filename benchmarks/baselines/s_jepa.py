"""S-JEPA in plain eager PyTorch (Abdelfattah and Alahi, "S-JEPA: A Joint Embedding Predictive
Architecture for Skeletal Action Recognition", ECCV 2024; known to us from its abstract and from
others' summaries).

Stated: the view encoder sees the visible tokens (motion-aware masking, 90 % masked), a predictor of
5 blocks fills in mask tokens and predicts the target encoder's output at masked tokens; the target
encoder sees all tokens, is the view encoder's moving average (momentum 0.9999, rising to 1 along a
cosine) and gets no gradient. The loss is the cross-entropy over the features between centred,
sharpened targets (temperature 0.06, centring rate 0.9) and sharpened predictions (0.1).

Assumed: only targets are centred, by a running mean of the target encoder's output at masked tokens
that starts at zero; the predictor's output is its normalised tokens, because its published cost,
the masked autoencoders' to the digit, is met best without a projection. Left to the caller: the
momentum's schedule and the geometric transformations of the views, so that here both encoders get
the same clips.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.baselines.masking import take
from benchmarks.baselines.transformer import Decoder, MaskedConfig, MaskedModel, init_weights


@dataclass(frozen=True)
class SJEPAConfig(MaskedConfig):
    """The defaults are the paper's."""

    decoder_depth: int = 5
    prediction_temperature: float = 0.1
    target_temperature: float = 0.06
    centre_rate: float = 0.9
    momentum: float = 0.9999


class SJEPA(MaskedModel):
    """View encoder, predictor (`decoder`) and target encoder."""

    config: SJEPAConfig
    centre: Tensor
    """(D,), the running mean that is taken off the targets."""

    def __init__(self, config: SJEPAConfig = SJEPAConfig()) -> None:
        super().__init__(config)
        self.decoder = Decoder(config, config.decoder_depth)
        self.apply(init_weights)
        self.target_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        self.register_buffer("centre", torch.zeros(config.width))

    def loss(self, clips: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Cross-entropy over features at the masked tokens of clips (B, T, V, C), a scalar.

        In training mode the centre then moves towards these targets, as batch norm's statistics do.
        """
        visible, masked = self.split(clips, generator)
        config = self.config
        with torch.no_grad():
            targets = take(self.target_encoder(clips), masked).float()  # (B, N - K, D)
            wanted = torch.softmax((targets - self.centre) / config.target_temperature, dim=-1)
            if self.training:
                self.centre.lerp_(
                    targets.mean((0, 1)).to(self.centre.dtype), 1 - config.centre_rate
                )
        predicted = take(self.decoder(self.encoder(clips, visible), visible), masked).float()
        log_softmax = torch.log_softmax(predicted / config.prediction_temperature, dim=-1)
        return -(wanted * log_softmax).sum(-1).mean()

    def training_step(
        self,
        optimizer: torch.optim.Optimizer,
        clips: Tensor,
        autocast: torch.dtype | None = None,
        generator: torch.Generator | None = None,
        *,
        momentum: float | None = None,
    ) -> dict[str, Tensor]:
        """A step, then target = momentum * target + (1 - momentum) * view encoder."""
        result = super().training_step(optimizer, clips, autocast, generator)
        self.update_target(self.config.momentum if momentum is None else momentum)
        return result

    @torch.no_grad()
    def update_target(self, momentum: float) -> None:
        """target = momentum * target + (1 - momentum) * view encoder."""
        target: list[Tensor] = list(self.target_encoder.parameters())
        view: list[Tensor] = list(self.encoder.parameters())
        torch._foreach_lerp_(target, view, 1 - momentum)

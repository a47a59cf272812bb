"""The eager baseline's sizes for a model of ours."""

from __future__ import annotations

from benchmarks.baselines.eager_slim import EagerConfig
from slim_fast.model.slim import ModelConfig


def eager_config(model: ModelConfig, joints: int, channels: int) -> EagerConfig:
    """The same sizes as the eager baseline is told them."""
    encoder, head = model.encoder, model.head
    return EagerConfig(
        joints=joints,
        channels=channels,
        width=encoder.width,
        depth=encoder.depth,
        heads=encoder.heads,
        registers=encoder.registers,
        patch_frames=encoder.patch_frames,
        head_hidden=head.hidden,
        head_width=head.bottleneck,
        prototypes=head.prototypes,
        koleo_weight=model.loss.koleo,
    )

"""The eager baselines in the sizes of a model of ours."""

from torch import nn

from benchmarks.baselines.eager_encoder import Encoder
from benchmarks.baselines.eager_slim import EagerConfig
from slim_fast.model.slim import ModelConfig


def eager_config(model: ModelConfig, joints: int, channels: int) -> EagerConfig:
    """The same sizes under the eager baseline's names."""
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


def eager_encoder_like(
    encoder: nn.Module, model: ModelConfig, joints: int, channels: int
) -> Encoder:
    """The eager encoder of the model's sizes with the weights of `encoder`, to infer with."""
    sizes = eager_config(model, joints, channels)
    eager = Encoder(joints, channels, sizes.width, sizes.depth, sizes.heads, sizes.registers)
    eager.load_state_dict(encoder.state_dict())
    return eager.eval()

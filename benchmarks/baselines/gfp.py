"""GFP in plain eager PyTorch (Sun et al., "Towards Efficient General Feature Prediction in Masked
Skeleton Modeling", ICCV 2025, arXiv 2509.03609; known to us from its abstract and from others'
summaries, we found no code).

Stated: instead of 750 patches the decoder predicts 251 features, from local motion to the whole
clip. Its tokens are averaged over time step by step, over windows of 5, 10 and 30 temporal tokens
(150, 75 and 25 tokens), then over everything (1 token), with transformer blocks at each level. The
targets come from a network of one 3-layer MLP a level, 512 hidden units for the local levels and
2,048 for the global one, which takes motion (differences of frames) and learns along: no moving
average, no stop of the gradient. Loss: 5 * squared error, and for each level 5 * covariance +
variance of its targets, threshold 1, as in VICReg (Bardes et al., arXiv 2105.04906). Encoder and
masking are MAMP's.

Assumed, each time what comes nearest to the published cost, which other choices might meet as well:
- Decoder blocks: 2, 1, 1 and 1 from the finest level to the global one, 5 in all like the other
  methods' decoders; the global level's block works on the 25 joints' tokens, whose mean is then
  taken. Each level ends in its own LayerNorm and one linear layer.
- Targets are as wide as the hidden layers (512 and 2,048), with ReLU between the layers and no
  batch norm. A local target's input is the patches' motion averaged over its window (12 numbers),
  the global one's is all of the clip's motion (9,000).
Assumed without such a guide: squared errors are averaged over features, then over targets; variance
and covariance are taken over all targets of a level in the batch.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import reduce
from torch import Tensor, nn

from benchmarks.baselines.masking import motion, patches
from benchmarks.baselines.transformer import (
    MaskedConfig,
    MaskedModel,
    MaskTokens,
    blocks,
    init_weights,
)


@dataclass(frozen=True)
class GFPConfig(MaskedConfig):
    """Levels from fine to coarse; the last of `level_blocks` is the global level's."""

    windows: tuple[int, ...] = (5, 10, 30)
    """Temporal tokens averaged at each local level; each divides the next, and the last the clip's.
    """
    level_blocks: tuple[int, ...] = (2, 1, 1, 1)
    local_hidden: int = 512
    global_hidden: int = 2048
    prediction_weight: float = 5.0
    covariance_weight: float = 5.0
    variance_weight: float = 1.0

    @property
    def level_tokens(self) -> tuple[int, ...]:
        """Targets of each level, (150, 75, 25, 1) with the paper's sizes."""
        return (*(self.times // window * self.joints for window in self.windows), 1)

    @property
    def level_widths(self) -> tuple[int, ...]:
        return (*[self.local_hidden] * len(self.windows), self.global_hidden)


def averaged(x: Tensor, window: int, joints: int) -> Tensor:
    """Time-major tokens, averaged over windows of time."""
    return reduce(x, "b (t w v) d -> b (t v) d", "mean", w=window, v=joints)


class PyramidDecoder(nn.Module):
    """Visible tokens (B, K, D) and their indices, int64 (B, K), to predictions level by level."""

    def __init__(self, config: GFPConfig) -> None:
        super().__init__()
        self.joints = config.joints
        steps = zip((1, *config.windows), config.windows, strict=False)
        self.steps = [coarse // fine for fine, coarse in steps]
        self.fill = MaskTokens(config)
        self.levels = nn.ModuleList(blocks(config, depth) for depth in config.level_blocks)
        self.heads = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(config.width), nn.Linear(config.width, out))
            for out in config.level_widths
        )

    def forward(self, visible: Tensor, indices: Tensor) -> list[Tensor]:
        """One (B, targets of the level, width of the level) for each level."""
        x = self.fill(visible, indices)
        predictions = []
        for step, level, head in zip(self.steps, self.levels, self.heads, strict=False):
            x = level(averaged(x, step, self.joints))
            predictions.append(head(x))
        whole = self.levels[-1](x).mean(1, keepdim=True)  # (B, 1, D)
        return [*predictions, self.heads[-1](whole)]


class TargetNetwork(nn.Module):
    """Motion of clips (B, T, V, C) to targets of the shapes that the decoder predicts."""

    def __init__(self, config: GFPConfig) -> None:
        super().__init__()
        self.config = config
        inputs = (
            *[config.patch_numbers] * len(config.windows),
            config.tokens * config.patch_numbers,
        )
        self.levels = nn.ModuleList(map(mlp, inputs, config.level_widths))

    def forward(self, clips: Tensor) -> list[Tensor]:
        moving = patches(motion(clips), self.config.patch_frames)  # (B, N, patch frames * C)
        windows = [averaged(moving, window, self.config.joints) for window in self.config.windows]
        return [
            level(x)
            for level, x in zip(self.levels, [*windows, moving.flatten(1)[:, None]], strict=True)
        ]


def mlp(wide: int, hidden: int) -> nn.Sequential:
    """Three layers, the last as wide as the hidden ones."""
    return nn.Sequential(
        nn.Linear(wide, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
    )


def spread(targets: Tensor) -> tuple[Tensor, Tensor]:
    """(variance term, covariance term), scalars, of rows (n, D): how far the features' standard
    deviations stay below 1, and the squared covariances of different features, summed and divided
    by D.
    """
    rows, width = targets.shape
    deviation = (targets.var(0, unbiased=rows > 1) + 1e-4).sqrt()
    centred = targets - targets.mean(0)
    covariance = centred.T @ centred / max(rows - 1, 1)
    between = covariance.square().sum() - covariance.diagonal().square().sum()
    return F.relu(1 - deviation).mean(), between / width


class GFP(MaskedModel):
    """Encoder, pyramid decoder and target network."""

    config: GFPConfig

    def __init__(self, config: GFPConfig = GFPConfig()) -> None:
        super().__init__(config)
        self.decoder = PyramidDecoder(config)
        self.apply(init_weights)
        # PyTorch's own initialisation: motion is small already
        self.target_network = TargetNetwork(config)

    def loss(self, clips: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Weighted error and spread of the targets of clips (B, T, V, C), a scalar."""
        visible, _ = self.split(clips, generator)
        config = self.config
        predictions = self.decoder(self.encoder(clips, visible), visible)
        targets = [target.float() for target in self.target_network(clips)]
        errors = [
            (p.float() - z).square().mean(-1) for p, z in zip(predictions, targets, strict=True)
        ]
        loss = config.prediction_weight * torch.cat(errors, 1).mean()
        with torch.autocast(clips.device.type, enabled=False):  # sums over the batch in fp32
            for target in targets:
                variance, covariance = spread(target.flatten(0, 1))
                loss = (
                    loss + config.variance_weight * variance + config.covariance_weight * covariance
                )
        return loss

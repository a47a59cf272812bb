"""Everything that a pre-training run can be told."""

from dataclasses import dataclass, field
from typing import Literal

from slim_fast.errors import UserError
from slim_fast.model.slim import ModelConfig
from slim_fast.views.pipeline import PATCH_FRAMES, ViewsConfig


@dataclass
class OptimConfig:
    """AdamW and its schedules, which move every step. Durations are shares of the run, so --steps scales them all."""

    learning_rate: float = 2e-4
    """Peak learning rate at a batch of 1024; scaled by sqrt(batch / 1024)."""
    final_learning_rate: float = 1e-6
    """Learning rate at the end of the cosine."""
    warmup: float = 20 / 150
    """Share of the steps with linear warm-up from 0."""
    weight_decay: tuple[float, float] = (0.04, 0.2)
    """First and last weight decay (cosine); biases and norms are not decayed."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's moments."""
    patch_embed_scale: float = 0.2
    """Learning rate of the patch embedding relative to the rest."""
    freeze_prototypes: float = 1 / 150
    """Share of the steps during which the prototypes stay as they are."""
    clip: float = 3.0
    """Largest gradient norm of the encoder and of each head, each on its own."""
    teacher_momentum: tuple[float, float] = (0.994, 1.0)
    """First and last momentum of the teacher's moving average (cosine)."""
    teacher_temperature: tuple[float, float] = (0.04, 0.07)
    """First and last temperature of the teacher (linear)."""
    teacher_temperature_warmup: float = 30 / 150
    """Share of the steps over which the teacher's temperature rises."""


@dataclass
class LogConfig:
    """What a run writes down, and how often (in steps)."""

    metrics_every: int = 10
    """Write losses and throughput to metrics.jsonl (and TensorBoard when it is installed)."""
    knn_every: int = 0
    """Online k-NN accuracy on the split's test clips; 0: ten times a run. Needs labels."""
    knn_clips: int = 2000
    """Most training and most test clips of the online k-NN."""
    checkpoint_every: int = 0
    """Write a checkpoint; 0: ten times a run."""
    keep: int = 3
    """Checkpoints kept."""
    plots: bool = True
    """Draw the plots at the end."""


@dataclass
class PretrainConfig:
    """SLiM pre-training (arXiv 2603.10648). The defaults are the paper's recipe for NTU; presets change them."""

    data: str = "synthetic"
    """A cache folder (see python -m slim_fast.data), or "synthetic": the embedded generator's actions."""
    split: str | None = None
    """Split whose training clips are used; none: the cache's first. "all" trains on every clip."""
    out: str | None = None
    """Run folder; none: runs/<preset>. The same command again resumes it."""
    steps: int = 187_500
    """Optimisation steps."""
    batch: int = 768
    """Clips a step."""
    seed: int = 0
    """Seed of weights, data order, views and masks."""
    device: str = "auto"
    """"cpu", "cuda", "cuda:1", ...; auto: cuda when there is one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16: autocast with fp32 master weights; auto: bf16 where the hardware multiplies it natively."""
    threads: int | None = None
    """CPU threads; none: all."""
    views: ViewsConfig = field(default_factory=ViewsConfig)
    """Views, augmentations and masks."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Encoder, heads and objective."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimisation."""
    log: LogConfig = field(default_factory=LogConfig)
    """Logging, evaluation on the way and checkpoints."""

    def check(self) -> None:
        """Raises UserError naming the first value that cannot work."""
        rules = [
            (self.steps >= 1, f"steps={self.steps}: at least 1 step is needed"),
            (self.batch >= 1, f"batch={self.batch}: at least 1 clip a step is needed"),
            (self.log.keep >= 1, f"log.keep={self.log.keep}: at least 1 checkpoint must be kept"),
            (self.log.metrics_every >= 1, f"log.metrics_every={self.log.metrics_every}: must be at least 1"),
            (self.optim.learning_rate > 0, f"optim.learning_rate={self.optim.learning_rate}: must be positive"),
            (
                self.model.head.prototypes >= 2,
                f"model.head.prototypes={self.model.head.prototypes}: must be at least 2",
            ),
            (
                all(
                    low <= high
                    for low, high in [
                        self.views.mask.ratio,
                        self.views.interval,
                        *(v.interval for v in self.views.local),
                    ]
                ),
                "views: the first number of an interval must not be above the second",
            ),
            (
                self.views.mask.ratio[0] >= 0 and self.views.mask.ratio[1] <= 1,
                "views.mask.ratio must lie within 0 and 1",
            ),
            (
                all(
                    w >= 8 and w % PATCH_FRAMES == 0 for w in [self.views.window, *(v.window for v in self.views.local)]
                ),
                f"views: every window must be a multiple of {PATCH_FRAMES} frames",
            ),
            (
                self.model.encoder.patch_frames == PATCH_FRAMES,
                f"model.encoder.patch_frames={self.model.encoder.patch_frames}: masks are drawn for {PATCH_FRAMES}",
            ),
            (
                any((self.model.loss.contrastive, self.model.loss.masked)),
                "model.loss: contrastive or masked needs a weight above 0",
            ),
        ]
        for holds, sentence in rules:
            if not holds:
                raise UserError(sentence + ".")

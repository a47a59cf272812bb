"""Everything that a pre-training run can be told."""

from dataclasses import asdict, dataclass, field
from math import inf
from typing import Any, Literal

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
        views, encoder, head, loss = self.views, self.model.encoder, self.model.head, self.model.loss
        optim, log = self.optim, self.log
        bounds: list[tuple[str, Any, float, float]] = [
            ("steps", self.steps, 1, inf),
            ("batch", self.batch, 1, inf),
            ("seed", self.seed, -(2**63), 2**63 - 1),
            ("threads", 1 if self.threads is None else self.threads, 1, inf),
            ("views.interval", views.interval, 0, 1),
            *((f"views.local.{i}.interval", local.interval, 0, 1) for i, local in enumerate(views.local)),
            *((f"views.local.{i}.count", local.count, 1, inf) for i, local in enumerate(views.local)),
            ("views.mask.ratio", views.mask.ratio, 0, 1),
            ("views.mask.global_share", views.mask.global_share, 0, 1),
            ("model.encoder.depth", encoder.depth, 1, inf),
            ("model.encoder.registers", encoder.registers, 0, inf),
            ("model.encoder.patch_frames", encoder.patch_frames, PATCH_FRAMES, PATCH_FRAMES),  # masks are drawn for it
            ("model.head.hidden", head.hidden, 1, inf),
            ("model.head.bottleneck", head.bottleneck, 1, inf),
            ("model.head.prototypes", head.prototypes, 2, inf),
            *((f"model.loss.{term}", weight, 0, inf) for term, weight in asdict(loss).items()),
            ("optim.final_learning_rate", optim.final_learning_rate, 0, inf),
            ("optim.weight_decay", optim.weight_decay, 0, inf),
            ("optim.betas", optim.betas, 0, 1 - 1e-12),
            ("optim.patch_embed_scale", optim.patch_embed_scale, 0, inf),
            ("optim.warmup", optim.warmup, 0, 1),
            ("optim.freeze_prototypes", optim.freeze_prototypes, 0, 1),
            ("optim.teacher_temperature_warmup", optim.teacher_temperature_warmup, 0, 1),
            ("optim.teacher_momentum", optim.teacher_momentum, 0, 1),
            ("optim.teacher_temperature", optim.teacher_temperature, 0.004, inf),
            ("log.metrics_every", log.metrics_every, 1, inf),
            ("log.knn_every", log.knn_every, 0, inf),
            ("log.knn_clips", log.knn_clips, 1, inf),
            ("log.checkpoint_every", log.checkpoint_every, 0, inf),
            ("log.keep", log.keep, 1, inf),
        ]
        for name, value, low, high in bounds:
            if not all(low <= v <= high and v < inf for v in (value if isinstance(value, tuple) else (value,))):
                limit = f"must be at least {low}" if high == inf else f"must lie within {low} and {high}"
                raise UserError(f"{name}={value}: {limit}.")
        rules = [
            (
                self.data != "",
                "data is not set: name a cache with --data, made by `python -m slim_fast.data convert IN OUT` "
                '(or "synthetic", the embedded generator)',
            ),
            (
                all(
                    low <= high
                    for low, high in [views.mask.ratio, views.interval, *(local.interval for local in views.local)]
                ),
                "views: the first number of an interval must not be above the second",
            ),
            (
                all(w >= 8 and w % PATCH_FRAMES == 0 for w in [views.window, *(v.window for v in views.local)]),
                f"views: every window must be a multiple of {PATCH_FRAMES} frames",
            ),
            (loss.contrastive or loss.masked, "model.loss: contrastive or masked needs a weight above 0"),
            *(
                (value > 0, f"{name}={value}: must be positive")
                for name, value in [
                    ("model.encoder.ffn_ratio", encoder.ffn_ratio),
                    ("views.mask.motion_temperature", views.mask.motion_temperature),
                    ("optim.learning_rate", optim.learning_rate),
                    ("optim.clip", optim.clip),
                ]
            ),
        ]
        for holds, sentence in rules:
            if not holds:
                raise UserError(sentence + ".")

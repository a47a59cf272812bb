"""The settings of a pre-training run."""

import json
from dataclasses import asdict, dataclass, field
from math import inf
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, Lt

from slim_fast.errors import UserError, program_name
from slim_fast.limits import Count, CountOrZero, NonNegative, Positive, Share, check_config
from slim_fast.model.mae import MAEConfig
from slim_fast.model.slim import ModelConfig
from slim_fast.views.pipeline import PATCH_FRAMES, ViewsConfig

Beta = Annotated[float, Ge(0), Lt(1)]
Temperature = Annotated[float, Ge(0.004), Lt(inf)]
"""Of the teacher: below, its assignments overflow."""
_UNREAD = {
    "slim": ("mae.",),
    "mae": (
        "model.head.",
        "model.loss.",
        "model.encoder.attention",
        "views.mask.local",
        "views.mask.shuffle_local",
        "optim.freeze_prototypes",
        "optim.teacher_",
    ),
}
"""How the names of those fields begin that a method does not read: they stay at their defaults."""


@dataclass
class OptimConfig:
    """AdamW and its schedules, which move every step. Durations are shares of the run."""

    learning_rate: Positive = 2e-4
    """Peak learning rate at a batch of 1024; scaled by sqrt(batch / 1024)."""
    final_learning_rate: NonNegative = 1e-6
    """Learning rate at the end of the cosine."""
    warmup: Share = 20 / 150
    """Share of the steps with linear warm-up from 0."""
    weight_decay: tuple[NonNegative, NonNegative] = (0.04, 0.2)
    """First and last weight decay (cosine); biases and norms are not decayed."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """AdamW's moments."""
    patch_embed_scale: NonNegative = 0.2
    """Learning rate of the patch embedding relative to the rest."""
    freeze_prototypes: Share = 1 / 150
    """Share of the steps during which the prototypes stay as they are."""
    clip: Positive = 3.0
    """Largest gradient norm of the encoder and of each head, each on its own."""
    teacher_momentum: tuple[Share, Share] = (0.994, 1.0)
    """First and last momentum of the teacher's moving average (cosine)."""
    teacher_temperature: tuple[Temperature, Temperature] = (0.04, 0.07)
    """First and last temperature of the teacher (linear)."""
    teacher_temperature_warmup: Share = 30 / 150
    """Share of the steps over which the teacher's temperature rises."""


@dataclass
class LogConfig:
    """What a run writes down, and how often (in steps)."""

    metrics_every: Count = 10
    """Write losses and throughput to metrics.jsonl (and TensorBoard when it is installed)."""
    knn_every: CountOrZero = 0
    """Online k-NN accuracy on the split's test clips; 0: ten times a run. Needs labels."""
    knn_clips: Count = 2000
    """Most training and most test clips of the online k-NN."""
    checkpoint_every: CountOrZero = 0
    """Write a checkpoint; 0: ten times a run."""
    checkpoint_minutes: NonNegative = 15.0
    """Write one as well when the last is so many minutes old; 0: by steps alone."""
    keep: Count = 3
    """Newest checkpoints to keep."""
    plots: bool = True
    """Draw the plots at the end."""
    tracker: Literal["wandb", "mlflow"] | None = None
    """Send what metrics.jsonl holds to Weights & Biases or MLflow too, by their own libraries."""
    profile: CountOrZero = 0
    """Trace so many steps, once the first few are done, into trace.json.gz in the run folder, which
    ui.perfetto.dev opens, and print what each part of a step takes; 0: none.
    """


@dataclass
class PretrainConfig:
    """SLiM pre-training (arXiv 2603.10648). The defaults are the paper's recipe for NTU."""

    method: Literal["slim", "mae"] = "slim"
    """slim, or mae: a masked autoencoder (MAMP) of the same encoder, to compare with; a preset's
    values are then those of the preset mae-NAME.
    """
    data: str = "synthetic"
    """A cache folder (see python -m slim_fast.data), or "synthetic", generated actions."""
    split: str | None = None
    """Split whose training clips are used; none: the cache's first. "all" trains on every clip."""
    out: str | None = None
    """Run folder; none: runs/PRESET. The same command again resumes it."""
    init: str | None = None
    """Encoder to start from instead of random weights: a run, an encoder folder, a .pth file or a
    Hugging Face name; carried over to another skeleton by the joints' names.
    """
    steps: Count = 187_500
    """Optimisation steps. A run that is stopped or finished goes on with more; its schedules are
    from there on those of the longer run.
    """
    batch: Count = 768
    """Clips a step, of all processes together; auto: the preset's, with fit_batch."""
    fit_batch: bool = False
    """Halve the batch until a step fits the device's memory. A resumed run keeps what was found."""
    accumulate: Count = 1
    """Parts that a process computes its share of a batch in, one after the other: less memory, the
    same step. SLiM then encodes the global views twice.
    """
    sharding: Literal["ddp", "fsdp"] = "ddp"
    """How several processes hold the weights. ddp: each all of them; fsdp (FSDP2): each a part of
    every weight, its gradient and the optimiser's state. The results are the same.
    """
    seed: Annotated[int, Ge(-(2**63)), Le(2**63 - 1)] = 0
    """Seed of weights, data order, views and masks."""
    device: str = "auto"
    """"cpu", "cuda", "cuda:1", ...; auto: cuda when there is one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16: autocast with fp32 master weights; auto: bf16 where the hardware has it natively."""
    data_memory: Literal["auto", "device", "host", "mapped"] = "auto"
    """Where the clips are: device memory, host memory (pinned for a GPU), or on disk, mapped into
    memory, of which a step reads its own. auto: the first of them that has room.
    """
    data_dtype: Literal["fp32", "fp16"] = "fp32"
    """How they are kept there. fp16 halves the memory and rounds coordinates to 11 bits."""
    graph: Literal["auto", "on", "off"] = "auto"
    """Launch a step as one CUDA graph. auto: where nothing is computed in vain for it, on one GPU
    with the clips in its memory.
    """
    threads: Count | None = None
    """CPU threads; none: all."""
    max_wait: Positive = 30.0
    """Minutes that processes wait for each other within a step; then the run ends, and names those
    that did not come.
    """
    max_hours: Positive | None = None
    """Save and stop after so many hours, counted from each start; none: never."""
    views: ViewsConfig = field(default_factory=ViewsConfig)
    """Views, augmentations and masks."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Encoder, heads and objective."""
    mae: MAEConfig = field(default_factory=MAEConfig)
    """Decoder and targets of the method mae."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimisation."""
    log: LogConfig = field(default_factory=LogConfig)
    """Logging, evaluation on the way and checkpoints."""

    def to_json(self) -> dict[str, Any]:
        """The fields, nested, as JSON gives them back."""
        return json.loads(json.dumps(asdict(self)))

    def check(self) -> None:
        """Raises: UserError naming the first value that cannot work."""
        check_config(self)
        if not self.data:
            raise UserError(
                f"data is not set: name a cache with --data, made by `{program_name('data')} "
                'convert IN OUT` (or "synthetic", the embedded generator).'
            )
        patch = self.model.encoder.patch_frames
        if patch != PATCH_FRAMES:
            raise UserError(
                f"model.encoder.patch_frames={patch}: must be {PATCH_FRAMES}, for which masks are "
                "drawn."
            )
        window = self.model.encoder.window
        if window not in (type(self.model.encoder).window, self.views.window):
            raise UserError(
                f"model.encoder.window={window}: an encoder is evaluated at the frames that it is "
                "trained with: set views.window instead."
            )
        self._check_method()

    def _check_method(self) -> None:
        """Raises: UserError naming the first field that the method does not read, or can't take."""
        for name, _, _ in find_differences(PretrainConfig().to_json(), self.to_json()):
            if name.startswith(_UNREAD[self.method]):
                raise UserError(
                    f"{name} is not read by the method {self.method}: leave it out, or choose "
                    "another --method."
                )
        mask = self.views.mask
        if self.method == "mae" and (
            self.views.local or mask.global_share != 1 or not mask.ratio[0]
        ):
            raise UserError(
                "The method mae reconstructs masked tokens of global views alone: set "
                "views.local=[], views.mask.global_share=1 and a views.mask.ratio above 0."
            )


def find_differences(before: Any, now: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    """(dotted name, before, now) of the fields in which nested dictionaries differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() | now.keys())
        return [
            d
            for k in keys
            for d in find_differences(before.get(k), now.get(k), f"{name}.{k}" if name else k)
        ]
    return [] if before == now else [(name, before, now)]

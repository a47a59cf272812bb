"""How an encoder is tuned."""

from dataclasses import dataclass, replace
from typing import Literal

from slim_fast.errors import UserError

EPOCHS = 20
PUBLISHED_ITERATIONS, PUBLISHED_BATCH = 20_000, 256


@dataclass(frozen=True)
class TuningRecipe:
    """Settings of one tuning.

    Attributes:
        optimizer: AdamW (0.9, 0.999), or SGD with momentum 0.9; the learning rate falls to 0 by a
            cosine.
        learning_rate: of the head.
        encoder_share: of that rate for the encoder's last block.
        layer_decay: each layer learns so much as fast as the one after it.
        weight_decay: not of biases, norms and tokens.
        warmup: share of the iterations in which the learning rate grows from 0.
        drop_path: see `Encoder.set_drop_path`.
        label_smoothing: share of the target that all classes get alike.
        mixup: alpha of the Beta distribution that clips are mixed by; 0: not mixed.
        clip_norm: largest norm of the gradient; 0: any.
        augment: of clips, beside a random crop in time (`AUGMENTATIONS` of
            `slim_fast.evaluation.augmented`); "none": the evaluation clips as they are.
    """

    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 2e-3
    encoder_share: float = 1.0
    layer_decay: float = 0.75
    weight_decay: float = 0.05
    warmup: float = 0.1
    drop_path: float = 0.1
    label_smoothing: float = 0.1
    mixup: float = 0.0
    clip_norm: float = 3.0
    batch: int = 32
    augment: Literal["none", "careful", "published"] = "careful"

    def __post_init__(self) -> None:
        checks = (
            ("drop path", self.drop_path, 0 <= self.drop_path < 1, "at least 0, less than 1"),
            ("label smoothing", self.label_smoothing, 0 <= self.label_smoothing <= 1, "0 to 1"),
            ("layer decay", self.layer_decay, 0 < self.layer_decay <= 1, "more than 0, at most 1"),
            ("mixup", self.mixup, self.mixup >= 0, "at least 0"),
            ("learning rate", self.learning_rate, self.learning_rate > 0, "more than 0"),
            ("batch", self.batch, self.batch >= 1, "at least 1"),
        )
        for name, value, is_good, limits in checks:
            if not is_good:
                raise UserError(f"{name} {value}: must be {limits}.")

    def from_scratch(self) -> "TuningRecipe":
        """The same for an encoder that was not trained: no layer has anything to keep."""
        return replace(self, layer_decay=1.0, encoder_share=1.0)


def published_semi(batch: int = PUBLISHED_BATCH) -> TuningRecipe:
    """The paper's tuning on few labels (recipe, section 7): SGD, encoder 1e-5, head 1e-3, for a
    batch of 256.
    """
    return TuningRecipe(
        optimizer="sgd",
        learning_rate=1e-3 * batch / 256,
        encoder_share=0.01,
        layer_decay=1.0,
        weight_decay=1e-4,
        warmup=0.0,
        drop_path=0.0,
        label_smoothing=0.0,
        clip_norm=0.0,
        batch=batch,
        augment="published",
    )


def default_iterations(clips: int, batch: int, least: int) -> int:
    """How long `clips` are tuned on: 20 epochs, `least` to 20,000 iterations."""
    return min(max(EPOCHS * clips // batch, least), PUBLISHED_ITERATIONS)

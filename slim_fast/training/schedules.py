"""Values that move every step, as pure functions of the step (recipe of the paper, appendix)."""

import math
from dataclasses import dataclass
from typing import ClassVar

from slim_fast.training.config import OptimConfig


def cosine(first: float, last: float, progress: float) -> float:
    """Half a cosine from `first` (progress 0) to `last` (progress 1)."""
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))


@dataclass(frozen=True)
class ScheduleValues:
    """The schedules' values at one step."""

    learning_rate: float
    weight_decay: float
    teacher_momentum: float
    teacher_temperature: float
    prototypes_frozen: bool

    teacher_sharpness: ClassVar[None] = None
    """The temperature is known as it is."""

    @property
    def teacher_share(self) -> float:
        """How far the teacher goes towards the student."""
        return 1 - self.teacher_momentum


def compute_schedules(step: int, steps: int, batch: int, config: OptimConfig) -> ScheduleValues:
    """Schedules at `step` (from 0) of `steps`."""
    progress = step / max(steps - 1, 1)
    warmup = config.warmup * steps
    peak = config.learning_rate * math.sqrt(batch / 1024)
    if step < warmup:
        learning_rate = peak * step / warmup
    else:
        learning_rate = cosine(
            peak, config.final_learning_rate, (step - warmup) / max(steps - 1 - warmup, 1)
        )
    low, high = config.teacher_temperature
    heated = min(step / max(config.teacher_temperature_warmup * steps, 1), 1.0)
    return ScheduleValues(
        learning_rate=learning_rate,
        weight_decay=cosine(*config.weight_decay, progress),
        teacher_momentum=cosine(*config.teacher_momentum, progress),
        teacher_temperature=low + (high - low) * heated,
        prototypes_frozen=step < config.freeze_prototypes * steps,
    )

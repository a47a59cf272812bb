"""What moves from step to step as tensors on the device, so that a step is the same work each time.

The host writes these tensors before a step and reads none of them in it. A CUDA graph of the step,
captured once, then serves every step.
"""

import torch
from torch import Tensor

from slim_fast.training.schedules import ScheduleValues
from slim_fast.views.store import send


class MovingValues:
    """The schedules (`Schedules`), the clips and the number of a step, and whether all was finite.

    From the first step on whose loss or gradient is not finite, updates change nothing: weights,
    moments and the teacher stay those before it, however late the host looks.

    Args:
        optimizer: of `build_optimizer`.
        batch: clips of a step.
        temperatures: the teacher's, of a whole run. Kernels are launched with the lowest, and the
            teacher's rows are scaled by what the temperature is above it.
    """

    def __init__(
        self,
        optimizer: torch.optim.AdamW,
        batch: int,
        temperatures: tuple[float, float],
        device: torch.device,
    ) -> None:
        self._optimizer, self._groups = optimizer, len(optimizer.param_groups)
        self._decayed = [bool(group["decayed"]) for group in optimizer.param_groups]
        self._scales = [float(group["lr_scale"]) for group in optimizer.param_groups]
        self.teacher_temperature, self.prototypes_frozen = min(temperatures), False
        # CUDA's AdamW reads a float32; the CPU's computes with a float64, as with a number
        dtype = torch.float64 if device.type == "cpu" else torch.float32
        self._numbers = torch.zeros(2 * self._groups + 2, dtype=dtype, device=device)
        self.clips = torch.zeros(batch, dtype=torch.int64, device=device)
        """int64 (B,), the store's clip numbers."""
        self.step = torch.zeros((), dtype=torch.int64, device=device)
        """int64 (), from 0."""
        self.first_bad = torch.full((), -1, dtype=torch.int64, device=device)
        """int64 (), the first step that was not finite, -1 while there was none."""
        self._is_good = self.first_bad < 0

    def fill(self, step: int, now: ScheduleValues, clips: Tensor) -> None:
        """Write the values of a step. clips: int64 (B,) on the host."""
        rates = [now.learning_rate * scale for scale in self._scales]
        kept = [
            1 - rate * now.weight_decay if decayed else 1.0
            for rate, decayed in zip(rates, self._decayed, strict=True)
        ]
        sharpness = self.teacher_temperature / now.teacher_temperature
        numbers = torch.tensor(
            [*rates, *kept, now.teacher_share, sharpness], dtype=self._numbers.dtype
        )
        self._numbers.copy_(send(numbers, self.step.device))
        self.clips.copy_(send(clips, self.step.device))
        self.step.fill_(step)
        self.prototypes_frozen = now.prototypes_frozen

    @property
    def teacher_share(self) -> Tensor:
        """float32 (), see `Schedules`; 0 after a step that was not finite."""
        return torch.where(self._is_good, self._numbers[-2], 0.0).float()

    @property
    def teacher_sharpness(self) -> Tensor:
        """A scalar, see `Schedules`."""
        return self._numbers[-1]

    def check(self, value: Tensor) -> None:
        """Note this step if a scalar is not finite and it is the first such step."""
        is_first = (self.first_bad < 0) & ~torch.isfinite(value)
        self.first_bad.copy_(torch.where(is_first, self.step, self.first_bad))
        self._is_good = self.first_bad < 0

    @torch.no_grad()
    def update(self) -> None:
        """AdamW's update, after `check`."""
        numbers = self._numbers.unbind()
        for number, group in enumerate(self._optimizer.param_groups):
            # of AdamW's numbers only the learning rate may be a tensor
            group["lr"], group["weight_decay"] = numbers[number], 0.0
            group["capturable"] = True
            params = [p for p in group["params"] if p.grad is not None]
            if self._decayed[number] and params:
                kept = torch.where(self._is_good, numbers[self._groups + number], 1.0)
                torch._foreach_mul_(params, kept)
        # the fused kernels then leave everything as it is
        self._optimizer.found_inf = (~self._is_good).float()  # type: ignore[attr-defined]
        self._optimizer.step()

    def read_first_bad(self) -> int | None:
        """The first step that was not finite, forgotten with this; None: there was none. Waits for
        the device.
        """
        step = int(self.first_bad)
        if step < 0:
            return None
        self.first_bad.fill_(-1)
        return step

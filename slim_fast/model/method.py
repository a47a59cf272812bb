"""What the trainer asks of a method that pre-trains an encoder."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch.distributed as dist
from torch import Tensor, nn

from slim_fast.model.encoder import Encoder
from slim_fast.views.pipeline import ViewBatch


class Schedules(Protocol):
    """The values of a step that a method may follow, beside the optimiser's."""

    @property
    def teacher_share(self) -> float | Tensor:
        """How far the teacher goes towards the student, 1 - momentum."""

    @property
    def teacher_temperature(self) -> float: ...
    @property
    def teacher_sharpness(self) -> Tensor | None:
        """What the temperature is divided by, where the device alone knows it; None: 1."""

    @property
    def prototypes_frozen(self) -> bool: ...


class Method(nn.Module, ABC):
    """A loss of views, the networks that learn from it, and the encoder that comes out."""

    encoder_name: ClassVar[str]
    """Name, among the method's modules, of the encoder that is evaluated and saved."""
    follows: ClassVar[tuple[str, ...]] = ()
    """The values of `Schedules` that it reads."""
    group: dist.ProcessGroup | None = None
    """The processes that each have as large a part of every batch; None: this one alone."""

    fixed_shapes: bool | None = None
    """Whether no tensor's size may depend on the masks. Then some tokens are computed in vain, and
    the host reads nothing from views to updated weights, as a CUDA graph demands. None: on a GPU,
    where it costs nearly nothing.
    """

    @property
    def trained(self) -> nn.Module:
        """What the optimiser moves, the encoder first; each child's gradient is clipped alone."""
        return self

    @property
    def evaluated(self) -> Encoder:
        """The encoder that is evaluated and saved."""
        encoder = self.get_submodule(self.encoder_name)
        assert isinstance(encoder, Encoder)
        return encoder

    @abstractmethod
    def losses(self, views: ViewBatch, now: Schedules, part: Any = None) -> dict[str, Tensor]:
        """Scalars of a batch of views: "loss", and the terms it is the sum of, if several.

        part: of `survey`. The mean over all parts is then the whole batch's loss.
        """

    def survey(self, parts: Sequence[ViewBatch], now: Schedules) -> list[Any]:
        """What `losses` needs of the whole batch, for each of this process' parts of it."""
        return [None] * len(parts)

    def before_update(self, now: Schedules) -> None:
        """Change the gradients of a step before they are clipped."""

    def after_update(self, now: Schedules) -> None:
        """Change what follows the trained weights once they have moved."""

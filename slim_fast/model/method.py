"""What the trainer asks of a method that pre-trains an encoder."""

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol

from torch import Tensor, nn

from slim_fast.model.encoder import Encoder
from slim_fast.views.pipeline import ViewBatch


class Schedules(Protocol):
    """The values of a step that a method may follow, beside the optimiser's."""

    @property
    def teacher_momentum(self) -> float: ...
    @property
    def teacher_temperature(self) -> float: ...
    @property
    def prototypes_frozen(self) -> bool: ...


class Method(nn.Module, ABC):
    """A loss of views, the networks that learn from it, and the encoder that comes out."""

    encoder_name: ClassVar[str]
    """Name, among the method's modules, of the encoder that is evaluated and saved."""
    follows: ClassVar[tuple[str, ...]] = ()
    """The values of `Schedules` that it reads."""

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
    def losses(self, views: ViewBatch, now: Schedules) -> dict[str, Tensor]:
        """Scalars of a batch of views: "loss", and the terms it is the sum of, if several."""

    def before_update(self, now: Schedules) -> None:
        """Change the gradients of a step before they are clipped."""

    def after_update(self, now: Schedules) -> None:
        """Change what follows the trained weights once they have moved."""

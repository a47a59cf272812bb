"""What all adapters share: constructors that read a checkpoint, and a check of the first clips."""

from typing import Any

from einops import rearrange
from torch import Tensor
from typing_extensions import Self

from slim_fast.interop.adapters.arguments import (
    Requested,
    Source,
    Unused,
    resolve_description,
    warn_unused,
)
from slim_fast.interop.adapters.posture import warn_if_lying
from slim_fast.interop.checkpoints.read import Checkpoint
from slim_fast.interop.classifier import SLiMClassifier, resolve_head
from slim_fast.interop.encoder import SLiMEncoder

_OPTIONS = ("pool", "people_pool", "cls_blocks", "dropout", "skip_empty")


class PretrainedEncoder(SLiMEncoder):
    """An encoder whose constructor takes `pretrained`; `from_pretrained` takes its other arguments.

    The first clips are checked: feeders may rotate bodies away from how the encoder was trained.
    """

    @classmethod
    def _from_checkpoint(cls, checkpoint: Checkpoint, **options: Any) -> Self:
        return cls(pretrained=checkpoint, **options)  # type: ignore[call-arg]

    def _look_at(self, x: Tensor) -> None:
        super()._look_at(x)
        clips = rearrange(x, "b c t v m -> (b m) t v c")
        warn_if_lying(type(self).__name__, clips, self.topology, self.channel_names)


class Adapter(PretrainedEncoder, SLiMClassifier):
    """A classifier with the constructor of another code base.

    Clips whose length is no multiple of 8 frames are resampled. Nothing is centred or scaled: clips
    are as that code base's feeder makes them.

    Args:
        pretrained: an encoder or run folder, .pth or hub name; sizes, skeleton and, where classes
            agree, head are its.
        requested: sizes that the code base's arguments give; see `resolve_description`.
        unused: see `warn_unused`.
        num_classes: None: the checkpoint's, or 60.
        others: pool, people_pool, cls_blocks, dropout and skip_empty go to SLiMClassifier, the rest
            is unused.
    """

    def __init__(
        self,
        pretrained: Source,
        requested: Requested,
        unused: Unused,
        num_classes: int | None = None,
        **others: Any,
    ) -> None:
        name = f"{type(self).__module__.rpartition('.')[2]}.{type(self).__name__}"
        about, checkpoint = resolve_description(name, pretrained, requested)
        options = {
            "num_classes": num_classes,
            **{k: others.pop(k) for k in _OPTIONS if k in others},
        }
        options |= (
            resolve_head(checkpoint, options)
            if checkpoint
            else {"num_classes": 60 if num_classes is None else num_classes}
        )
        options |= {"topology": about.topology, "channels": about.channels}
        super().__init__(config=about.config, resample=True, **options)
        if checkpoint is not None:
            self.load_checkpoint(checkpoint)
        # Unused without masks; weight decay would change it.
        self.mask_token.requires_grad_(False)
        warn_unused(name, {**unused, **{k: (v, None) for k, v in others.items()}})

"""Classification and fine-tuning: a linear head on the encoder's features of everybody present."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from typing_extensions import Self

from slim_fast.errors import UserError
from slim_fast.interop.checkpoint import Checkpoint
from slim_fast.interop.encoder import SLiMEncoder
from slim_fast.model.encoder import EncoderConfig
from slim_fast.model.files import Description
from slim_fast.skeletons import Topology

TokenPool = Literal["cls", "mean", "cls+mean"]
PeoplePool = Literal["sum", "mean", "max"]
_HEAD_SPREAD = 0.01
_OF_HEAD = ("num_classes", "pool")  # what a trained head is for


class SLiMClassifier(SLiMEncoder):
    """The encoder with a head, `head`, in timm's terms (paper section 4, fine-tuning and linear protocols).

    Args:
        num_classes: logits; 0: no head, the pooled features come out.
        pool: what of a person's tokens the head reads: CLS, the mean patch, or both (the released protocol).
        people_pool: how people are put together, without those who are skipped as empty; zeros where nobody is. The
            released protocol sums.
        dropout: share of the pooled features that is dropped, in training only.
        class_names: of the logits; kept by checkpoints and exported files.
        topology, channels, config, skip_empty, resample: see SLiMEncoder.

    `from_pretrained` gives a classifier its head, pools and names, and an encoder a new head; so do num_classes or pool
    other than the checkpoint's. Dropout is not kept.
    """

    head: nn.Module

    def __init__(
        self,
        num_classes: int = 60,
        topology: Topology | str | int = "ntu-25",
        channels: str = "xyz",
        config: EncoderConfig | None = None,
        *,
        pool: TokenPool = "cls+mean",
        people_pool: PeoplePool = "sum",
        dropout: float = 0.0,
        class_names: Sequence[str] | None = None,
        skip_empty: bool = True,
        resample: bool = False,
    ) -> None:
        super().__init__(topology, channels, config, skip_empty=skip_empty, resample=resample)
        for name, value, known in (
            ("pool", pool, ("cls", "mean", "cls+mean")),
            ("people_pool", people_pool, ("sum", "mean", "max")),
        ):
            if value not in known:
                raise UserError(f"{name}={value!r} is not known: choose one of {', '.join(known)}.")
        self.pool, self.people_pool = pool, people_pool
        self.head_drop = nn.Dropout(dropout)
        self.reset_classifier(num_classes)
        self.name_classes(class_names)

    @property
    def num_features(self) -> int:
        """What the head reads."""
        return self.config.width * (2 if self.pool == "cls+mean" else 1)

    @property
    def head_hidden_size(self) -> int:
        """What the head reads."""
        return self.num_features

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """A new head; 0 classes: none. Raises: UserError for anything but a whole number of at least 0."""
        if not isinstance(num_classes, int) or num_classes < 0:
            raise UserError(f"num_classes={num_classes!r}: must be a whole number of at least 0.")
        self.num_classes = num_classes
        self.class_names: tuple[str, ...] | None = None
        if not num_classes:
            self.head = nn.Identity()
            return
        like = self.pos_embed
        head = nn.Linear(self.num_features, num_classes, device=like.device, dtype=like.dtype)
        nn.init.trunc_normal_(head.weight, std=_HEAD_SPREAD)
        nn.init.zeros_(head.bias)
        self.head = head

    def name_classes(self, names: Sequence[str] | None) -> None:
        """Say what the logits stand for. Raises: UserError unless there is one name for each class."""
        if names is not None and len(names) != self.num_classes:
            raise UserError(f"{len(names)} class names for {self.num_classes} classes: give one for each.")
        self.class_names = None if names is None else tuple(map(str, names))

    def no_weight_decay(self) -> set[str]:
        """Parameters, beside biases and norms, that fine-tuning does not decay."""
        return {"cls_token", "pos_embed", "register_tokens", "mask_token"}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Layers for layer-wise learning rates, in timm's form."""
        stem = r"^(?:cls_token|pos_embed|register_tokens|mask_token|patch_embed)"
        return {"stem": stem, "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))]}

    def forward(  # type: ignore[override]  # classifiers are asked for logits
        self, x: Tensor, people: Tensor | None = None
    ) -> Tensor:
        """Logits (B, num_classes) of clips (B, C, T, V, M), in the clips' dtype. people: (B, M) bool, who is there;
        None: who is not all zeros.
        """
        return self.forward_head(self.forward_features(x, people=people))

    def forward_head(self, features: Mapping[str, Tensor], pre_logits: bool = False) -> Tensor:
        """Logits (B, num_classes), or what the head reads (B, num_features), of what `forward_features` gave."""
        parts = {"cls": features["x_norm_clstoken"], "mean": features["x_norm_patchtokens"].mean(1)}
        each = torch.cat([parts[name] for name in self.pool.split("+")], -1)  # (B * M, F)
        people = features["people"]
        pooled = pool_people(each.unflatten(0, people.shape), people, self.people_pool)
        if pre_logits:
            return pooled
        dtype = next(self.head.parameters(), pooled).dtype
        return self.head(self.head_drop(pooled).to(dtype)).to(pooled.dtype)

    @classmethod
    def _described(cls, about: Description, **options: Any) -> Self:
        return super()._described(about, **{**head_settings(about, options.get("num_classes")), **options})

    def load_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Load all weights of `checkpoint`; where it has no head, or one of other classes or for another pool, this
        one's stays.

        Raises: UserError as `from_pretrained`.
        """
        own, theirs = (
            {name: tensor for name, tensor in weights.items() if name.startswith("head.")}
            for weights in (self.state_dict(), checkpoint.weights)
        )
        about = checkpoint.about.more
        meant = "num_classes" in about and all(about.get(k, v) == v for k, v in self._more().items() if k in _OF_HEAD)
        checkpoint.fill(self, theirs if meant else own)

    def _more(self) -> Mapping[str, Any]:
        names = {} if self.class_names is None else {"class_names": self.class_names}
        return {"num_classes": self.num_classes, "pool": self.pool, "people_pool": self.people_pool, **names}


def head_settings(about: Description, num_classes: int | None) -> dict[str, Any]:
    """The constructor's arguments that a checkpoint keeps; num_classes instead of its own, if given."""
    kept = {k: v for k, v in about.more.items() if k in ("num_classes", "pool", "people_pool", "class_names")}
    if num_classes is not None and num_classes != kept.get("num_classes"):
        kept = {**kept, "num_classes": num_classes, "class_names": None}
    return kept


def pool_people(features: Tensor, present: Tensor, how: PeoplePool) -> Tensor:
    """(B, M, F), present (B, M) bool -> (B, F): over those present; zeros where nobody is."""
    there = present[..., None]
    if how == "max":
        most = features.masked_fill(~there, -torch.inf).amax(1)
        return most.masked_fill(~there.any(1), 0)
    total = (features * there).sum(1)
    return total if how == "sum" else total / there.sum(1).clamp_min(1)

"""SLiMClassifier: a linear head on the encoder's features of all people present."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from typing_extensions import Self

from slim_fast.data.cache import ClipCache
from slim_fast.errors import UserError
from slim_fast.interop.aliases import accept_aliases
from slim_fast.interop.checkpoints.model_card import TRAINING
from slim_fast.interop.checkpoints.probes import read_with_probe
from slim_fast.interop.checkpoints.read import Checkpoint
from slim_fast.interop.encoder import SLiMEncoder
from slim_fast.model.encoder import EncoderConfig
from slim_fast.model.files import CLASSES
from slim_fast.skeletons import Topology

TokenPool = Literal["cls", "mean", "cls+mean"]
PeoplePool = Literal["sum", "mean", "max"]
_HEAD_STD = 0.01  # of a new head's weights
_OF_HEAD = ("num_classes", "pool", "cls_blocks")  # a trained head fits no other values of these
_SETTINGS = (*_OF_HEAD, "people_pool", "class_names")


class SLiMClassifier(SLiMEncoder):
    """The encoder with a head, in timm's terms (paper section 4, fine-tuning and linear protocols).

    Args:
        num_classes: number of logits; 0: no head, the output is the pooled features.
        pool: which of a person's tokens the head reads: CLS, the mean patch, or both (the released
            protocol).
        people_pool: how people are pooled, without those skipped as absent; zeros without any. The
            released protocol sums.
        cls_blocks: the head reads CLS of so many of the last blocks, oldest first.
        dropout: probability of dropping a pooled feature in training.
        class_names: of the logits; saved in checkpoints and exported files.
        topology, channels, config, skip_empty, resample: see SLiMEncoder.

    `from_pretrained` restores a classifier's head, pools and names, or takes a trained linear probe
    as its head. From an encoder, or with other num_classes or pool than the checkpoint's, the head
    is new; without num_classes it has the classes of the run's recordings, where the run lists
    them, or 60, and a warning says that it is new. Dropout is not saved.
    """

    head: nn.Module

    def __init__(
        self,
        num_classes: int = 60,
        topology: Topology | str | int | None = None,
        channels: str | None = None,
        config: EncoderConfig | Mapping[str, Any] | None = None,
        *,
        pool: TokenPool = "cls+mean",
        people_pool: PeoplePool = "sum",
        cls_blocks: int = 1,
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
        depth = self.config.depth
        if not isinstance(cls_blocks, int) or not 1 <= cls_blocks <= depth:
            raise UserError(
                f"cls_blocks={cls_blocks!r}: this encoder has {depth} blocks; give 1 to {depth}."
            )
        self.pool, self.people_pool, self.cls_blocks = pool, people_pool, cls_blocks
        self.head_drop = nn.Dropout(dropout)
        self.reset_classifier(num_classes)
        self.name_classes(class_names)

    @property
    def num_features(self) -> int:
        """Features that the head reads."""
        tokens = {"cls": self.cls_blocks, "mean": 1}
        return self.config.width * sum(tokens[name] for name in self.pool.split("+"))

    @property
    def head_hidden_size(self) -> int:
        """Features that the head reads, as timm calls them."""
        return self.num_features

    def get_classifier(self) -> nn.Module:
        """The head."""
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head; 0 classes: none. Raises: UserError unless it is a number from 0."""
        if not isinstance(num_classes, int) or num_classes < 0:
            raise UserError(f"num_classes={num_classes!r}: must be a whole number of at least 0.")
        self.num_classes = num_classes
        self.class_names: tuple[str, ...] | None = None
        if not num_classes:
            self.head = nn.Identity()
            return
        like = self.pos_embed
        head = nn.Linear(self.num_features, num_classes, device=like.device, dtype=like.dtype)
        nn.init.trunc_normal_(head.weight, std=_HEAD_STD)
        nn.init.zeros_(head.bias)
        self.head = head

    def name_classes(self, names: Sequence[str] | None) -> None:
        """Set the classes' names, or None. Raises: UserError unless there is one a class."""
        if names is not None and len(names) != self.num_classes:
            raise UserError(
                f"{len(names)} class names for {self.num_classes} classes: give one for each."
            )
        self.class_names = None if names is None else tuple(map(str, names))

    def no_weight_decay(self) -> set[str]:
        """Parameters, beside biases and norms, that have no weight decay in fine-tuning."""
        return {"cls_token", "pos_embed", "register_tokens", "mask_token"}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Layers for layer-wise learning rates, in timm's form."""
        stem = r"^(?:cls_token|pos_embed|register_tokens|mask_token|patch_embed)"
        return {"stem": stem, "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))]}

    def forward(  # type: ignore[override]  # a classifier returns logits
        self, x: Tensor, people: Tensor | None = None
    ) -> Tensor:
        """Logits (B, num_classes) of clips (B, C, T, V, M), in the clips' dtype.

        people: (B, M) bool, who is present; None: whose joints spread, see `find_present_people`.
        """
        return self.forward_head(self.forward_features(x, people=people))

    def forward_head(self, features: Mapping[str, Tensor], pre_logits: bool = False) -> Tensor:
        """Logits (B, num_classes), or with pre_logits features (B, num_features), of tokens."""
        several = features["x_norm_clstokens"].flatten(1) if self.cls_blocks > 1 else None
        parts = {
            "cls": features["x_norm_clstoken"] if several is None else several,
            "mean": features["x_norm_patchtokens"].mean(1),
        }
        each = torch.cat([parts[name] for name in self.pool.split("+")], -1)  # (B * M, F)
        people = features["people"]
        pooled = pool_people(each.unflatten(0, people.shape), people, self.people_pool)
        if pre_logits:
            return pooled
        dtype = next(
            (p.dtype for p in self.head.parameters() if p.is_floating_point()), pooled.dtype
        )
        return self.head(self.head_drop(pooled).to(dtype)).to(pooled.dtype)

    @classmethod
    @accept_aliases(repo_or_dir="repo_id_or_path")
    def from_pretrained(
        cls,
        repo_id_or_path: str | Path | Checkpoint,
        subfolder: str | None = None,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        *,
        probe: str | None = None,
        probes: str | Path | None = None,
        labelled: str | Path | ClipCache | None = None,
        **options: Any,
    ) -> Self:
        """Load a classifier in eval mode, or an encoder with a linear probe as its head.

        Args:
            repo_id_or_path, subfolder, revision, cache_dir, token, options: as
                `SLiMEncoder.from_pretrained`.
            probe: a trained linear classifier in the release's format: "best", or its name
                ("classifier_4_blocks_avgpool_True_lr_0_00125"). The classes of NTU RGB+D get their
                names.
            probes: their file; None: linear/*.pth beside the weights, or what `slim-fast evaluate
                linear` left in a run.
            labelled: a clip cache, on whose labelled (training) clips the most accurate probe is
                the "best". None: the one that the file's note names; else, with a warning, CLS of
                the last 4 blocks and the mean patch at the grid's middle learning rate.

        Raises: UserError as `SLiMEncoder.from_pretrained`, without probes, and for probes that do
        not fit.
        """
        place = (subfolder, revision, cache_dir, token)
        if probe is not None:
            checkpoint = read_with_probe(repo_id_or_path, probe, probes, labelled, *place)
            return super().from_pretrained(checkpoint, **options)
        if probes is not None or labelled is not None:
            raise UserError('probes and labelled choose a probe: pass probe="best" too.')
        return super().from_pretrained(repo_id_or_path, *place, **options)

    @classmethod
    def _from_checkpoint(cls, checkpoint: Checkpoint, **options: Any) -> Self:
        return super()._from_checkpoint(
            checkpoint, **{**options, **resolve_head(checkpoint, options)}
        )

    def load_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Load all weights of `checkpoint`, but no head of other classes or for another pool.

        Raises: UserError as `from_pretrained`.
        Warns: of a head that is not loaded.
        """
        own, trained = (
            {name: tensor for name, tensor in weights.items() if name.startswith("head.")}
            for weights in (self.state_dict(), checkpoint.weights)
        )
        about = checkpoint.about.more
        # files from before there were several name none
        fits = "num_classes" in about and all(
            about.get(k, 1 if k == "cls_blocks" else getattr(self, k)) == getattr(self, k)
            for k in _OF_HEAD
        )
        self.training_record = about.get(TRAINING)
        checkpoint.load_into(self, trained if fits else own)
        if trained and own and not fits:
            is_linear = "num_classes" in about
            kind = f"{about['num_classes']} classes" if is_linear else "more than a linear map"
            warnings.warn(
                f"The head in {checkpoint.source}, of {kind}, is not taken: that of "
                f"{self.num_classes} classes and pool={self.pool!r} is new.",
                stacklevel=6,
            )

    def _extra_fields(self) -> Mapping[str, Any]:
        head = {"num_classes": self.num_classes, "pool": self.pool, "people_pool": self.people_pool}
        head |= {"cls_blocks": self.cls_blocks} if self.cls_blocks > 1 else {}
        names = {} if self.class_names is None else {"class_names": self.class_names}
        return {**super()._extra_fields(), **head, **names}


def resolve_head(checkpoint: Checkpoint, options: Mapping[str, Any]) -> dict[str, Any]:
    """The constructor's arguments of the head: from `options` where given, else the checkpoint's.

    Warns: of a new head where num_classes was not given.
    """
    about = checkpoint.about.more
    settings = {k: v for k, v in about.items() if k in _SETTINGS}
    if options.get("num_classes") is None and "num_classes" not in settings:
        names = about.get(CLASSES)
        settings |= (
            {"num_classes": len(names), "class_names": names} if names else {"num_classes": 60}
        )
        if not any(name.startswith("head.") for name in checkpoint.weights):
            warnings.warn(
                f"{checkpoint.source} holds no trained head: that of {settings['num_classes']} "
                "classes"
                f"{', those of its recordings,' if names else ''} is new, and says nothing before "
                "it is trained. Pass num_classes to choose (0: features).",
                stacklevel=5,
            )
    given = {k: options[k] for k in _SETTINGS if options.get(k) is not None}
    if given.get("num_classes", settings.get("num_classes")) != settings.get("num_classes"):
        settings["class_names"] = None
    return {**settings, **given}


def pool_people(features: Tensor, present: Tensor, how: PeoplePool) -> Tensor:
    """Pool features (B, M, F) over the people present, (B, M) bool, to (B, F); zeros if none is."""
    mask = present[..., None]
    if how == "max":
        largest = features.masked_fill(~mask, -torch.inf).amax(1)
        return largest.masked_fill(~mask.any(1), 0)
    total = (features * mask).sum(1)
    return total if how == "sum" else total / mask.sum(1).clamp_min(1)

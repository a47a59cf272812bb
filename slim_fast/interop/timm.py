"""SLiM for timm: `import slim_fast.interop.timm` registers "slim_tiny" where timm is installed."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from einops import rearrange
from torch import Tensor

from slim_fast.errors import UserError
from slim_fast.interop.adapters.arguments import Source
from slim_fast.interop.adapters.base import Adapter
from slim_fast.interop.adapters.registry import find_registry

_POOLS = {"token": "cls", "avg": "mean"}


class SLiMTiny(Adapter):
    """A SLiMClassifier with timm's arguments; clips are (B, C, T, V, M).

    Args:
        num_classes, drop_rate: of the head.
        in_chans: channels of the clips.
        global_pool: "token" (CLS), "avg" (the mean patch); None: both, the released protocol, or as
            the checkpoint.
        pretrained, others: see Adapter.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        in_chans: int | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        global_pool: str | None = None,
        pretrained: Source = None,
        **others: Any,
    ) -> None:
        pool = {"pool": _pool(global_pool)} if global_pool else {}
        unused = {"drop_path_rate": (drop_path_rate, 0)}
        requested = {"channels": ("in_chans", in_chans)}
        super().__init__(
            pretrained, requested, unused, num_classes, **{"dropout": drop_rate, **pool, **others}
        )

    @property
    def default_cfg(self) -> dict[str, Any]:
        """The configuration that timm's tools read; input_size is channels, frames, joints."""
        return {
            "architecture": "slim_tiny",
            "num_classes": self.num_classes,
            "input_size": (self.channels, self.config.window, self.joints),
            "fixed_input_size": False,
            "pool_size": None,
            "mean": (0.0,) * self.channels,
            "std": (1.0,) * self.channels,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        }

    pretrained_cfg = default_cfg

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: Literal["NCHW", "NLC"] = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """The output of `forward_features`, and the patches of blocks, first to last.

        Patches are "NCHW" (B * M, D, T / 8, V) or "NLC" (B * M, T / 8 * V, D).

        Args:
            indices: the last n blocks, or their numbers, negative ones from the end; None: all.
            return_prefix_tokens: pairs of patches and (B * M, 1 + registers, D), CLS first.
            norm: apply the final LayerNorm.
            stop_early: unused, as later blocks are never computed.
            intermediates_only: return only the list.

        Raises: UserError for blocks that do not exist, and for another output_fmt.
        """
        depth = self.config.depth
        numbers = (
            range(-(depth if indices is None else indices), 0)
            if not isinstance(indices, Sequence)
            else indices
        )
        blocks = sorted({n + depth if n < 0 else n for n in numbers})
        if not blocks or not set(blocks) <= set(range(depth)) or output_fmt not in ("NCHW", "NLC"):
            raise UserError(
                f"slim_tiny: indices={indices!r}, output_fmt={output_fmt!r}: it has {depth} "
                "blocks, and NCHW or NLC."
            )
        outputs: list[Any] = []
        for (tokens,) in self._encode([self._fold(x, None, None)], blocks, norm):
            prefix, patches = tokens[:, : self._prefix], tokens[:, self._prefix :]
            if output_fmt == "NCHW":
                patches = rearrange(patches, "b (t v) d -> b d t v", v=self.joints).contiguous()
            outputs.append((patches, prefix) if return_prefix_tokens else patches)
        return outputs if intermediates_only else (self.forward_features(x), outputs)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the head; global_pool None: as before. Raises: UserError for an unknown pool."""
        if global_pool:
            self.pool = _pool(global_pool)  # type: ignore[assignment]
        super().reset_classifier(num_classes)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Not supported. Raises: UserError for enable=True."""
        if enable:
            raise UserError("slim_tiny has no gradient checkpointing; train with smaller batches.")


def _pool(global_pool: str) -> str:
    """Our name of timm's pool."""
    if global_pool not in _POOLS:
        raise UserError(
            f"slim_tiny: global_pool={global_pool!r} is not known: it is {' or '.join(_POOLS)}."
        )
    return _POOLS[global_pool]


def slim_tiny(
    pretrained: bool | str = False,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Mapping[str, Any] | None = None,
    features_only: bool = False,
    **options: Any,
) -> SLiMTiny:
    """timm.create_model("slim_tiny", pretrained=True, pretrained_cfg_overlay={"file": FOLDER}).

    pretrained: True: the weights that `file` or `hf_hub_id` of the overlay (or of pretrained_cfg)
    name; or their path
        or hub name itself. options: of SLiMTiny.
    Raises: UserError when pretrained is True and nothing is named, and for features_only.
    """
    if features_only:
        raise UserError(
            "slim_tiny: features_only gives pyramids of pictures; make it without, and call "
            "forward_intermediates."
        )
    if hasattr(pretrained_cfg, "to_dict"):  # timm's own class
        pretrained_cfg = pretrained_cfg.to_dict()
    named = {
        **(pretrained_cfg if isinstance(pretrained_cfg, Mapping) else {}),
        **(pretrained_cfg_overlay or {}),
    }
    source = (
        pretrained if isinstance(pretrained, str) else named.get("file") or named.get("hf_hub_id")
    )
    if pretrained and not source:
        raise UserError(
            "slim_tiny: pretrained=True needs the weights' path: "
            'pretrained_cfg_overlay={"file": FOLDER}.'
        )
    return SLiMTiny(pretrained=source if pretrained else None, **options)


if (_register := find_registry("timm.models", "register_model")) is not None:
    _register(slim_tiny)

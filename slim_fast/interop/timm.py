"""SLiM's classifier for timm: `import slim_fast.interop.timm` registers "slim_tiny" where timm is installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slim_fast.errors import UserError
from slim_fast.interop.adapter import Adapter, Source, registry

_POOLS = {"token": "cls", "avg": "mean"}


class SLiMTiny(Adapter):
    """A SLiMClassifier with timm's arguments; clips are (B, C, T, V, M).

    Args:
        num_classes, drop_rate: of the head.
        in_chans: channels of the clips.
        global_pool: "token" (CLS), "avg" (the mean patch); None: both, the released protocol, or as the checkpoint.
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
        asked = {"channels": ("in_chans", in_chans)}
        super().__init__(pretrained, asked, unused, num_classes, **{"dropout": drop_rate, **pool, **others})

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new head, on what global_pool names; None: as before. Raises: UserError for what is not known."""
        if global_pool:
            self.pool = _pool(global_pool)  # type: ignore[assignment]
        super().reset_classifier(num_classes)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Raises: UserError for enable=True: activations are kept."""
        if enable:
            raise UserError("slim_tiny has no gradient checkpointing; train with smaller batches.")


def _pool(global_pool: str) -> str:
    if global_pool not in _POOLS:
        raise UserError(f"slim_tiny: global_pool={global_pool!r} is not known: it is {' or '.join(_POOLS)}.")
    return _POOLS[global_pool]


def slim_tiny(
    pretrained: bool | str = False,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Mapping[str, Any] | None = None,
    **options: Any,
) -> SLiMTiny:
    """timm.create_model("slim_tiny", pretrained=True, pretrained_cfg_overlay={"file": FOLDER}, num_classes=60).

    pretrained: True: the weights that `file` or `hf_hub_id` of the overlay (or of pretrained_cfg) name; or their path
        or hub name itself. options: of SLiMTiny.
    Raises: UserError when pretrained is True and nothing is named.
    """
    named = {**(pretrained_cfg if isinstance(pretrained_cfg, Mapping) else {}), **(pretrained_cfg_overlay or {})}
    source = pretrained if isinstance(pretrained, str) else named.get("file") or named.get("hf_hub_id")
    if pretrained and not source:
        raise UserError('slim_tiny: pretrained=True needs to be told where: pretrained_cfg_overlay={"file": FOLDER}.')
    return SLiMTiny(pretrained=source if pretrained else None, **options)


if (_register := registry("timm.models", "register_model")) is not None:
    _register(slim_tiny)

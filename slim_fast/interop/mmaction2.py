"""SLiM's encoder as a backbone of mmaction2 1.x: `custom_imports =
dict(imports=["slim_fast.interop.mmaction2"])` registers it as "SLiM" where mmaction2 is installed.
"""

from collections.abc import Mapping
from typing import Any

from slim_fast.interop.adapters.arguments import Source
from slim_fast.interop.adapters.backbone import Backbone
from slim_fast.interop.adapters.registry import find_registry


class SLiM(Backbone):
    """See Backbone. init_cfg: {"type": "Pretrained", "checkpoint": ...} or `pretrained`."""

    def __init__(
        self,
        graph_cfg: Mapping[str, Any] | None = None,
        in_channels: int | None = None,
        pretrained: Source = None,
        init_cfg: Any = None,
        **options: Any,
    ) -> None:
        is_named = isinstance(init_cfg, Mapping) and init_cfg.get("type") == "Pretrained"
        if is_named and pretrained is None:
            pretrained, init_cfg = init_cfg["checkpoint"], None
        options |= {"init_cfg": init_cfg} if init_cfg else {}
        super().__init__(graph_cfg, in_channels, pretrained, **options)


if (_models := find_registry("mmaction.registry", "MODELS")) is not None:
    _models.register_module(name="SLiM", module=SLiM)

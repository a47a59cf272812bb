"""SLiM's encoder as a backbone of mmaction2 1.x: `custom_imports = dict(imports=["slim_fast.interop.mmaction2"])`
registers it as "SLiM" where mmaction2 is installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slim_fast.interop.adapter import Backbone, Source, registry


class SLiM(Backbone):
    """See Backbone. init_cfg: {"type": "Pretrained", "checkpoint": ...} is another way to say `pretrained`."""

    def __init__(
        self,
        graph_cfg: Mapping[str, Any] | None = None,
        in_channels: int | None = None,
        pretrained: Source = None,
        init_cfg: Any = None,
        **options: Any,
    ) -> None:
        if isinstance(init_cfg, Mapping) and init_cfg.get("type") == "Pretrained" and pretrained is None:
            pretrained, init_cfg = init_cfg["checkpoint"], None
        super().__init__(graph_cfg, in_channels, pretrained, **options, **({"init_cfg": init_cfg} if init_cfg else {}))


if (_models := registry("mmaction.registry", "MODELS")) is not None:
    _models.register_module(name="SLiM", module=SLiM)

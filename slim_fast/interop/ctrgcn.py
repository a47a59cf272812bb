"""SLiM's encoder for CTR-GCN's trainer and the many that descend from it (2s-AGCN, InfoGCN, ...):
`model: slim_fast.interop.ctrgcn.Model` in its YAML.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from slim_fast.interop.adapter import Adapter, Source


class Model(Adapter):
    """Clips (N, C, T, V, M), or (N, T, V * C) of one person -> logits (N, num_class), with CTR-GCN's arguments.

    Args:
        num_class: None: the checkpoint's, or 60.
        num_point, in_channels: joints and channels of the clips; None: the checkpoint's, or 25 and 3.
        num_person: any; people who are all zeros do not count.
        graph, graph_args, adaptive: no use, and no warning: there is no graph.
        drop_out: of what the head reads, in training.
        pretrained, others: see Adapter.

    Raises: UserError for arguments that contradict the checkpoint, or as from_pretrained.
    """

    def __init__(
        self,
        num_class: int | None = None,
        num_point: int | None = None,
        num_person: int | None = None,
        graph: Any = None,
        graph_args: Mapping[str, Any] | None = None,
        in_channels: int | None = None,
        drop_out: float = 0.0,
        adaptive: bool = True,
        pretrained: Source = None,
        **others: Any,
    ) -> None:
        asked = {"joints": ("num_point", num_point), "channels": ("in_channels", in_channels)}
        super().__init__(pretrained, asked, {}, num_class, **{"dropout": drop_out, **others})

    def forward(self, x: Tensor, people: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Logits (N, num_class). people: (N, M) bool, who is there; None: who is not all zeros."""
        if x.dim() == 3 and x.shape[2] == self.joints * self.channels:
            x = x.unflatten(2, (self.joints, self.channels)).permute(0, 3, 1, 2)[..., None]
        return super().forward(x, people)

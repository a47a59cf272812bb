"""For CTR-GCN's trainer and its descendants: `model: slim_fast.interop.ctrgcn.Model` in YAML."""

from collections.abc import Mapping
from typing import Any

from einops import rearrange
from torch import Tensor

from slim_fast.interop.adapters.arguments import Source
from slim_fast.interop.adapters.base import Adapter
from slim_fast.skeletons import get_topology

_GRAPHS = {"ntu_rgb_d": "ntu-25", "ucla": "kinect-v1-20"}


class Model(Adapter):
    """Clips (N, C, T, V, M) or (N, T, V * C) -> logits (N, num_class), with CTR-GCN's arguments.

    Args:
        num_class: None: the checkpoint's, or 60.
        num_point, in_channels: joints and channels of the clips; None: the checkpoint's, or 25 and
            3.
        num_person: any; people whose joints do not spread are absent.
        graph: graph.ntu_rgb_d.Graph and graph.ucla.Graph give the skeleton, which must be the
            checkpoint's.
        graph_args, adaptive: ignored without a warning, as there is no graph.
        drop_out: dropout of the features that the head reads.
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
        named = next((name for word, name in _GRAPHS.items() if word in str(graph)), None)
        skeleton = get_topology(named) if named else None
        by_graph = skeleton is not None and num_point in (None, skeleton.num_joints)
        joints = ("graph", skeleton) if by_graph else ("num_point", num_point)
        requested = {"joints": joints, "channels": ("in_channels", in_channels)}
        super().__init__(pretrained, requested, {}, num_class, **{"dropout": drop_out, **others})

    def forward(self, x: Tensor, people: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Logits (N, num_class). people: (N, M) bool, who is present; None: whose joints spread."""
        if isinstance(x, Tensor) and x.dim() == 3 and x.shape[2] == self.joints * self.channels:
            x = rearrange(x, "n t (v c) -> n c t v 1", v=self.joints)
        return super().forward(x, people)

"""SLiM's encoder for MAMP's trainers: `model: slim_fast.interop.mamp.Transformer` in its YAML."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from slim_fast.errors import UserError
from slim_fast.interop.adapter import Adapter, Source
from slim_fast.interop.classifier import SLiMClassifier


class ProbeHead(nn.Module):
    """A linear head whose map is called `fc`: MAMP's linear-probing script puts a BatchNorm1d in front of `head.fc`."""

    def __init__(self, fc: nn.Linear) -> None:
        super().__init__()
        self.fc: nn.Module = fc
        self.in_features, self.out_features = fc.in_features, fc.out_features

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_features) -> (B, out_features)."""
        return self.fc(x)


class Transformer(Adapter):
    """Clips (N, C, T, V, M) -> logits (N, num_classes), with MAMP's arguments; None: as the checkpoint, or as released.

    Args:
        dim_in, num_joints: channels and joints of the clips.
        dim_feat, depth, num_heads, mlp_ratio: sizes of the encoder (of SwiGLU's two thirds, for mlp_ratio).
        num_frames: any; no clip's length is fixed.
        patch_size, t_patch_size, qkv_bias, qk_scale, norm_layer: no use; this encoder's tokens are 8 frames of a joint.
        drop_rate, attn_drop_rate, drop_path_rate: no use; its blocks drop nothing.
        protocol: linprobe: only the head has gradients, and its linear map is `head.fc`, as the script wants it.
            finetune: everything but the mask token, which nothing reads, has gradients; the head is `head`, linear.
        pretrained, others: see Adapter.

    MAMP's layer decay finds `blocks.N` and `pos_embed` by name; patch_embed, CLS and registers, whose names it does not
    know, learn at the head's rate there.
    Raises: UserError for another protocol, for arguments that contradict the checkpoint, or as from_pretrained.
    """

    def __init__(
        self,
        dim_in: int | None = None,
        num_classes: int | None = None,
        dim_feat: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        mlp_ratio: float | None = None,
        num_frames: int | None = None,
        num_joints: int | None = None,
        patch_size: int | None = None,
        t_patch_size: int | None = None,
        qkv_bias: bool | None = None,
        qk_scale: Any = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        norm_layer: Any = None,
        protocol: Literal["linprobe", "finetune"] = "linprobe",
        pretrained: Source = None,
        **others: Any,
    ) -> None:
        if protocol not in ("linprobe", "finetune"):
            raise UserError(f"mamp.Transformer: protocol={protocol!r} is not known: it is linprobe or finetune.")
        asked = {
            "channels": ("dim_in", dim_in),
            "joints": ("num_joints", num_joints),
            "width": ("dim_feat", dim_feat),
            "depth": ("depth", depth),
            "heads": ("num_heads", num_heads),
            "ffn_ratio": ("mlp_ratio", mlp_ratio),
        }
        unused = {
            "patch_size": (patch_size, 1),
            "t_patch_size": (t_patch_size, 8),
            "qkv_bias": (qkv_bias, True),
            "qk_scale": (qk_scale, None),
            "drop_rate": (drop_rate, 0),
            "attn_drop_rate": (attn_drop_rate, 0),
            "drop_path_rate": (drop_path_rate, 0),
            "norm_layer": (norm_layer, nn.LayerNorm),
        }
        super().__init__(pretrained, asked, unused, num_classes, **others)
        self.protocol = protocol
        if protocol == "linprobe":
            self.requires_grad_(False)
            self._probe()

    def _probe(self) -> None:
        if isinstance(self.head, nn.Linear):
            self.head = ProbeHead(self.head).requires_grad_(True)

    def reset_classifier(self, num_classes: int) -> None:
        """A new head, as the protocol wants it; 0 classes: none. Raises: UserError for a negative number."""
        super().reset_classifier(num_classes)
        if getattr(self, "protocol", None) == "linprobe":
            self._probe()

    def save_pretrained(self, folder: str | Path) -> None:
        """As SLiMClassifier's: a BatchNorm1d in front of the head is folded into it, as it is in eval mode."""
        plain = copy.deepcopy(self)
        plain.head = _folded(plain.head)
        SLiMClassifier.save_pretrained(plain, folder)


def _folded(head: nn.Module) -> nn.Module:
    if isinstance(head, ProbeHead):
        return _folded(head.fc)
    if not isinstance(head, nn.Sequential):
        return head
    norm, linear = head[0], _folded(head[1])
    assert isinstance(norm, nn.BatchNorm1d)
    assert isinstance(linear, nn.Linear)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    weight = linear.weight.data * (norm.running_var + norm.eps).rsqrt()
    linear.bias.data -= weight @ norm.running_mean
    linear.weight.data = weight
    return linear

"""SLiM's encoder for MAMP's trainers: `model: slim_fast.interop.mamp.Transformer` in its YAML."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from slim_fast.errors import UserError
from slim_fast.interop.adapters.arguments import Source
from slim_fast.interop.adapters.base import Adapter
from slim_fast.interop.aliases import accept_aliases
from slim_fast.interop.checkpoints.heads import fold_batch_norm
from slim_fast.interop.classifier import SLiMClassifier
from slim_fast.model.frozen import copied


class ProbeHead(nn.Module):
    """A linear head whose layer is called `fc`, where MAMP's script puts a BatchNorm1d."""

    def __init__(self, fc: nn.Linear) -> None:
        super().__init__()
        self.fc: nn.Module = fc
        self.in_features, self.out_features = fc.in_features, fc.out_features

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_features) -> (B, out_features)."""
        return self.fc(x)


class Transformer(Adapter):
    """Clips (N, C, T, V, M) -> logits (N, num_classes), with MAMP's arguments.

    Args:
        dim_in, num_joints: channels and joints of the clips; None: as the checkpoint, or released.
        dim_feat, depth, num_heads, mlp_ratio: sizes of the encoder (of SwiGLU's two thirds, for
            mlp_ratio).
        num_frames: any; no clip's length is fixed.
        patch_size, t_patch_size, qkv_bias, qk_scale, norm_layer: no use; this encoder's tokens are
            8 frames of a joint. drop_rate, attn_drop_rate, drop_path_rate: no use; its blocks drop
            nothing.
        protocol: linprobe: only the head has gradients, and its linear map is `head.fc`, as the
            script wants it. finetune: everything but the mask token, which nothing reads, has
            gradients; the head is `head`, linear.
        pretrained, others: see Adapter.

    MAMP's layer decay finds `blocks.N` and `pos_embed` by name; patch_embed, CLS and registers,
    whose names it does not know, learn at the head's rate there.
    Raises: UserError for another protocol, for arguments that contradict the checkpoint, or as
    from_pretrained.
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
            raise UserError(
                f"mamp.Transformer: protocol={protocol!r} is not known: it is linprobe or finetune."
            )
        requested = {
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
        super().__init__(pretrained, requested, unused, num_classes, **others)
        self.protocol = protocol
        if protocol == "linprobe":
            self.requires_grad_(False)
            self._wrap_head()

    def _wrap_head(self) -> None:
        """Give a linear head the form that the linear-probing script expects."""
        if isinstance(self.head, nn.Linear):
            self.head = ProbeHead(self.head).requires_grad_(True)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head in the protocol's form. Raises: UserError as SLiMClassifier's."""
        super().reset_classifier(num_classes)
        if getattr(self, "protocol", None) == "linprobe":
            self._wrap_head()

    @accept_aliases(folder="save_directory")
    def save_pretrained(
        self, save_directory: str | Path, config: Mapping[str, Any] | None = None
    ) -> None:
        """As SLiMClassifier's; a BatchNorm1d before the head is folded into it, as in eval mode."""
        plain = copied(self)
        plain.head = _fold_head(plain.head)
        SLiMClassifier.save_pretrained(plain, save_directory, config)


def _fold_head(head: nn.Module) -> nn.Module:
    """The head as one plain linear layer."""
    if isinstance(head, ProbeHead):
        return _fold_head(head.fc)
    if not isinstance(head, nn.Sequential):
        return head
    norm, linear = head[0], _fold_head(head[1])
    assert isinstance(norm, nn.BatchNorm1d)
    assert isinstance(linear, nn.Linear)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    statistics = norm.running_mean, norm.running_var, norm.weight, norm.bias
    folded = fold_batch_norm(linear.weight.data, linear.bias.data, *statistics, eps=norm.eps)
    linear.weight.data, linear.bias.data = folded
    return linear

"""A masked autoencoder around SLiM's encoder, for comparison: other methods decode, SLiM does not.

As in MAMP (Mao et al., arXiv 2308.07092) the encoder sees the visible tokens only, and a decoder,
which is dropped after training, predicts how the joints of the masked tokens move. Unlike MAMP's,
the encoder is SLiM's: 8 frames a token, rotary embedding of time, CLS and registers, which pass
through the decoder too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from slim_fast.limits import Count
from slim_fast.model.block import NORM_EPS, Block
from slim_fast.model.encoder import Encoder, EncoderConfig
from slim_fast.model.method import Method, Schedules
from slim_fast.model.packing import Packing, masked_indices
from slim_fast.model.parts import mean_of_parts
from slim_fast.model.ranges import LOSS, step_part
from slim_fast.views.pipeline import ViewBatch


@dataclass
class MAEConfig:
    """The masked autoencoder's decoder and targets; the defaults are MAMP's."""

    decoder_depth: Count = 5
    """Blocks of the decoder, which are the encoder's in size."""
    target: Literal["motion", "coordinates"] = "motion"
    """What is predicted of masked tokens. motion: differences to the next frame."""
    normalised: bool = True
    """Whether the targets of each token are normalised to mean 0 and variance 1."""


class Decoder(nn.Module):
    """Encoded visible tokens, and mask tokens in the places of the others, to predictions."""

    def __init__(self, config: EncoderConfig, depth: int, joints: int, out: int) -> None:
        super().__init__()
        width = config.width
        self.embed = nn.Linear(width, width)
        self.mask_token = nn.Parameter(torch.empty(1, width))
        self.pos_embed = nn.Parameter(torch.empty(joints, width))
        self.blocks = nn.ModuleList(Block(width, config.heads, config.hidden) for _ in range(depth))
        self.norm = nn.LayerNorm(width, NORM_EPS)
        self.head = nn.Linear(width, out)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, visible: Tensor, rows: Tensor, whole: Packing, wanted: Tensor) -> Tensor:
        """Predictions (R, out) for the patch tokens numbered by `wanted` int64 (R,).

        visible: encoded tokens (K, D), which stand in the `rows` int64 (K,) of `whole`, the packing
        of all tokens of one group of views; or those of all rows, and `rows` bool (K,) says which
        of them stand there.
        """
        (sequences, times), prefix = whole.groups[0], whole.prefix
        visible = self.embed(visible).to(self.mask_token.dtype)
        if rows.dtype == torch.bool:
            x = torch.where(rows[:, None], visible, self.mask_token)
        else:
            x = self.mask_token.expand(len(whole.time), -1).index_copy(0, rows, visible)
        positions = F.pad(self.pos_embed.repeat(times, 1), (0, 0, prefix, 0))  # (prefix + T V, D)
        x = (x.unflatten(0, (sequences, -1)) + positions).flatten(0, 1)
        selection = whole.select([wanted])
        for block in self.blocks[:-1]:
            x = block(x, whole)
        x = self.norm(self.blocks[-1](x, whole, selection))
        return self.head(selection.split(x)[1])


class MaskedAutoencoder(Method):
    """Encoder of the visible tokens and decoder, which predicts what the masked ones hold."""

    encoder_name = "encoder"

    def __init__(
        self, encoder: EncoderConfig, config: MAEConfig, joints: int, channels: int
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(encoder, joints, channels)
        out = encoder.patch_frames * channels
        self.decoder = Decoder(encoder, config.decoder_depth, joints, out)

    def losses(
        self, views: ViewBatch, now: Schedules, part: Tensor | None = None
    ) -> dict[str, Tensor]:
        """{"loss"} of the views of the first group, a scalar; other groups are not looked at."""
        group = views.groups[0]
        most = views.max_masked if self.fixed_shapes else None
        return {"loss": self(group.clips.flatten(0, 1), group.mask.flatten(0, 1), part, most)}

    def survey(self, parts: Sequence[ViewBatch], now: Schedules) -> list[Tensor] | list[None]:
        """The mean number of targets of a part, by which each divides: scalars."""
        if len(parts) == 1 and self.group is None:
            return [None]
        counts = []
        for views in parts:
            group = views.groups[0]
            known = self.targets(group.clips.flatten(0, 1))[1]  # (N, T V, 8 C)
            masked = group.mask.flatten(0, 1).flatten(1)[..., None]
            counts.append((known & masked).sum(dtype=torch.float32))
        return [mean_of_parts(torch.stack(counts).sum(), len(parts), self.group)] * len(parts)

    def forward(
        self,
        clips: Tensor,
        mask: Tensor,
        count: Tensor | None = None,
        most: int | None = None,
    ) -> Tensor:
        """Mean squared error over the masked tokens of clips (N, T, V, C), a scalar.

        mask (N, T / 8, V) bool. Frames in which a joint is not detected do not count. count: how
        many numbers the mean is over; None: as many as are predicted. most: no less tokens than are
        masked; then no size depends on the masks (`fixed_shapes`), and the encoder computes masked
        tokens too, to which no other attends.
        """
        masked, real = masked_indices(mask, most)
        predicted = self.predict(clips, mask, masked, real is not None)
        with step_part(LOSS):
            predicted = predicted.to(torch.promote_types(predicted.dtype, torch.float32))
            targets, known = (x.flatten(0, 1)[masked] for x in self.targets(clips))
            known = known if real is None else known & real[:, None]
            count = known.sum().clamp_min(1) if count is None else count.clamp_min(1e-6)
            return ((predicted - targets).square() * known).sum() / count

    def predict(
        self, clips: Tensor, mask: Tensor, masked: Tensor, fixed_shapes: bool = False
    ) -> Tensor:
        """Predictions (R, 8 C) for the masked tokens, numbered by `masked` int64 (R,)."""
        whole = self.encoder.pack([clips])
        if fixed_shapes:
            seen = whole.restrict_keys([mask], [False])
            assert seen.visible is not None
            visible, _ = self.encoder.encode_packed([clips], [mask], seen)
            return self.decoder(visible, seen.visible, whole, masked)
        seen = whole.restrict_keys([mask], [True])
        rows = (
            torch.arange(len(whole.time), device=mask.device) if seen.index is None else seen.index
        )
        # of the tokens that are left, every one is a key
        visible, _ = self.encoder.encode_packed([clips], [mask], replace(seen, visible=None))
        return self.decoder(visible, rows, whole, masked)

    def targets(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """What each token holds (N, T / 8 * V, 8 C), and which of these numbers are known, bool.

        clips (N, T, V, C). The motion of the last frame is 0; that from or to a frame in which the
        joint is not detected, all zeros, is not known.
        """
        wanted, known = clips, clips.any(-1, keepdim=True).expand_as(clips)
        if self.config.target == "motion":
            wanted = F.pad(clips.diff(dim=1), (0, 0, 0, 0, 0, 1))
            known = known & F.pad(known[:, 1:], (0, 0, 0, 0, 0, 1), value=True)
        frames = self.encoder.config.patch_frames
        wanted, known = (
            rearrange(x, "n (t p) v c -> n (t v) (p c)", p=frames) for x in (wanted, known)
        )
        if self.config.normalised:
            wanted = F.layer_norm(wanted, wanted.shape[-1:], eps=1e-6)
        return wanted, known

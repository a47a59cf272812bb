"""Sequences of several lengths laid end to end, without padding, and the order they lie in."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from slim_kernels import packed_attention
from slim_kernels.runtime.tensor_cache import cached_tensors
from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """Where the sequences of a packed batch lie.

    groups: (sequences, temporal tokens T) of neighbouring sequences of one size; a sequence is
    [prefix tokens, T * V patch tokens, time-major], less the tokens that are dropped.
    """

    groups: tuple[tuple[int, int], ...]
    prefix: int
    joints: int
    cu_seqlens: Tensor
    """int32 (S + 1,), where each sequence begins."""
    time: Tensor
    """int32 (total,), temporal index of each patch token, -1 for prefix tokens."""
    max_seqlen: int
    index: Tensor | None = None
    """int64 (total,), where tokens are dropped: which of the whole sequences' tokens these are."""
    visible: Tensor | None = None
    """(total,) bool, which tokens are keys; None: all."""

    @property
    def cls_rows(self) -> Tensor:
        """int64 (S,), each sequence's first token, which is its CLS."""
        return self.cu_seqlens[:-1].long()

    @property
    def buckets(self) -> list[int]:
        """Sequences of each group, and their greatest length: [n, L, n, L, ...]."""
        return [number for n, t in self.groups for number in (n, self.prefix + t * self.joints)]

    def attend(self, qkv: Tensor, heads: int) -> Tensor:
        """Queries, keys and values (total, 3 D) -> (total, D)."""
        return packed_attention(
            qkv.unflatten(1, (3, heads, -1)),
            self.cu_seqlens,
            self.max_seqlen,
            time=self.time,
            visible=self.visible,
            buckets=self.buckets,
        ).flatten(1)

    def select(self, patches: Sequence[Tensor | None]) -> "TokenSelection":
        """Every CLS, then the given patch tokens of each group.

        patches: per group int64 (R,), which number its sequences' patches one sequence after the
        other, or None: no patch. A group with patches must be whole.
        """
        groups = self.cls_rows.split([n for n, _ in self.groups])
        rows, queries = [self.cls_rows], [self.cls_rows[:0]]
        for cls, chosen, (_, t) in zip(groups, patches, self.groups, strict=True):
            needed = torch.ones_like(cls)
            if chosen is not None:
                count = t * self.joints
                sequence = chosen // count
                rows.append(cls[sequence] + self.prefix + chosen % count)
                needed[sequence] = self.prefix + count
            queries.append(needed)
        return TokenSelection(torch.cat(rows), torch.cat(queries))

    def restrict_keys(
        self, masks: Sequence[Tensor | None], drop_masked: Sequence[bool]
    ) -> "Packing":
        """This packing of whole sequences, with masked tokens as queries but not as keys.

        masks: per group (sequences, T, V) bool or None; drop_masked: whether the group's masked
        tokens are dropped altogether. Where any are, their number is read on the host.
        """
        if all(mask is None for mask in masks):
            return self
        visible, present = [], []
        for mask, drop, (n, t) in zip(masks, drop_masked, self.groups, strict=True):
            keys = self.time.new_ones(n, self.prefix + t * self.joints, dtype=torch.bool)
            if mask is not None:
                keys[:, self.prefix :] = ~mask.flatten(1)
            visible.append(keys)
            present.append(keys if drop else torch.ones_like(keys))
        is_key = torch.cat([group.flatten() for group in visible])
        if not any(drop_masked):
            return replace(self, visible=is_key)
        lengths = torch.cat([group.sum(1) for group in present])
        index = torch.cat([group.flatten() for group in present]).nonzero()[:, 0]
        bounds = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).to(torch.int32)
        return replace(
            self,
            cu_seqlens=bounds,
            time=self.time[index],
            index=None if len(index) == len(self.time) else index,
            visible=is_key[index],
        )


@dataclass(frozen=True)
class TokenSelection:
    """The tokens of a packed batch whose features are needed."""

    rows: Tensor
    """int64 (R,): every sequence's CLS, then the patches."""
    queries: Tensor
    """int64 (S,): how many tokens of each sequence the last block computes, all or only its CLS."""

    def split(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (R, D) of the rows -> those of every CLS (S, D), those of the patches."""
        return features[: len(self.queries)], features[len(self.queries) :]


@dataclass(frozen=True)
class SortedViews:
    """Views by group, the global ones first, in an order in which the encoder is fastest."""

    clips: list[Tensor]
    """(B * n, w, V, C) of each group."""
    masks: list[Tensor]
    """(B * n, w / 8, V) bool."""
    orders: list[Tensor | None]
    """int64 (B * n,), which of the views in the given order each is; None: as given."""
    batch: int
    fixed_shapes: bool = False
    """Whether no token may be dropped, because the host would have to read how many."""

    def restore(self, features: Tensor, group: int) -> Tensor:
        """Features (B * n, D) of a group's views -> (B, n, D), in the given order."""
        order = self.orders[group]
        features = features if order is None else features[order.argsort()]
        return features.unflatten(0, (self.batch, -1))


def sort_views(
    clips: Sequence[Tensor], masks: Sequence[Tensor], attention: str, fixed_shapes: bool = False
) -> SortedViews:
    """Put views beside those that cost as much: kernels work on neighbouring sequences together.

    clips (B, n, w, V, C) and masks (B, n, w / 8, V) of each group, the global views first. These
    are sorted by whether any token is masked, because the last block computes the patch tokens of
    masked views only; local ones, where their masked tokens are dropped (attention "visible"), by
    how many are left.
    """
    views = SortedViews([], [], [], len(masks[0]), fixed_shapes)
    for number, (x, mask) in enumerate(zip(clips, masks, strict=True)):
        x, mask = x.flatten(0, 1), mask.flatten(0, 1)
        cost = mask.flatten(1).sum(1)
        if number == 0:
            cost = (cost > 0).to(torch.uint8)
        order = None
        if number == 0 or attention != "all":
            order = cost.argsort(descending=True, stable=True)
            x, mask = x[order], mask[order]
        views.clips.append(x)
        views.masks.append(mask)
        views.orders.append(order)
    return views


@dataclass(frozen=True)
class MaskedTokens:
    """The masked patch tokens of the global views."""

    indices: Tensor
    """int64 (R,), numbering the views' patches one view after the other (`Packing.select`)."""
    is_masked: Tensor | None
    """(R,) bool: False for the rows that only fill up R; None: all are masked."""
    weight: Tensor
    """float32 (R,): 1 / (masked tokens of the token's view), over the number of views."""


def find_masked_tokens(masks: Tensor, count: int | None = None) -> MaskedTokens:
    """The masked tokens of masks (2 B, T, V) bool.

    count: R, no less than are masked. None: just as many, which the host has to read.
    """
    hidden = masks.flatten(1)
    indices, is_masked = masked_indices(hidden, count)
    weight = 1.0 / (hidden.sum(1).clamp_min(1) * len(hidden))  # (2 B,)
    return MaskedTokens(indices, is_masked, weight[indices // hidden.shape[1]])


def masked_indices(mask: Tensor, count: int | None) -> tuple[Tensor, Tensor | None]:
    """int64 (R,) indices where mask (n, patches) bool is True, as `Packing.select` numbers them.

    count: R, at least as many as are masked: then no size depends on the mask and the host reads
    nothing, as a CUDA graph demands; the rest are unmasked ones, and (R,) bool says which are
    masked.
    """
    flat = mask.flatten()
    if count is None:
        return flat.nonzero()[:, 0], None
    order = flat.to(torch.uint8).argsort(descending=True, stable=True)[:count]
    return order, flat[order]


@cached_tensors(64)
def pack_sequences(
    groups: tuple[tuple[int, int], ...], prefix: int, joints: int, device: torch.device
) -> Packing:
    """The packing of whole sequences; cached, because a run needs the same few again and again."""
    zero = torch.zeros(1, dtype=torch.int32)
    lengths = [torch.full((n,), prefix + t * joints, dtype=torch.int32) for n, t in groups]
    bounds = torch.cat([zero, *lengths]).cumsum(0).to(torch.int32)
    times = []
    for n, t in groups:
        one = torch.cat([torch.full((prefix,), -1), torch.arange(t).repeat_interleave(joints)])
        times.append(one.to(torch.int32).repeat(n))
    longest = max([0, *(prefix + t * joints for _, t in groups)])
    return Packing(
        groups, prefix, joints, bounds.to(device), torch.cat([zero[:0], *times]).to(device), longest
    )

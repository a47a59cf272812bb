"""Sequences of several lengths laid end to end, without padding."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from slim_kernels.kept import kept
from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """Where the sequences of a packed batch lie.

    groups: (sequences, temporal tokens T) of neighbouring sequences of one size; a sequence is
    [prefix tokens, T * V patch tokens, time-major], less those that are left out.
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
    """int64 (total,), where tokens are left out: which of the whole sequences' tokens these are."""
    visible: Tensor | None = None
    """(total,) bool, which tokens may be attended to; None: all."""

    @property
    def first(self) -> Tensor:
        """int64 (S,), each sequence's first token, which is its CLS."""
        return self.cu_seqlens[:-1].long()

    @property
    def buckets(self) -> list[int]:
        """Sequences of each group, and how long they are at most, in turn."""
        return [number for n, t in self.groups for number in (n, self.prefix + t * self.joints)]

    def reading(self, places: Sequence[Tensor | None]) -> "Reading":
        """Every CLS, then the patch tokens at `places`: per group int64 (R,), numbering its sequences' patches one
        sequence after the other, or None: no patch. A group with places must be whole.
        """
        groups = self.first.split([n for n, _ in self.groups])
        rows, queries = [self.first], [self.first[:0]]
        for first, place, (_, t) in zip(groups, places, self.groups, strict=True):
            asked = torch.ones_like(first)
            if place is not None:
                patches = t * self.joints
                sequence = place // patches
                rows.append(first[sequence] + self.prefix + place % patches)
                asked[sequence] = self.prefix + patches
            queries.append(asked)
        return Reading(torch.cat(rows), torch.cat(queries))

    def only_visible_asked(self, masks: Sequence[Tensor | None], left_out: Sequence[bool]) -> "Packing":
        """This packing of whole sequences with masked tokens as queries only.

        masks: per group (sequences, T, V) bool or None; left_out: whether the group's masked tokens go altogether.
        Where any do, their number is read on the host.
        """
        if all(mask is None for mask in masks):
            return self
        visible, emitted = [], []
        for mask, out, (n, t) in zip(masks, left_out, self.groups, strict=True):
            seen = torch.ones(n, self.prefix + t * self.joints, dtype=torch.bool, device=self.time.device)
            if mask is not None:
                seen[:, self.prefix :] = ~mask.flatten(1)
            visible.append(seen)
            emitted.append(seen if out else torch.ones_like(seen))
        if not any(left_out):
            return replace(self, visible=torch.cat([group.flatten() for group in visible]))
        lengths = torch.cat([group.sum(1) for group in emitted])
        index = torch.cat([group.flatten() for group in emitted]).nonzero()[:, 0]
        bounds = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).to(torch.int32)
        seen = torch.cat([group.flatten() for group in visible])[index]
        whole = len(index) == len(self.time)
        return replace(
            self, cu_seqlens=bounds, time=self.time[index], index=None if whole else index, visible=seen
        )  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """Which tokens of a packed batch are needed."""

    rows: Tensor
    """int64 (R,)."""
    queries: Tensor
    """int64 (S,), how many of each sequence's tokens hold all that is needed: 1, only its CLS, or all."""


def masked_places(mask: Tensor, room: int | None) -> tuple[Tensor, Tensor | None]:
    """Where mask (n, patches) bool is True, as `Packing.reading` numbers places: int64 (R,), and None.

    room: R, at least as many as are masked: then the host reads nothing, the rest of the places are others, and which
    are masked comes second, (R,) bool.
    """
    flat = mask.flatten()
    if room is None:
        return flat.nonzero()[:, 0], None
    order = flat.to(torch.uint8).argsort(descending=True, stable=True)[:room]
    return order, flat[order]


@kept(64)
def packing(groups: tuple[tuple[int, int], ...], prefix: int, joints: int, device: torch.device) -> Packing:
    """The packing of whole sequences; kept, because a run asks for the same few again and again."""
    zero = torch.zeros(1, dtype=torch.int32)
    lengths = [torch.full((n,), prefix + t * joints, dtype=torch.int32) for n, t in groups]
    bounds = torch.cat([zero, *lengths]).cumsum(0).to(torch.int32)
    one = [torch.cat([torch.full((prefix,), -1), torch.arange(t).repeat_interleave(joints)]) for _, t in groups]
    times = [sequence.to(torch.int32).repeat(n) for sequence, (n, _) in zip(one, groups, strict=True)]
    longest = max([0, *(prefix + t * joints for _, t in groups)])
    return Packing(groups, prefix, joints, bounds.to(device), torch.cat([zero[:0], *times]).to(device), longest)

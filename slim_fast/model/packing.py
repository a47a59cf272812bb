"""Sequences of several lengths laid end to end, without padding."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """Where the sequences of a packed batch lie.

    groups: (sequences, temporal tokens T) of neighbouring sequences of one size; a sequence is
    [prefix tokens, T * V patch tokens, time-major].
    """

    groups: tuple[tuple[int, int], ...]
    prefix: int
    joints: int
    cu_seqlens: Tensor
    """int32 (S + 1,), where each sequence begins."""
    time: Tensor
    """int32 (total,), temporal index of each patch token, -1 for prefix tokens."""
    max_seqlen: int

    @property
    def first(self) -> Tensor:
        """int64 (S,), each sequence's first token, which is its CLS."""
        return self.cu_seqlens[:-1].long()

    def patches(self, x: Tensor) -> list[Tensor]:
        """The patch tokens of each group: packed (total, D) -> [(sequences, T * V, D)], views of x."""
        sizes = [n * (self.prefix + t * self.joints) for n, t in self.groups]
        parts = zip(x.split(sizes), self.groups, strict=True)
        return [part.unflatten(0, (n, -1))[:, self.prefix :] for part, (n, _) in parts]

    def reading(self, masks: list[Tensor | None]) -> "Reading":
        """Every CLS, then the masked patch tokens: masks per group (sequences, T * V) bool, None: no patch."""
        index, rows = torch.arange(len(self.time), device=self.time.device)[:, None], [self.first]
        queries = [self.first[:0]]
        for tokens, mask in zip(self.patches(index), masks, strict=True):
            sequences, patches, _ = tokens.shape
            asked = torch.ones(sequences, dtype=torch.int64, device=index.device)
            if mask is not None:
                rows.append(tokens[..., 0][mask])
                asked = torch.where(mask.any(1), self.prefix + patches, asked)
            queries.append(asked)
        return Reading(torch.cat(rows), torch.cat(queries))


@dataclass(frozen=True)
class Reading:
    """Which tokens of a packed batch are needed."""

    rows: Tensor
    """int64 (R,)."""
    queries: Tensor
    """int64 (S,), how many of each sequence's tokens hold all that is needed: 1, only its CLS, or all."""


@lru_cache(maxsize=64)
def packing(groups: tuple[tuple[int, int], ...], prefix: int, joints: int, device: torch.device) -> Packing:
    """The packing of `groups`; kept, because a run asks for the same few again and again."""
    lengths = [prefix + t * joints for n, t in groups for _ in range(n)]
    bounds = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    one = {t: torch.cat([torch.full((prefix,), -1), torch.arange(t).repeat_interleave(joints)]) for _, t in groups}
    time = (
        torch.cat([one[t].repeat(n) for n, t in groups]).to(torch.int32)
        if groups
        else torch.zeros(0, dtype=torch.int32)
    )
    return Packing(groups, prefix, joints, bounds.to(device), time.to(device), max(lengths, default=0))

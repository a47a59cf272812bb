"""Features that keep where and when: the mean patch of every body part at every time.

CLS and mean patch of a small encoder lose what tells similar actions of small data sets apart.
These keep it, and are long: frames / 8 · parts · width numbers a clip.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from einops import einsum, rearrange, reduce
from torch import Tensor

from slim_fast.data.cache import ClipCache
from slim_fast.evaluation.features import PEOPLE, load_evaluation_clips
from slim_fast.model.encoder import Encoder
from slim_fast.model.frozen import freeze
from slim_fast.skeletons import Topology

RIDGE = 0.1  # share of the mean variance that is added to each, so that noise is not blown up


@torch.no_grad()
def extract_parts(
    encoder: Encoder,
    cache: ClipCache,
    clips: np.ndarray,
    batch: int = 128,
    progress: Callable[[Sequence[int]], Iterable[int]] = lambda steps: steps,
    people: int = PEOPLE,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """(N, T / 8 · parts · D) float32 of the last block, summed over people, on the CPU.

    Arguments as of `extract_features`; the parts are those of the cache's skeleton.
    """
    frozen, average = freeze(encoder, dtype), part_averages(cache.topology)
    average = average.to(encoder.pos_embed)
    found = []
    for begin in progress(range(0, len(clips), batch)):
        some = clips[begin : begin + batch]
        views = load_evaluation_clips(cache, some, encoder.config.window, people)
        flat = rearrange(views, "n m t v c -> (n m) t v c").to(average.device)
        present = flat.flatten(1).any(1)
        times = flat.shape[1] // encoder.config.patch_frames
        sizes = (times, len(average), encoder.config.width)
        parts = torch.zeros(len(flat), *sizes, device=average.device)
        if present.any():
            patches = frozen.encode_last_blocks(flat[present], None, 1)[-1][0]
            patches = rearrange(patches, "n (t v) d -> n t v d", t=times)
            parts[present] = einsum(average, patches, "p v, n t v d -> n t p d").float()
        found.append(reduce(parts, "(n m) t p d -> n (t p d)", "sum", n=len(some)).cpu())
    return torch.cat(found)


def part_averages(topology: Topology) -> Tensor:
    """(parts, V): rows that average the joints of each body part."""
    average = torch.zeros(len(topology.parts), topology.num_joints)
    for row, joints in zip(average, topology.parts.values(), strict=True):
        row[list(joints)] = 1 / len(joints)
    return average


def whiten(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets (N, D), (S, D) along the principal axes of `train`, with about equal variances.

    At most N axes are kept. Eigenvalues get RIDGE of their mean before their roots divide.
    """
    train, test = train.double(), test.double()
    mean = train.mean(0)
    _, singular, axes = torch.linalg.svd(train - mean, full_matrices=False)
    variance = singular.square() / len(train)
    scale = (variance + RIDGE * variance.mean()).rsqrt().nan_to_num(posinf=0.0)
    return (train - mean) @ axes.t() * scale, (test - mean) @ axes.t() * scale

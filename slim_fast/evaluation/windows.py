"""Features that keep the order of what happens: CLS of overlapping windows of a clip, in turn.

One CLS token of a whole clip says which movements it holds, less which comes first. In training an
encoder sees as short windows as these, as local views.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from slim_fast.data.cache import ClipCache
from slim_fast.evaluation.features import PEOPLE, encode_clips, load_evaluation_clips
from slim_fast.model.encoder import Encoder
from slim_fast.model.frozen import freeze

LENGTH = 3  # a window is 1 / LENGTH of a clip
STEPS = 4  # windows begin every 1 / STEPS of their length
# The last block's CLS is what the heads read, to tell prototypes apart; the one before keeps more.
BLOCK = 2  # from the end
WINDOWS = STEPS * (LENGTH - 1) + 1


@torch.no_grad()
def extract_windows(
    encoder: Encoder,
    cache: ClipCache,
    clips: np.ndarray,
    batch: int = 16,
    progress: Callable[[Sequence[int]], Iterable[int]] = lambda steps: steps,
    people: int = PEOPLE,
    dtype: torch.dtype | None = None,
    block: int = BLOCK,
) -> Tensor:
    """(N, WINDOWS · D) float32, CLS of one block, summed over people, on the CPU.

    A clip is read at LENGTH times the encoder's frames, which are those of each window.
    block: from the end, 1 is the last; of an encoder of fewer blocks, the first. Other arguments
    as of `extract_features`.
    """
    frozen, frames = freeze(encoder, dtype), encoder.config.window
    blocks = min(block, encoder.config.depth)
    starts = [frames * window // STEPS for window in range(WINDOWS)]
    found = []
    for begin in progress(range(0, len(clips), batch)):
        some = clips[begin : begin + batch]
        views = load_evaluation_clips(cache, some, LENGTH * frames, people)
        windows = torch.stack([views[:, :, start : start + frames] for start in starts], 1)
        features = encode_clips(frozen, rearrange(windows, "n w ... -> (n w) ..."), blocks)
        found.append(rearrange(features.cls[:, 0], "(n w) d -> n (w d)", n=len(some)).cpu())
    return torch.cat(found)

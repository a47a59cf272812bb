"""Features computed once and kept on disk, found again by what they were computed from."""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from slim_fast import __version__
from slim_fast.data.cache import ClipCache
from slim_fast.errors import describe_os_error
from slim_fast.evaluation.features import PEOPLE, Features, extract_features
from slim_fast.model.encoder import Encoder
from slim_fast.skeletons import Topology
from slim_fast.writing import replace_atomically

FORMAT = "slim_fast features 1"
_CHUNK = 1 << 24  # bytes read at a time
Progress = Callable[[Sequence[int]], Iterable[int]]


def hash_encoder(encoder: Encoder) -> str:
    """Identifies an encoder by its sizes, skeleton and weights."""
    topology = encoder.topology
    skeleton = topology.to_dict() if isinstance(topology, Topology) else topology
    about = [asdict(encoder.config), skeleton, encoder.channel_names]
    digest = hashlib.blake2b(json.dumps(about).encode(), digest_size=16)
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def hash_cache(cache: ClipCache) -> str:
    """Identifies a clip cache by the content of its files."""
    digest = hashlib.blake2b(digest_size=16)
    for name in ("meta.json", "clips.npz", "positions.npy"):
        with (cache.path / name).open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


@dataclass
class FeatureFiles:
    """Features of a cache's clips, read from `folder` where they are, else computed and kept there.

    A file's name holds a hash of the encoder's weights, the cache's content, the clips, the people,
    the precision and this version, so that no file is ever stale; any may be deleted. One that is
    damaged is computed again. folder None: nothing is kept.
    """

    folder: Path | None
    cache: ClipCache
    people: int = PEOPLE
    dtype: torch.dtype | None = None
    progress: Progress = field(default=lambda steps: steps)

    @cached_property
    def cache_hash(self) -> str:
        """Of the cache's content, computed once."""
        return hash_cache(self.cache)

    def load(self, encoder: Encoder, clips: np.ndarray, blocks: int, name: str) -> Features:
        """Features of `clips` (N,) with the CLS tokens of the last `blocks` blocks.

        name: of the encoder, for the file's name.
        Warns: when they cannot be kept.
        """
        if self.folder is None:
            return self._compute(encoder, clips, blocks)
        key = self._key(encoder, clips, blocks)
        path = self.folder / f"{name}-{key}.safetensors"
        kept = _read(path, len(clips))
        if kept is not None:
            return kept
        features = self._compute(encoder, clips, blocks)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            tensors = {
                name: tensor.contiguous()
                for name, tensor in vars(features).items()
                if isinstance(tensor, torch.Tensor)
            }
            with replace_atomically(path) as temporary:
                save_file(tensors, temporary, {"format": FORMAT})
        except (OSError, SafetensorError) as error:
            why = describe_os_error(error) if isinstance(error, OSError) else error
            warnings.warn(f"The features could not be kept in {path} ({why}).", stacklevel=2)
        return features

    def _compute(self, encoder: Encoder, clips: np.ndarray, blocks: int) -> Features:
        options = {"people": self.people, "dtype": self.dtype, "blocks": blocks}
        return extract_features(encoder, self.cache, clips, progress=self.progress, **options)  # type: ignore[arg-type]

    def _key(self, encoder: Encoder, clips: np.ndarray, blocks: int) -> str:
        facts = [FORMAT, __version__, hash_encoder(encoder), self.cache_hash, blocks, self.people]
        facts += [str(self.dtype), encoder.pos_embed.device.type]
        digest = hashlib.blake2b(json.dumps(facts).encode(), digest_size=12)
        digest.update(np.asarray(clips, dtype=np.int64).tobytes())
        return digest.hexdigest()


def _read(path: Path, clips: int) -> Features | None:
    """The features in a file; None when there is none, or a damaged one."""
    try:
        tensors = load_file(path)
        features = Features(**tensors)
    except (OSError, SafetensorError, TypeError):
        return None
    return features if all(len(tensor) == clips for tensor in tensors.values()) else None

"""python -m benchmarks.precisions ENCODER --data CACHE --title RECORDINGS: what precisions cost.

Accuracy of an encoder's frozen features on the cache's test clips in fp32 and bf16 (PyTorch) and in
int8 (onnxruntime), whose activations are rounded to the range that they have in each call, or in
CALIBRATION training clips. Beside it stands how far features are from those of fp32, and how much
they change when a clip is alone in its call instead of among BATCH: ‖got - want‖ / ‖want‖.
"""

import argparse
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from benchmarks.records.machine import environment
from benchmarks.records.recorder import RESULTS, write_json
from slim_fast import SLiMEncoder
from slim_fast.data import ClipCache
from slim_fast.errors import UserError
from slim_fast.evaluation.features import load_evaluation_clips
from slim_fast.evaluation.knn import compute_knn_accuracy
from slim_fast.evaluation.linear import compute_linear_accuracy
from slim_fast.evaluation.probe import select_held_out, select_labelled_clips
from slim_fast.interop.transfer import match_to_cache

CALIBRATION, BATCH = 100, 128
INT8 = {"backend": "onnxruntime", "precision": "int8"}
WAYS: Mapping[str, Mapping[str, Any]] = {
    "fp32": {"precision": "fp32"},
    "bf16": {"precision": "bf16"},
    "int8": INT8,
    "int8, calibrated": INT8,
}


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precisions", description=__doc__)
    parser.add_argument("encoder", help="run, encoder's folder, or name")
    parser.add_argument("--data", type=Path, required=True, help="labelled cache with a split")
    parser.add_argument("--title", required=True, help="name of the recordings")
    parser.add_argument(
        "--match-joints", action="store_true", help="transfer the encoder to the cache's skeleton"
    )
    parser.add_argument("--records", type=Path, default=RESULTS / "precisions", help="folder")
    words = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    try:
        cache = ClipCache.open(options.data)
        encoder = SLiMEncoder.from_pretrained(options.encoder)
        figures = measure(match_to_cache(encoder, cache, options.match_joints), cache)
        name = Path(options.encoder).name
        about = {
            "encoder": name,
            "recordings": options.title,
            "width": encoder.config.width,
            "command": f"python -m benchmarks.precisions {shlex.join(words)}",
        }
        path = options.records / f"{options.title}-{name}.json"
        write_json(path, {**about, "figures": figures, **environment(quick=False)})
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"On record in {path}; `python -m benchmarks.records --write` renews the pages.")
    return 0


def measure(encoder: SLiMEncoder, cache: ClipCache) -> dict[str, dict[str, float]]:
    """Of each of WAYS: accuracies, and relative changes of features. Raises: UserError."""
    sides = select_labelled_clips(cache)
    labels = [torch.from_numpy(np.asarray(cache.label[clips], dtype=np.int64)) for clips in sides]
    held_out = select_held_out(cache, sides[0])
    chosen = np.linspace(0, len(sides[0]) - 1, CALIBRATION).round().astype(int)
    some = load_clips(cache, sides[0][np.unique(chosen)], encoder)
    figures: dict[str, dict[str, float]] = {}
    want = torch.empty(0)
    for name, way in WAYS.items():
        fast = encoder.optimize(**way, calibration=some if name.endswith("calibrated") else None)
        (train, pooled), (test, tested) = (extract(fast, cache, clips) for clips in sides)
        want = want if len(want) else tested
        alone = extract(fast, cache, sides[1], 1)[1]
        figures[name] = {
            "knn_top1": compute_knn_accuracy(train, labels[0], test, labels[1])[1],
            "linear_top1": compute_linear_accuracy(pooled, labels[0], tested, labels[1], held_out)[
                0
            ],
            "error": compare(tested, want),
            "alone": compare(alone, tested),
        }
        print(name, figures[name], flush=True)
    return figures


def load_clips(cache: ClipCache, clips: np.ndarray, encoder: SLiMEncoder) -> Tensor:
    """(N, C, T, V, M) evaluation clips."""
    views = load_evaluation_clips(cache, clips, encoder.config.window)
    return rearrange(views, "n m t v c -> n c t v m")


@torch.no_grad()
def extract(
    encoder: SLiMEncoder, cache: ClipCache, clips: np.ndarray, batch: int = BATCH
) -> tuple[Tensor, Tensor]:
    """`Features.retrieval` and `Features.pooled` by an optimized encoder, `batch` clips a call."""
    parts = []
    for begin in range(0, len(clips), batch):
        x = load_clips(cache, clips[begin : begin + batch], encoder)
        out = encoder.forward_features(x)
        two = torch.stack([out["x_norm_clstoken"], out["x_norm_patchtokens"].mean(1)], 1)
        parts.append(rearrange(two, "(n m) two d -> n two m d", n=len(x)))
    tokens = torch.cat(parts)
    return tokens.flatten(1), tokens.sum(2).flatten(1)


def compare(got: Tensor, want: Tensor) -> float:
    """‖got - want‖ / ‖want‖."""
    return float((got - want).norm() / want.norm())


if __name__ == "__main__":
    sys.exit(main())

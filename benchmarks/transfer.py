"""python -m benchmarks.transfer --data FOLDER --out FOLDER: an encoder on another skeleton.

Pre-trains on MSRC-12 (kinect-v1-20) and carries the weights over to UTD-MHAD as it is (utd-mhad-20,
the joints in another order), and reduced to coco-17, in 3-D and as a camera sees it in 2-D. Beside
it stand a random encoder, the same transfer with the joints' embeddings shuffled, and an encoder
pre-trained on the target itself. Clips are centred on the target's own centre joint and, as
MSRC-12's, on the spine. FOLDER holds msrc12.npz and utd_mhad.npz; --out gets caches and runs, which
a second call goes on with. Only accuracies are recorded.
"""

import argparse
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.records.machine import environment
from benchmarks.records.recorder import RESULTS, write_json
from slim_fast import SLiMEncoder
from slim_fast.data import CacheWriter, ClipCache
from slim_fast.data.clips import Clip
from slim_fast.data.convert import convert
from slim_fast.data.readers import Options
from slim_fast.errors import UserError
from slim_fast.evaluation.features import load_evaluation_clips
from slim_fast.evaluation.knn import compute_knn_accuracy
from slim_fast.evaluation.linear import compute_linear_accuracy
from slim_fast.evaluation.probe import make_random_encoder, select_held_out, select_labelled_clips
from slim_fast.interop.transfer import transfer
from slim_fast.model.encoder import Encoder
from slim_fast.model.frozen import freeze
from slim_fast.pretrain import parse
from slim_fast.skeletons import get_topology
from slim_fast.skeletons.correspondence import match_joints
from slim_fast.training.loop import Interrupted
from slim_fast.training.run import pretrain

SOURCE = ("msrc12", "msrc12.npz", "kinect-v1-20")
RECORDINGS = ("utd-mhad-20", "utd_mhad.npz", "utd-mhad-20")
TARGETS = ("utd-mhad-20", "coco-17-xyz", "coco-17-xy")
STEPS = 500


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of msrc12.npz and utd_mhad.npz"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the caches and runs")
    parser.add_argument(
        "--results", type=Path, default=RESULTS / "transfer", help="folder of the accuracies"
    )
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        for seed in options.seeds:
            for target in options.targets:
                record = measure(options.data, options.out, target, seed)
                write_json(options.results / f"{target}-{seed}.json", record)
                print(target, seed, json.dumps(record["accuracies"], indent=1))
    except (UserError, OSError) as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return stop.status
    except KeyboardInterrupt:
        print("Stopped by SIGINT. The same command goes on.", file=sys.stderr)
        return 130
    return 0


def measure(data: Path, out: Path, target: str, seed: int) -> dict[str, Any]:
    """Accuracies of every encoder on the target. Raises: UserError for unreadable data."""
    caches = {name: out / "caches" / name for name in (SOURCE[0], *TARGETS)}
    for name, file, topology in (SOURCE, RECORDINGS):
        if not caches[name].exists():
            convert(data / file, caches[name], Options(get_topology(topology)))
    if not caches[target].exists():
        write_coco(caches[RECORDINGS[0]], caches[target])
    cache = ClipCache.open(caches[target])
    folders = {name: out / "runs" / f"{name}-{seed}" for name in (SOURCE[0], target)}
    commands = {
        name: pretrain_arguments(caches[name], folder, seed) for name, folder in folders.items()
    }
    for words in commands.values():
        pretrain(parse(words))
    source = SLiMEncoder.from_pretrained(folders[SOURCE[0]])
    moved = source.to_skeleton(cache.topology, cache.channels)
    found = match_joints(get_topology(SOURCE[2]), cache.topology)
    order = random.Random(seed).sample(range(len(found.weights)), len(found.weights))
    shuffled = replace(found, weights=tuple(found.weights[joint] for joint in order))
    encoders = {
        "random_encoder": make_random_encoder(moved, seed),
        "shuffled": transfer(source, shuffled, cache.channels),
        "transferred": moved,
        "pretrained": SLiMEncoder.from_pretrained(folders[target]),
    }
    about = {"target": target, "source": SOURCE[2], "seed": seed, "steps": STEPS}
    shown = {
        name: " ".join(["python -m slim_fast.pretrain", *words]).replace(str(out), "OUT")
        for name, words in commands.items()
    }
    accuracies = {name: measure_accuracies(cache, encoder) for name, encoder in encoders.items()}
    # Again with clips centred where those of the source were; the target's own encoder was trained
    # on the others.
    del encoders["pretrained"]
    centred = {n: measure_accuracies(cache, e, found.origin) for n, e in encoders.items()}
    results = {"accuracies": accuracies, "centred": centred, "commands": shown}
    return {**about, **results, **environment(quick=False)}


def pretrain_arguments(cache: Path, run: Path, seed: int) -> list[str]:
    """Arguments of the pre-training."""
    fixed = f"--preset small --steps {STEPS} --log.knn_every {STEPS} --log.plots false --threads 1"
    return [*fixed.split(), "--seed", str(seed), "--data", str(cache), "--out", str(run)]


def write_coco(recordings: Path, path: Path) -> None:
    """UTD-MHAD as coco-17 with x to the right and y down; the whole face is where the head is."""
    whole, topology = ClipCache.open(recordings), get_topology("coco-17")
    channels = path.name.rsplit("-", 1)[1]
    face = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
    names = ["head" if name in face else name for name in topology.joints]
    joints = [whole.topology.joints.index(name) for name in names]
    # Kinects have x to the left and y up.
    signs = np.array([-1, -1, 1], np.float32)[: len(channels)]
    sides = {0: {}, 1: {"xsub": "train"}, 2: {"xsub": "test"}}
    with CacheWriter(path, topology, channels, whole.classes, "utd_mhad.npz") as writer:
        for clip in range(len(whole)):
            # (T, 17, C, M)
            positions = whole.clip(clip)[:, joints, : len(channels)] * signs[:, None]
            label, subject, side = (
                int(a[clip]) for a in (whole.label, whole.subject, whole.splits["xsub"])
            )
            writer.add(Clip(positions, str(whole.names[clip]), label, subject, split=sides[side]))


def measure_accuracies(
    cache: ClipCache, encoder: Encoder, origin: Sequence[float] | None = None
) -> dict[str, float]:
    """1-NN and linear accuracy of frozen features on the test side; origin: weights of the joints
    whose mean in the first frame is the origin, instead of the centre joint.
    """
    sides = select_labelled_clips(cache)
    fitted, scored = (features(cache, encoder, clips, origin) for clips in sides)
    labels = [torch.from_numpy(np.asarray(cache.label[clips], dtype=np.int64)) for clips in sides]
    knn = compute_knn_accuracy(fitted, labels[0], scored, labels[1])
    linear, _ = compute_linear_accuracy(
        fitted, labels[0], scored, labels[1], select_held_out(cache, sides[0])
    )
    return {"knn_top1": knn[1], "linear_top1": linear}


@torch.no_grad()
def features(
    cache: ClipCache, encoder: Encoder, clips: np.ndarray, origin: Sequence[float] | None
) -> Tensor:
    """(N, 2 D) CLS and mean patch of clips of one person."""
    views = load_evaluation_clips(cache, clips)[:, 0]  # (N, T, V, C)
    if origin is not None:
        first = torch.from_numpy(np.asarray(cache.positions[cache.start[clips]]))  # (N, V, C)
        moved = torch.einsum("nvc,v->nc", first, torch.tensor(origin))
        views = views - (moved - first[:, cache.topology.centre])[:, None, None]
    frozen = freeze(encoder)
    parts = [frozen.encode_last_blocks(part, None, 1)[0] for part in views.split(128)]
    return torch.cat([torch.cat([cls, patches.mean(1)], 1) for patches, cls in parts])


if __name__ == "__main__":
    sys.exit(main())

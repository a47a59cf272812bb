"""python -m benchmarks.transfer --data FOLDER --out FOLDER: what an encoder of one skeleton is worth on another.

Pre-trains on MSRC-12 (kinect-v1-20) and carries the weights over to UTD-MHAD as it is (utd-mhad-20, the joints in
another order), and reduced to coco-17, in 3-D and as a camera sees it in 2-D. Beside it stand a random encoder, the
same transfer with the joints' embeddings shuffled, and an encoder pre-trained on the target itself. Clips are centred
on the target's own centre joint and, as MSRC-12's, on the spine. FOLDER holds msrc12.npz and utd_mhad.npz; --out gets
caches and runs, which a second call goes on with. Only accuracies are recorded.
"""

from __future__ import annotations

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

from benchmarks.records import RESULTS, environment
from slim_fast import SLiMEncoder
from slim_fast.data.cache import CacheWriter, ClipCache
from slim_fast.data.clips import Clip
from slim_fast.data.convert import convert
from slim_fast.data.readers import Options
from slim_fast.errors import UserError
from slim_fast.evaluation.features import evaluation_clips
from slim_fast.evaluation.knn import knn_accuracy
from slim_fast.evaluation.linear import linear_accuracy
from slim_fast.evaluation.probe import held_out_rows, labelled_split, random_encoder
from slim_fast.interop.transfer import transfer
from slim_fast.model.encoder import Encoder
from slim_fast.model.frozen import freeze
from slim_fast.pretrain import parse
from slim_fast.skeletons import get_topology
from slim_fast.skeletons.correspondence import correspondence
from slim_fast.training.checkpoint import write_atomically
from slim_fast.training.run import Interrupted, pretrain

SOURCE = ("msrc12", "msrc12.npz", "kinect-v1-20")
RECORDINGS = ("utd-mhad-20", "utd_mhad.npz", "utd-mhad-20")
TARGETS = ("utd-mhad-20", "coco-17-xyz", "coco-17-xy")
STEPS = 500


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of msrc12.npz and utd_mhad.npz")
    parser.add_argument("--out", type=Path, required=True, help="folder of the caches and runs")
    parser.add_argument("--results", type=Path, default=RESULTS / "transfer", help="folder of the accuracies")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        for seed in options.seeds:
            for target in options.targets:
                record = measure(options.data, options.out, target, seed)
                options.results.mkdir(parents=True, exist_ok=True)
                text = json.dumps(record, indent=1) + "\n"
                write_atomically(options.results / f"{target}-{seed}.json", lambda file, t=text: file.write(t.encode()))
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
    """Accuracies of every encoder on the target, and what they depend on. Raises: UserError for unreadable data."""
    caches = {name: out / "caches" / name for name in (SOURCE[0], *TARGETS)}
    for name, file, topology in (SOURCE, RECORDINGS):
        if not caches[name].exists():
            convert(data / file, caches[name], Options(get_topology(topology)))
    cache = ClipCache.open(caches[target] if caches[target].exists() else reduce(caches[RECORDINGS[0]], caches[target]))
    commands = {name: command(caches[name], out / "runs" / f"{name}-{seed}", seed) for name in (SOURCE[0], target)}
    for words in commands.values():
        pretrain(parse(words))
    folders = {name: out / "runs" / f"{name}-{seed}" for name in commands}
    source = SLiMEncoder.from_pretrained(folders[SOURCE[0]])
    moved = source.to_skeleton(cache.topology, cache.channels)
    found = correspondence(get_topology(SOURCE[2]), cache.topology)
    order = random.Random(seed).sample(range(len(found.weights)), len(found.weights))
    shuffled = replace(found, weights=tuple(found.weights[joint] for joint in order))
    encoders = {
        "random_encoder": random_encoder(moved, seed),
        "shuffled": transfer(source, shuffled, cache.channels),
        "transferred": moved,
        "pretrained": SLiMEncoder.from_pretrained(folders[target]),
    }
    about = {"target": target, "source": SOURCE[2], "seed": seed, "steps": STEPS}
    shown = {
        name: " ".join(["python -m slim_fast.pretrain", *words]).replace(str(out), "OUT")
        for name, words in commands.items()
    }
    accuracies = {name: figures(cache, encoder) for name, encoder in encoders.items()}
    # Again with clips centred where those of the source were; the encoder of the target's own knows them otherwise.
    centred = {name: figures(cache, encoders[name], found.origin) for name in list(encoders)[:-1]}
    return {**about, "accuracies": accuracies, "centred": centred, "commands": shown, **environment(quick=False)}


def command(cache: Path, run: Path, seed: int) -> list[str]:
    """Arguments of the pre-training."""
    fixed = f"--preset small --steps {STEPS} --threads 1 --seed {seed} --log.plots false --log.knn_every {STEPS}"
    return [*fixed.split(), "--data", str(cache), "--out", str(run)]


def reduce(recordings: Path, path: Path) -> Path:
    """UTD-MHAD as coco-17 in the space of pictures, x to the right and y down; the whole face is where the head is."""
    whole, topology = ClipCache.open(recordings), get_topology("coco-17")
    channels = path.name.rsplit("-", 1)[1]
    face = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
    joints = [whole.topology.joints.index("head" if name in face else name) for name in topology.joints]
    # Kinects have x to the left and y up.
    signs = np.array([-1, -1, 1], np.float32)[: len(channels)]
    sides = {0: {}, 1: {"xsub": "train"}, 2: {"xsub": "test"}}
    with CacheWriter(path, topology, channels, whole.classes, "utd_mhad.npz") as writer:
        for clip in range(len(whole)):
            positions = whole.clip(clip)[:, joints, : len(channels)] * signs[:, None]  # (T, 17, C, M)
            label, subject, side = (int(a[clip]) for a in (whole.label, whole.subject, whole.splits["xsub"]))
            writer.add(Clip(positions, str(whole.names[clip]), label, subject, split=sides[side]))
    return path


def figures(cache: ClipCache, encoder: Encoder, origin: Sequence[float] | None = None) -> dict[str, float]:
    """1-NN and linear accuracy of frozen features on the test side; origin: weights of the joints whose mean in the
    first frame is the origin, instead of the centre joint.
    """
    sides = labelled_split(cache)
    fitted, scored = (features(cache, encoder, clips, origin) for clips in sides)
    labels = [torch.from_numpy(np.asarray(cache.label[clips], dtype=np.int64)) for clips in sides]
    knn = knn_accuracy(fitted, labels[0], scored, labels[1])
    linear, _ = linear_accuracy(fitted, labels[0], scored, labels[1], held_out_rows(cache, sides[0]))
    return {"knn_top1": knn[1], "linear_top1": linear}


@torch.no_grad()
def features(cache: ClipCache, encoder: Encoder, clips: np.ndarray, origin: Sequence[float] | None) -> Tensor:
    """(N, 2 D) CLS and mean patch of clips of one person."""
    views = evaluation_clips(cache, clips)[:, 0]  # (N, T, V, C)
    if origin is not None:
        first = torch.from_numpy(np.asarray(cache.positions[cache.start[clips]]))  # (N, V, C)
        moved = torch.einsum("nvc,v->nc", first, torch.tensor(origin)) - first[:, cache.topology.centre]
        views = views - moved[:, None, None]
    frozen = freeze(encoder)
    parts = [frozen.last_blocks(part, None, 1)[0] for part in views.split(128)]
    return torch.cat([torch.cat([cls, patches.mean(1)], 1) for patches, cls in parts])


if __name__ == "__main__":
    sys.exit(main())

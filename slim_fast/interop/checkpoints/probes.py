"""Trained linear probes beside an encoder's weights, as in SLiM's release: linear/*.pth."""

import re
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slim_fast.data.cache import ClipCache
from slim_fast.data.readers.ntu import find_action_names
from slim_fast.errors import UserError, suggest
from slim_fast.evaluation.features import extract_features
from slim_fast.evaluation.grid.classifiers import Choice, Grid, find_best
from slim_fast.evaluation.grid.files import SavedGrid, load_grid, name_classifier
from slim_fast.evaluation.probe import check_encoder_fits
from slim_fast.interop.checkpoints.hub import split_name
from slim_fast.interop.checkpoints.read import Checkpoint, read_checkpoint
from slim_fast.model.encoder import Encoder
from slim_fast.model.files import CLASSES
from slim_fast.reading import parse_json

BEST = "best"
FOLDER = "linear"
_MIDDLE_RATE = 0.00125
"""The learning rate in the middle of the release's grid, 0.005 at its batch of 64 / 256."""


def probe_patterns(subfolder: str | None) -> list[str]:
    """Where a repository may hold the probes of the encoder in its subfolder."""
    inside = (subfolder or "").strip("/")
    return [*([f"{inside}/{FOLDER}/*.pth"] if inside else []), f"{FOLDER}/*.pth"]


def read_with_probe(
    source: str | Path | Checkpoint,
    probe: str,
    file: str | Path | None = None,
    labelled: str | Path | ClipCache | None = None,
    subfolder: str | None = None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
) -> Checkpoint:
    """`read_checkpoint` of an encoder with a probe as its head. See `add_probe`."""
    name = "" if isinstance(source, Checkpoint) else str(source)
    _, inside = split_name(name, subfolder)
    more = probe_patterns(inside) if file is None else []
    checkpoint = read_checkpoint(source, subfolder, revision, cache_dir, token, more)
    return add_probe(checkpoint, probe, file, labelled, inside)


def add_probe(
    checkpoint: Checkpoint,
    probe: str,
    file: str | Path | None = None,
    labelled: str | Path | ClipCache | None = None,
    subfolder: str | None = None,
) -> Checkpoint:
    """The checkpoint of an encoder with a linear probe as its head (paper section 4, linear).

    Args:
        probe: "best", or a classifier's name, "classifier_4_blocks_avgpool_True_lr_0_00125".
        file: of the probes; None: what lies in linear/, or what `slim-fast evaluate linear` left in
            the run.
        labelled: a clip cache on whose labelled clips the most accurate probe is the "best": those
            for training, where it has a split. None: the one that the file's note names, else that
            with most features and the middle learning rate.
        subfolder: of the repository that the encoder was read from.

    Raises: UserError without probes, for an unknown name, and as `load_grid`.
    Warns: when nothing says which probe is the best.
    """
    path = find_probes(checkpoint, subfolder) if file is None else Path(file)
    config = checkpoint.about.config
    saved = load_grid(path, config.width, config.depth)
    if probe != BEST:
        choice = find_by_name(saved.grid, probe, path)
    elif labelled is not None:
        cache = labelled if isinstance(labelled, ClipCache) else ClipCache.open(labelled)
        choice = choose_on_clips(checkpoint, saved.grid, cache)
    else:
        choice = saved.chosen or choose_unseen(saved, path)
    weight, bias = saved.grid.find(choice)
    names = name_classes(checkpoint, path, len(bias))
    head: dict[str, Any] = {
        "num_classes": len(bias),
        "pool": "cls+mean" if choice.avgpool else "cls",
        "people_pool": "sum",
        "cls_blocks": choice.blocks,
        **({"class_names": list(names)} if names else {}),
    }
    about = replace(checkpoint.about, more={**checkpoint.about.more, **head})
    weights = {**checkpoint.weights, "head.weight": weight, "head.bias": bias}
    return replace(checkpoint, about=about, weights=weights)


def find_probes(checkpoint: Checkpoint, subfolder: str | None = None) -> Path:
    """The file of probes that lies beside a checkpoint. Raises: UserError unless there is one."""
    folder = checkpoint.source.parent
    places = [folder / FOLDER, folder.parent / FOLDER, folder.parent / "evaluation"]
    for place in places:
        pattern = "*/linear.pth" if place.name == "evaluation" else "*.pth"
        found = sorted(place.glob(pattern))
        words = set(re.findall(r"[a-z\d]+", (subfolder or folder.name).lower()))
        if len(found) > 1:  # the probes of several encoders: slim_ntu60_best_xsub.pth
            named = [p for p in found if words <= set(re.findall(r"[a-z\d]+", p.stem.lower()))]
            found = named or found
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(
                f"{place} holds several files of probes ({', '.join(p.name for p in found)}): "
                "give one, probes=FILE."
            )
    raise UserError(
        f"There are no linear probes beside {checkpoint.source}, such as {FOLDER}/NAME.pth: give "
        "their file, probes=FILE, or leave probe out and train a head."
    )


def find_by_name(grid: Grid, name: str, path: Path) -> Choice:
    """The classifier of that name. Raises: UserError without it."""
    known = {name_classifier(choice): choice for choice in grid}
    if name not in known:
        raise UserError(
            f"{path} holds no probe {name!r}{suggest(name, known)}; its {len(known)} are called "
            f"like {next(iter(known))}. Or choose {BEST!r}."
        )
    return known[name]


def choose_unseen(saved: SavedGrid, path: Path) -> Choice:
    """The probe that is taken where neither clips nor the file say which is the best."""
    most = max(saved.grid, key=lambda c: (c.blocks, c.avgpool, -abs(c.rate - _MIDDLE_RATE)))
    warnings.warn(
        f"{path.name} does not say which of its {len(list(saved.grid))} probes is the best: "
        f"{name_classifier(most)} is taken, which reads most features. Pass labelled=CACHE to "
        "choose on labelled clips.",
        stacklevel=4,
    )
    return most


@torch.no_grad()
def choose_on_clips(checkpoint: Checkpoint, grid: Grid, cache: ClipCache) -> Choice:
    """The most accurate probe on a cache's labelled clips: its training clips, if it has a split.

    Raises: UserError when the encoder or the classes do not fit, or nothing is labelled.
    """
    about = checkpoint.about
    encoder = Encoder(about.config, about.joints, len(about.channels))
    encoder.topology, encoder.channel_names = about.topology, about.channels
    checkpoint.load_into(encoder, {})
    check_encoder_fits(cache, encoder.eval())
    clips = cache.split()[0] if cache.splits else np.arange(len(cache))
    clips = clips[cache.label[clips] >= 0]
    if not len(clips):
        raise UserError(f"{cache.path} has no labelled clips to choose a probe on.")
    classes = next(iter(grid.banks.values())).bias.shape[1]
    if int(cache.label[clips].max()) >= classes:
        raise UserError(
            f"{cache.path} has labels up to {int(cache.label[clips].max())}, and the probes know "
            f"{classes} classes: choose on clips of the data that they were trained on."
        )
    blocks = max(reading.blocks for reading in grid.banks)
    features = extract_features(encoder, cache, clips, blocks=blocks)
    labels = torch.from_numpy(np.asarray(cache.label[clips], dtype=np.int64))
    return find_best(grid.predict(features), labels)


def name_classes(checkpoint: Checkpoint, path: Path, classes: int) -> tuple[str, ...]:
    """The classes' names: in the record beside the probes, or the encoder's recordings', or NTU's
    where a name says that it is of NTU; () where none are known.
    """
    record: Any = None
    with suppress(OSError, ValueError):
        record = parse_json(path.with_suffix(".json").read_text(encoding="utf-8"))
    recorded = record.get("classes") if isinstance(record, dict) else None
    for names in (recorded, checkpoint.about.more.get(CLASSES)):
        if isinstance(names, list) and len(names) == classes:
            return tuple(map(str, names))
    return find_action_names(f"{path.parent.parent.name} {path.name}", classes)

"""Model cards: the README.md beside saved weights, with the metadata that Hugging Face reads."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slim_fast import __version__
from slim_fast.errors import UserError
from slim_fast.model.encoder import Encoder
from slim_fast.reading import parse_json
from slim_fast.training.folder import CONFIG, ENCODER, SUMMARY
from slim_fast.writing import encode_text, write_atomically

CARD = "README.md"
TRAINING = "training"
"""Key of slim_fast.json for the record of the run that trained the weights."""
_MARK = "<!-- Written by save_pretrained, which replaces this file unless this line is removed. -->"
_RECORDED = ("method", "clips", "steps", "batch", "samples", "init", "seed", "dtype", "device")
_PROTOCOLS = {"knn_top1": "1-NN accuracy", "linear_top1": "linear accuracy"}
_SUFFIXES = ("", "_random_encoder", "_coordinates")


@dataclass(frozen=True)
class ModelCard:
    """A README.md beside weights.

    Attributes:
        fields: of its YAML header; empty without one.
        text: below the header.
    """

    path: Path
    fields: Mapping[str, Any]
    text: str

    def results(self) -> list[str]:
        """A line for every accuracy in its model index."""
        lines = []
        with contextlib.suppress(KeyError, TypeError, ValueError, IndexError, AttributeError):
            for result in self.fields["model-index"][0]["results"]:
                data = result["dataset"]["name"]
                lines += [f"{m['name']}: {m['value']:.4g} on {data}" for m in result["metrics"]]
        return lines


def read_model_card(folder: Path) -> ModelCard | None:
    """The card in a folder, anybody's; None without one. A header that is no YAML is text."""
    path = folder / CARD
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    _, *parts = text.split("---\n", 2) if text.startswith("---\n") else ("",)
    with contextlib.suppress(yaml.YAMLError, ValueError, RecursionError):
        fields = yaml.safe_load(parts[0]) if len(parts) == 2 else None
        if isinstance(fields, dict):
            return ModelCard(path, fields, parts[1])
    return ModelCard(path, {}, text)


def read_training_record(encoder_folder: Path) -> dict[str, Any] | None:
    """What the run of an encoder's folder says of it in its summary; None without one."""
    run = encoder_folder.parent
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        if encoder_folder.name == ENCODER and (run / SUMMARY).exists():
            summary = parse_json((run / SUMMARY).read_text(encoding="utf-8"))
            config = parse_json((run / CONFIG).read_text(encoding="utf-8"))
            # the recordings' name, and not the path they had on the machine that trained
            record = {"data": Path(summary["data"]).name, "split": config.get("split")}
            record |= {key: summary.get(key) for key in _RECORDED}
            scores = (key + suffix for key in _PROTOCOLS for suffix in _SUFFIXES)
            return record | {key: summary.get(key) for key in scores}
    return None


def write_model_card(encoder: Encoder, folder: Path, extra: Mapping[str, Any]) -> None:
    """Write README.md for `encoder` into `folder`, unless one that somebody wrote is there.

    extra: the fields of slim_fast.json beside topology and channels.
    Raises: UserError when it cannot be written.
    """
    path = folder / CARD
    try:
        if path.exists() and _MARK not in path.read_text(encoding="utf-8", errors="replace"):
            return
        text = encode_text(format_model_card(encoder, extra))
        write_atomically(path, lambda file: file.write(text))
    except OSError as error:
        raise UserError(f"Could not write {path}: {error.strerror or error}.") from error


def format_model_card(encoder: Encoder, extra: Mapping[str, Any]) -> str:
    """The card's text: YAML header, sizes, how to load, training and evaluation."""
    topology, config = encoder.topology, encoder.config
    skeleton = f"{topology} joints" if isinstance(topology, int) else topology.name
    classes = extra.get("num_classes")
    kind = "SLiMEncoder" if classes is None else "SLiMClassifier"
    record = extra.get(TRAINING)
    record = record if isinstance(record, Mapping) else {}
    title = f"SLiM {'encoder' if classes is None else 'classifier'} for {skeleton}"
    header: dict[str, Any] = {
        "library_name": "slim_fast",
        "tags": ["skeleton", "human-action-recognition", "self-supervised-learning", "slim"],
        "skeleton": skeleton,
        "channels": encoder.channel_names,
        "slim_fast_version": __version__,
    }
    if results := _results(record):
        header["model-index"] = [{"name": title, "results": [results]}]
    # JSON is YAML: each value on one line needs no library.
    yaml = "\n".join(f"{key}: {json.dumps(value)}" for key, value in header.items())
    sizes = {
        "skeleton": f"{skeleton}, {encoder.joints} joints",
        "channels": encoder.channel_names,
        "width, depth, heads": f"{config.width}, {config.depth}, {config.heads}",
        "token": f"{config.patch_frames} frames of a joint",
        "parameters": f"{sum(p.numel() for p in encoder.parameters()):,}",
        **({} if classes is None else {"classes": classes}),
    }
    centre = "" if isinstance(topology, int) else f" ({topology.joints[topology.centre]})"
    output = f"(B, {classes})" if classes else "(B, F), features"
    if classes is None:
        output = f"(B * M, {config.width}), CLS of each person"
    shape = f"1, {encoder.channels}, {config.window}, {encoder.joints}, 2"
    return f"""---
{yaml}
---
{_MARK}

# {title}

[SLiM](https://arxiv.org/abs/2603.10648), self-supervised learning on human skeletons, in the format
of its public checkpoints.

{_table(sizes)}

## Use

```python
import torch
from slim_fast import {kind}

model = {kind}.from_pretrained("owner/name")  # or this folder
clips = torch.randn({shape})  # (B, C, T, V, M)
print(model(clips).shape)  # {output}
```

Coordinates are in metres, the first person's centre joint{centre} in the first frame at the origin;
absent people and undetected joints are zeros.

## Training

{_training(record)}

## Evaluation

{_evaluation(record)}
"""


def _table(rows: Mapping[str, Any]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {rows[key]} |" for key in rows)])


def _training(record: Mapping[str, Any]) -> str:
    known = {key: record[key] for key in ("data", "split", *_RECORDED) if record.get(key)}
    if not known:
        return "Not recorded."
    return "Pre-trained by slim_fast; training after that is not recorded.\n\n" + _table(known)


def _evaluation(record: Mapping[str, Any]) -> str:
    rows = []
    for key, name in _PROTOCOLS.items():
        scores = [record.get(key + suffix) for suffix in _SUFFIXES]
        if isinstance(scores[0], float):
            cells = [f"{100 * s:.1f}" if isinstance(s, float) else "–" for s in scores]
            rows.append(f"| {name} (%) | {' | '.join(cells)} |")
    if not rows:
        return "Not recorded."
    table = ["| | learned | random encoder | coordinates |", "|---|---:|---:|---:|", *rows]
    return "Frozen features of the pre-trained encoder on held-out clips:\n\n" + "\n".join(table)


def _results(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """The accuracies as an entry of Hugging Face's model index; None where there are none."""
    metrics = [
        {"type": "accuracy", "name": f"{name} of frozen features", "value": record[key]}
        for key, name in _PROTOCOLS.items()
        if isinstance(record.get(key), float)
    ]
    if not metrics:
        return None
    data = str(record.get("data"))
    task = {"type": "feature-extraction", "name": "Frozen features"}
    return {"task": task, "dataset": {"type": data, "name": data}, "metrics": metrics}

"""The page: one HTML file with the runtime, the model and clips in it, which opens offline."""

import base64
import gzip
import html
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from einops import rearrange

from slim_fast.data.cache import ClipCache
from slim_fast.drawing import style
from slim_fast.drawing.poses import project
from slim_fast.drawing.stick_figures import joint_sides
from slim_fast.errors import UserError, describe_os_error
from slim_fast.evaluation.features import load_evaluation_clips
from slim_fast.interop.classifier import SLiMClassifier
from slim_fast.interop.export import export_onnx
from slim_fast.interop.web.runtime import Runtime
from slim_fast.writing import encode_text, write_atomically

OPSET = 17


@dataclass(frozen=True)
class WebPage:
    """A page that was written.

    sizes: bytes in the page of the model, the runtime and the clips.
    """

    path: Path
    sizes: dict[str, int]


def write_web_page(
    classifier: SLiMClassifier,
    cache: ClipCache,
    clips: Sequence[int],
    path: Path,
    runtime: Runtime,
    *,
    verify: bool = True,
    report: Callable[[str], None] = lambda _: None,
) -> WebPage:
    """Write a page that plays clips and classifies what has been shown of them, in the browser.

    The clips are as evaluation gives them to a model. Weights are float32.

    Args:
        clips: numbers of the cache's clips.
        verify, report: as in `export_onnx`.

    Raises: UserError for a model without classes or of another skeleton, as `export_onnx`, and when
    the page cannot be written; what was at `path` then stays.
    """
    if not classifier.num_classes:
        raise UserError(
            "The page shows classes, and this is an encoder without: fit them with slim-fast "
            "stream --save-classifier, or fine-tune it."
        )
    topology = cache.topology
    with TemporaryDirectory() as folder:
        model = Path(folder) / "model.onnx"
        export_onnx(classifier, model, opset=OPSET, verify=verify, report=report)
        parts = {"model": _pack(model.read_bytes()), "wasm": _pack(runtime.wasm)}
    parts["module"] = _pack(runtime.module)
    # (N, M, T, V, C)
    window = classifier.config.window
    positions = load_evaluation_clips(cache, np.asarray(clips), window).numpy()
    sides = joint_sides(topology)
    about = {
        "classes": list(_class_names(classifier)),
        "bones": [list(bone) for bone in topology.bones],
        "colours": [style.SIDES[side] for side in sides],
        "people": list(style.PEOPLE),
        "patch": classifier.config.patch_frames,
        "clips": [
            _describe_clip(cache, number, clip)
            for number, clip in zip(clips, positions, strict=True)
        ],
    }
    # "</script>" in a name must not end the script
    parts["about"] = json.dumps(about).replace("<", "\\u003c")
    template = (resources.files("slim_fast.interop.web") / "page.html").read_text("utf-8")
    patch = str(classifier.config.patch_frames)
    fields = {**parts, "script": _script(), "version": html.escape(runtime.version), "patch": patch}
    # in one pass: a clip may be called like a field
    page = re.sub(r"@@(\w+)@@", lambda field: fields[field[1]], template)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(encode_text(page)))
    except OSError as error:
        raise UserError(
            f"The page could not be written ({describe_os_error(error)}): choose another path."
        ) from error
    sizes = {"model": len(parts["model"]), "clips": len(parts["about"])}
    return WebPage(path, {**sizes, "runtime": len(parts["wasm"]) + len(parts["module"])})


def _class_names(classifier: SLiMClassifier) -> Sequence[str]:
    return classifier.class_names or [f"class {n}" for n in range(classifier.num_classes)]


def _describe_clip(cache: ClipCache, number: int, clip: np.ndarray) -> dict[str, Any]:
    """clip (M, T, V, C): the model's input and what is drawn, as base64 of float32."""
    label = int(cache.label[number])
    frames = rearrange(clip, "m t v c -> t m v c")
    points = project(frames, cache.topology, cache.channels)
    return {
        "name": str(cache.names[number]),
        "label": cache.classes[label] if label >= 0 else None,
        "shape": [clip.shape[3], clip.shape[1], clip.shape[2], clip.shape[0]],  # C, T, V, M
        "input": _encode(rearrange(clip, "m t v c -> c t v m")),
        "points": _encode(points),
    }


def _encode(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode()


def _pack(content: bytes) -> str:
    """gzip in base64; browsers unpack it."""
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def _script() -> str:
    return (resources.files("slim_fast.interop.web") / "page.js").read_text("utf-8")

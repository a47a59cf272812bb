"""The files of a run folder: settings, which of them may change, and results."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slim_fast.errors import UserError
from slim_fast.reading import parse_json
from slim_fast.training.checkpoint import Checkpoints
from slim_fast.training.config import PretrainConfig, find_differences
from slim_fast.training.monitor import read_metrics
from slim_fast.writing import write_atomically

CONFIG, SUMMARY, METRICS = "config.json", "summary.json", "metrics.jsonl"
ENCODER, CHECKPOINTS = "encoder", "checkpoints"
# A resumed run may differ from the one that was begun in these fields, in `steps` if they become
# more, and in no other.
FREE_FIELDS = (
    *("out", "data", "data_memory", "device", "graph", "threads", "accumulate", "sharding"),
    *("fit_batch", "max_wait", "max_hours", "log"),
)


def begin_run(folder: Path, config: PretrainConfig) -> dict[str, Any] | None:
    """Write config.json, or check that `config` may continue the run; returns its summary if done.

    A run without checkpoints has nothing to lose: its settings may still change.
    Raises: UserError when the folder cannot be written or holds another run (the differing fields
    named).
    """
    if not os.access(folder, os.W_OK):
        raise PermissionError(13, "not writable", str(folder))
    path, fields = folder / CONFIG, config.to_json()
    begun, summary = read_json_object(path), read_json_object(folder / SUMMARY)
    steps = bool(Checkpoints(folder / CHECKPOINTS, config.log.keep).files())
    if begun is None or (_is_run(begun, fields) and not steps and summary is None):
        _write(path, fields)
        return None
    if not _is_run(begun, fields):
        raise UserError(
            f"{path} is of something else than a run; choose another folder with --out."
        )
    if (method := begun.get("method", "slim")) != config.method:
        raise UserError(
            f"{folder} holds a run of the method {method}, not {config.method}; give --method "
            f"{method} to resume it, or choose another --out."
        )
    different = sorted(
        f"{name}: {before!r} -> {now!r}"
        for name, before, now in find_differences(_merge(PretrainConfig().to_json(), begun), fields)
        if name.split(".")[0] not in (*FREE_FIELDS, "steps") and (name, now) != ("init", None)
    )
    if different:
        raise UserError(
            f"{folder} holds a run with other settings ({'; '.join(different[:6])}); "
            "give the same settings to resume it, or choose another --out."
        )
    config.init = begun.get("init")  # stays on record when the command that resumes leaves it out
    if config.steps < begun["steps"]:
        raise UserError(
            f"The run in {folder} is one of {begun['steps']} steps, and --steps {config.steps} "
            "would be fewer: the number can only be raised, because schedules have followed it "
            "so far; choose another --out."
        )
    if summary is not None and summary.get("steps") == config.steps:
        return summary
    if not steps:
        raise UserError(
            f"The run in {folder} is finished and its checkpoints are gone, so it cannot go on to "
            f"step {config.steps}; start another one from its encoder, with --init {folder} and "
            "another --out."
        )
    return None


def record_resume(
    folder: Path, config: PretrainConfig, step: int, changed: dict[str, list[Any]]
) -> None:
    """Record what `config` changes from `step` on, and remove a shorter run's results.

    changed: name -> [before, now] of what is not as it was before `step`.
    """
    (folder / SUMMARY).unlink(missing_ok=True)
    remove_folder(folder / ENCODER)
    _write(folder / CONFIG, config.to_json())
    records = [
        r for r in read_metrics(folder / METRICS) if not ("changed" in r and r["step"] >= step)
    ]
    records += [{"step": step, "changed": changed}] if changed else []
    text = "".join(json.dumps(record) + "\n" for record in records)
    write_atomically(folder / METRICS, lambda file: file.write(text.encode()))


def replace_encoder(folder: Path, save: Callable[[Path], None]) -> None:
    """Let `save` write the folder of the finished encoder, which is there whole or not at all."""
    new = folder / f"{ENCODER}.tmp"
    shutil.rmtree(new, ignore_errors=True)
    save(new)
    remove_folder(folder / ENCODER)
    os.replace(new, folder / ENCODER)


def remove_folder(path: Path) -> None:
    """Remove a folder, if there is one, at once for those who read it."""
    old = path.with_name(f"{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        os.replace(path, old)
        shutil.rmtree(old)


def read_changes(folder: Path) -> list[dict[str, Any]]:
    """The records of `record_resume`: {"step": s, "changed": {name: [before, now]}}."""
    return [record for record in read_metrics(folder / METRICS) if "changed" in record]


def format_changes(records: list[dict[str, Any]]) -> str:
    """Those in words."""
    changed = (
        ", ".join(f"{name} {before} -> {now}" for name, (before, now) in record["changed"].items())
        for record in records
    )
    steps = (record["step"] for record in records)
    return "; ".join(f"{what} at step {step}" for what, step in zip(changed, steps, strict=True))


def read_json_object(path: Path) -> dict[str, Any] | None:
    """The object in a run's JSON file, None without it. Raises: UserError when it is damaged."""
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        remedy = "delete it and give the same command again, or " if path.name != CONFIG else ""
        raise UserError(f"{path} is damaged; {remedy}choose another folder with --out.")
    return content


def _is_run(begun: dict[str, Any], fields: dict[str, Any]) -> bool:
    return isinstance(begun.get("steps"), int) and begun.keys() <= fields.keys()


def _write(path: Path, fields: dict[str, Any]) -> None:
    write_atomically(path, lambda file: file.write(json.dumps(fields, indent=1).encode()))


def _merge(defaults: Any, values: Any) -> Any:
    """`values`, with `defaults` for fields that the version which wrote them did not have."""
    if not isinstance(defaults, dict) or not isinstance(values, dict):
        return values
    return {**defaults, **{k: _merge(defaults.get(k), v) for k, v in values.items()}}

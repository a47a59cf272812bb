"""What a run folder says of the run: settings, measurements by step, summary."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from slim_fast.errors import UserError
from slim_fast.training.folder import CONFIG, METRICS, SUMMARY, read_json_object
from slim_fast.training.monitor import read_metrics
from slim_fast.views.pipeline import ViewsConfig

_FACTS = {
    "data": "trained on",
    "clips": "training clips",
    "steps": "steps",
    "batch": "clips a step",
    "samples": "samples seen",
    "seconds": "seconds",
    "samples_per_second": "samples a second",
    "seed": "seed",
    "init": "started from",
    "device": "device",
    "dtype": "precision",
    "threads": "threads",
    "torch": "torch",
}


@dataclass(frozen=True)
class RunFiles:
    """config.json, metrics.jsonl and summary.json of a run; empty for weights of another origin."""

    config: Mapping[str, Any]
    metrics: list[dict[str, Any]]
    summary: Mapping[str, Any]

    @classmethod
    def read(cls, run: str) -> "RunFiles":
        """Raises: UserError for a damaged file."""
        folder = Path(run)
        config = _read(folder / CONFIG)
        if "steps" not in config:  # an encoder's own config.json
            return cls({}, [], {})
        return cls(config, read_metrics(folder / METRICS), _read(folder / SUMMARY))

    @property
    def views(self) -> ViewsConfig | None:
        """Settings of views and masks; None where the run drew no such views."""
        if self.config.get("method", "slim") != "slim" or "views" not in self.config:
            return None
        try:
            return TypeAdapter(ViewsConfig).validate_python(self.config["views"])
        except ValidationError:  # of a version with other settings
            return None

    @property
    def prototypes(self) -> int | None:
        """K of the run's heads; None where its settings name none."""
        found: Any = self.config
        for name in ("model", "head", "prototypes"):
            found = found.get(name) if isinstance(found, dict) else None
        return found if isinstance(found, int) and found > 0 else None

    def facts(self) -> list[tuple[str, str]]:
        """The main numbers of the run, by name."""
        known = {**self.config, **self.summary}
        return [
            (name, show_value(known[key]))
            for key, name in _FACTS.items()
            if known.get(key) is not None
        ]

    def settings(self) -> list[tuple[str, str]]:
        """Every field of config.json by its dotted name."""
        return list(_flatten(self.config))


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json_object(path) or {}
    except UserError as error:
        raise UserError(f"{path} is damaged: restore it, or move it out of the run.") from error


def show_value(value: Any) -> str:
    """A value as a reader likes it: 1,500, 0.0002, none."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(show_value, value)) or "none"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {show_value(v)}" for k, v in value.items()) + "}"
    return str(value)


def _flatten(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, show_value(value)

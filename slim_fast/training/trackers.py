"""A run's figures in Weights & Biases or MLflow, by their own libraries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from slim_fast.errors import UserError
from slim_fast.training.config import PretrainConfig
from slim_fast.writing import write_atomically

PROJECT = "slim_fast"
IDENTITY = "tracker.json"
"""In the run folder: which of the service's runs it is, so that a resumed one goes on there."""


class Tracker(Protocol):
    """A service that shows figures by step."""

    identity: str
    """The run's name there."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


def import_tracker(name: str) -> Any:
    """The library of a tracker. Raises: UserError with the command that installs it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(
            f'log.tracker={name} needs {name}: pip install "slim_fast[{name}]", or leave it out.'
        ) from error


def open_tracker(folder: Path, config: PretrainConfig) -> Tracker | None:
    """The tracker that the config names, on the run that the folder has there; None without one.

    Where to is the library's setting, through its own environment variables (WANDB_MODE=offline,
    MLFLOW_TRACKING_URI).
    Raises: UserError when the library is missing or cannot begin.
    """
    name = config.log.tracker
    if name is None:
        return None
    from pydantic import TypeAdapter  # slow to import

    library, path = import_tracker(name), folder / IDENTITY
    try:
        text = path.read_bytes() if path.exists() else b"{}"
        known = TypeAdapter(dict[str, str]).validate_json(text)
    except ValueError as error:
        raise UserError(f"{path} is damaged; delete it, and {name} begins a new run.") from error
    kind = WandbTracker if name == "wandb" else MlflowTracker
    try:
        tracker: Tracker = kind(library, folder, config, known.get(name))
    except Exception as error:  # of the network, accounts, settings: each library has its own
        why = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(
            f"log.tracker={name} cannot begin ({why}); mend that, or leave it out."
        ) from error
    content = json.dumps({**known, name: tracker.identity}).encode()
    write_atomically(path, lambda file: file.write(content))
    return tracker


class WandbTracker:
    """Weights & Biases."""

    def __init__(
        self, library: Any, folder: Path, config: PretrainConfig, identity: str | None
    ) -> None:
        self._run = library.init(
            project=PROJECT,
            name=folder.name,
            dir=str(folder),
            id=identity,
            resume="allow",
            config=config.to_json(),
        )
        self.identity = str(self._run.id)
        # a resumed run may log a step again, which W&B's own counter refuses
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **values})

    def close(self) -> None:
        self._run.finish()


class MlflowTracker:
    """MLflow."""

    def __init__(
        self, library: Any, folder: Path, config: PretrainConfig, identity: str | None
    ) -> None:
        self._library = library
        library.set_experiment(PROJECT)
        run = library.start_run(run_id=identity, run_name=None if identity else folder.name)
        self.identity = str(run.info.run_id)
        if identity is None:
            library.log_dict(config.to_json(), "config.json")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._library.log_metrics(dict(values), step=step)

    def close(self) -> None:
        self._library.end_run()

"""The encoder of a run under way, from its newest checkpoint: the teacher's, if there is one."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from slim_fast.data.readers.stream import explain_damage
from slim_fast.errors import UserError
from slim_fast.model.encoder import EncoderConfig
from slim_fast.model.files import CLASSES, EncoderDescription
from slim_fast.model.method import Method
from slim_fast.model.slim import SLiM
from slim_fast.skeletons import Topology
from slim_fast.training.checkpoint import Checkpoints
from slim_fast.training.folder import CHECKPOINTS, CONFIG, ENCODER, read_json_object

MAX_CLASS_NAMES = 1000  # of classes that an encoder folder lists


@dataclass(frozen=True)
class TeacherCheckpoint:
    """An encoder that is not finished."""

    about: EncoderDescription
    weights: dict[str, Tensor]
    name: str
    """What it is: "teacher" or "encoder"."""
    path: Path
    """The checkpoint."""
    step: int
    steps: int


def describe_encoder(
    method: Method, topology: Topology, channels: str, classes: Sequence[str] = ()
) -> dict[str, Any]:
    """A checkpoint's description of the encoder that is evaluated."""
    return {
        "config": asdict(method.evaluated.config),
        "topology": topology.to_dict(),
        "channels": channels,
        "more": describe_classes(classes),
        "name": method.encoder_name,
    }


def describe_classes(classes: Sequence[str]) -> dict[str, list[str]]:
    """The names of the classes of the training clips, which a later head may take."""
    return {CLASSES: list(classes)} if 0 < len(classes) <= MAX_CLASS_NAMES else {}


def load_unfinished_teacher(run: Path) -> TeacherCheckpoint | None:
    """The newest encoder of an unfinished run; None for a finished run and other folders.

    The run may be going on meanwhile.
    Raises: UserError when there is no checkpoint yet, or none that can be read.
    """
    if (run / ENCODER).is_dir() or not ((run / CHECKPOINTS).is_dir() or _begun(run)):
        return None
    state = Checkpoints(run / CHECKPOINTS, keep=1).load("cpu")
    if state is None:
        raise UserError(
            f"The run in {run} is not finished and has written no checkpoint yet; wait for its "
            "first one, or give its pretrain command again to go on with it."
        )
    path = Checkpoints(run / CHECKPOINTS, keep=1).path(state["step"])
    if "encoder" not in state:
        raise UserError(
            f"The run in {run} is not finished, and {path} comes from a version that did not "
            "write down its skeleton; give the run's pretrain command again to finish it."
        )
    with explain_damage(path):
        described = state["encoder"]
        about = EncoderDescription(
            EncoderConfig(**described["config"]),
            Topology.from_dict(described["topology"]),
            described["channels"],
            described["more"],
        )
        name = described.get("name", SLiM.encoder_name)  # 0.1.0 knew one method
        prefix, weights = f"{name}.", state["model"].items()
        return TeacherCheckpoint(
            about,
            {key.removeprefix(prefix): value for key, value in weights if key.startswith(prefix)},
            name.split(".")[0],
            path,
            state["step"],
            state["conditions"]["steps"],
        )


def _begun(run: Path) -> bool:
    try:
        return "steps" in (read_json_object(run / CONFIG) or {})
    except (UserError, OSError):
        return False

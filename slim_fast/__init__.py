"""slim_fast: self-supervised learning on human skeletons (SLiM, arXiv 2603.10648)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slim_fast.errors import UserError
    from slim_fast.interop.classifier import SLiMClassifier
    from slim_fast.interop.encoder import SLiMEncoder
    from slim_fast.pretrain import TrainingResult, train
    from slim_fast.views.preprocess import preprocess

__version__ = "0.1.0"
__all__ = ["SLiMClassifier", "SLiMEncoder", "TrainingResult", "UserError", "preprocess", "train"]
_HOMES = {
    "SLiMEncoder": "interop.encoder",
    "SLiMClassifier": "interop.classifier",
    "TrainingResult": "pretrain",
    "UserError": "errors",
    "preprocess": "views.preprocess",
    "train": "pretrain",
}


def __getattr__(name: str) -> Any:
    """Public names, imported on first use: commands that need no encoder start without torch."""
    from importlib import import_module

    if name == "interop":  # for trainers that walk dotted names down from here
        return import_module(f"{__name__}.interop")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]

"""What everything that traces modules for other runtimes needs: silence, and other packages."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from slim_fast.errors import UserError


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings, logs and prints of the exporters."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def import_package(name: str, extra: str, purpose: str) -> Any:
    """Import a package that an extra installs. Raises: UserError with the command that does."""
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(f'{purpose} needs {name}: pip install "slim_fast[{extra}]".') from error


def load_onnx(
    onnxruntime: Any, content: bytes, what: str, remedy: str
) -> Callable[[Tensor], list[Tensor]]:
    """An ONNX program of one input, "x", on as many threads as PyTorch has now.

    Raises: UserError, of `what`, with the `remedy`, when onnxruntime does not take it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # its errors are raised
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own, which share no other base
        raise UserError(
            f"onnxruntime {onnxruntime.__version__} can't load the {what} ({error}): {remedy}."
        ) from error
    return lambda x: [torch.from_numpy(output) for output in session.run(None, {"x": x.numpy()})]

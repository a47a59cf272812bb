"""Programs in OpenVINO: one person a thread, each compiled for its number of frames."""

from functools import lru_cache
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from slim_fast.errors import UserError
from slim_fast.interop.runtimes.programs import Program, Run
from slim_fast.interop.tracing import import_package, quiet

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
_LENGTHS = 4
"""Numbers of frames whose compiled programs are kept."""


def require() -> Any:
    """OpenVINO. Raises: UserError when it is missing."""
    return import_package("openvino", "openvino", 'optimize(backend="openvino")')


def load(program: Program, precision: str) -> Run:
    """The program on as many threads as PyTorch has now; precision: fp32 or bf16.

    Raises: UserError when OpenVINO does not take it.
    """
    openvino = require()
    try:
        with quiet():
            shape = openvino.PartialShape(program.free_shape)
            model = openvino.convert_model(program.traced, input=[shape])
    except Exception as error:  # its own, which share no other base
        raise UserError(
            f"openvino {openvino.__version__} can't read the encoder ({error}): take "
            "another backend."
        ) from error
    return _People(openvino, model, {"INFERENCE_PRECISION_HINT": PRECISIONS[precision]})


class _People:
    """Runs a program person by person.

    Shapes are fixed: with dynamic ones it takes a fifth longer. Persons share nothing, so each has
    a thread for itself as long as there are enough of them, and threads never wait for each other
    within a person; those who are left over get all threads, one after the other.
    """

    def __init__(self, openvino: Any, model: Any, settings: dict[str, str]) -> None:
        self._openvino, self._model, self._settings = openvino, model, settings
        self._core, self._threads, self._lock = openvino.Core(), torch.get_num_threads(), Lock()
        self._queue = lru_cache(2 * _LENGTHS)(self._compile)

    def __call__(self, clips: Tensor) -> list[Tensor]:
        """See `Run`."""
        alone = len(clips) // self._threads * self._threads
        with self._lock:
            first = self._infer(clips[:alone], self._threads) if alone else []
            others = self._infer(clips[alone:], 1) if alone < len(clips) else []
        if not (first and others):
            return first or others
        return [torch.cat(parts) for parts in zip(first, others, strict=True)]

    def _infer(self, clips: Tensor, streams: int) -> list[Tensor]:
        queue = self._queue(clips.shape[1:], streams)
        outputs = [torch.empty(len(clips), *output.shape[1:]) for output in queue[0].model_outputs]

        def collect(request: Any, person: int) -> None:
            for number, output in enumerate(outputs):
                output[person] = torch.from_numpy(request.get_output_tensor(number).data[0])

        queue.set_callback(collect)
        for person, clip in enumerate(clips.numpy()):
            queue.start_async({0: clip[None]}, person, share_inputs=True)
        queue.wait_all()
        return outputs

    def _compile(self, shape: tuple[int, ...], streams: int) -> Any:
        """A queue of requests for clips (1, T, V, C), `streams` at a time."""
        model = self._model.clone()
        model.reshape({model.inputs[0]: [1, *shape]})
        counts = {"INFERENCE_NUM_THREADS": self._threads, "NUM_STREAMS": streams}
        # A thread that is tied to a core waits there for whatever else runs on it.
        settings = {**counts, "ENABLE_CPU_PINNING": False, **self._settings}
        compiled = self._core.compile_model(model, "CPU", settings)
        return self._openvino.AsyncInferQueue(compiled, streams)

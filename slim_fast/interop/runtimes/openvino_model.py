"""Programs in OpenVINO: one person a thread, each compiled for its number of frames."""

import sys
from functools import cache, lru_cache
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
    """OpenVINO, which sends no telemetry. Raises: UserError when it is missing."""
    # it would be sent by a fork of this process with its threads, which may crash
    telemetry = "openvino_telemetry"
    if "openvino" not in sys.modules:
        sys.modules.setdefault(telemetry, None)  # type: ignore[arg-type]  # as if not installed
    try:
        return import_package("openvino", "openvino", 'optimize(backend="openvino")')
    finally:
        if sys.modules.get(telemetry, sys) is None:
            del sys.modules[telemetry]


@cache
def core() -> Any:
    """The one of the process. Each new one has signals handled on a stack of its own; when several
    end, not the last one first, a stack that is freed stays in use: Ctrl-C would end the process
    with a segmentation fault.
    """
    return require().Core()


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
    return _People(openvino, model, PRECISIONS[precision])


class _People:
    """Runs a program person by person, or on one thread two by two.

    Shapes are fixed: with dynamic ones it takes a fifth longer. Persons share nothing, so each has
    a thread for itself as long as there are enough of them, and threads never wait for each other
    within a person; those who are left over get all threads, one after the other. Two in one call
    are a few per cent faster on one thread; on two threads they are not.
    """

    def __init__(self, openvino: Any, model: Any, precision: str) -> None:
        self._openvino, self._model, self._precision = openvino, model, precision
        self._core, self._threads, self._lock = core(), torch.get_num_threads(), Lock()
        # calls at a time and the people of each, the first ones for as many as they fit
        self._kinds = [(1, 2) if self._threads == 1 else (self._threads, 1), (1, 1)]
        self._requests = lru_cache(len(self._kinds) * _LENGTHS)(self._compile)

    def __call__(self, clips: Tensor) -> list[Tensor]:
        """See `Run`."""
        outputs: list[Tensor] = []
        first = 0
        with self._lock:
            for (calls, people), count in self.share(len(clips)).items():
                requests, shapes = self._requests(clips.shape[1:], calls, people)
                outputs = outputs or [torch.empty(len(clips), *shape) for shape in shapes]
                rows = slice(first, first + count)
                self._infer(requests, people, clips[rows], [output[rows] for output in outputs])
                first += count
        return outputs

    def share(self, people: int) -> dict[tuple[int, int], int]:
        """Of so many people, those whom each of the compiled programs takes, if any."""
        counts = {}
        for calls, together in self._kinds:
            count = people // (calls * together) * calls * together
            if count:
                counts[calls, together] = count
                people -= count
        return counts

    def _infer(
        self, requests: list[Any], people: int, clips: Tensor, outputs: list[Tensor]
    ) -> None:
        """Fill the outputs for clips, so many people a request.

        Requests write where the answer is to be: a copy of it would be shared out by PyTorch among
        threads that go on spinning for a while, on the cores that the next request needs.
        """
        tensor = self._openvino.Tensor
        try:
            for number, first in enumerate(range(0, len(clips), people)):
                request, rows = requests[number % len(requests)], slice(first, first + people)
                request.wait()
                request.set_input_tensor(tensor(clips[rows].numpy(), shared_memory=True))
                for place, output in enumerate(outputs):
                    request.set_output_tensor(place, tensor(output[rows].numpy(), True))
                if len(requests) > 1:
                    request.start_async()
                else:  # without a thread to hand it to
                    request.infer()
        finally:  # nothing is written any more when the outputs are gone
            for request in requests:
                request.wait()

    def _compile(
        self, shape: tuple[int, ...], calls: int, people: int
    ) -> tuple[list[Any], list[tuple[int, ...]]]:
        """Requests for clips (people, T, V, C), and the shapes of a person's outputs.

        So many `calls` are answered at a time: one, or twice as many, so that the next stand ready.
        """
        model = self._model.clone()
        model.reshape({model.inputs[0]: [people, *shape]})
        settings = {
            "INFERENCE_NUM_THREADS": self._threads,
            "INFERENCE_PRECISION_HINT": self._precision,
            "NUM_STREAMS": calls,
            # A thread that is tied to a core waits there for whatever else runs on it.
            "ENABLE_CPU_PINNING": False,
        }
        compiled = self._core.compile_model(model, "CPU", settings)
        count = 1 if calls == 1 else 2 * calls
        requests = [compiled.create_infer_request() for _ in range(count)]
        return requests, [tuple(output.shape)[1:] for output in compiled.outputs]

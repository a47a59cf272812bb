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
    """Runs a program person by person, or in bf16 on one thread two by two.

    Shapes are fixed: with dynamic ones it takes a fifth longer. Persons share nothing, so each has
    a thread for itself as long as there are enough of them, and threads never wait for each other
    within a person; those who are left over get all threads, one after the other. Two in one call
    are a few per cent faster in bf16 on one thread; on two threads, or in fp32, they are not.
    """

    def __init__(self, openvino: Any, model: Any, precision: str) -> None:
        self._openvino, self._model, self._precision = openvino, model, precision
        self._core, self._threads, self._lock = core(), torch.get_num_threads(), Lock()
        # calls at a time and the people of each, the first ones for as many as they fit
        in_pairs = self._threads == 1 and precision == PRECISIONS["bf16"]
        self._kinds = [(1, 2) if in_pairs else (self._threads, 1), (1, 1)]
        self._requests = lru_cache(len(self._kinds) * _LENGTHS)(self._compile)

    def __call__(self, clips: Tensor) -> list[Tensor]:
        """See `Run`."""
        counts = self.share(len(clips))
        with self._lock:
            groups = clips.split(list(counts.values()))
            answers = [self._infer(x, *kind) for kind, x in zip(counts, groups, strict=True)]
        return [torch.cat(x) if len(x) > 1 else x[0] for x in zip(*answers, strict=True)]

    def share(self, people: int) -> dict[tuple[int, int], int]:
        """Of so many people, those whom each of the compiled programs takes, if any."""
        counts = {}
        for calls, together in self._kinds:
            count = people // (calls * together) * calls * together
            if count:
                counts[calls, together] = count
                people -= count
        return counts

    def _infer(self, clips: Tensor, calls: int, people: int) -> list[Tensor]:
        requests = self._requests(clips.shape[1:], calls, people)
        shapes = [output.shape for output in requests[0].model_outputs]
        outputs = [torch.empty(len(clips), *shape[1:]) for shape in shapes]

        def collect(request: Any, first: int) -> None:
            for number, output in enumerate(outputs):
                answer = torch.from_numpy(request.get_output_tensor(number).data)
                output[first : first + people] = answer

        if calls > 1:
            requests.set_callback(collect)
        for first in range(0, len(clips), people):
            clip = {0: clips[first : first + people].numpy()}
            if calls > 1:
                requests.start_async(clip, first, share_inputs=True)
            else:
                requests[0].infer(clip, share_inputs=True, share_outputs=True)
                collect(requests[0], first)
        if calls > 1:
            requests.wait_all()
        return outputs

    def _compile(self, shape: tuple[int, ...], calls: int, people: int) -> Any:
        """A queue of requests for clips (people, T, V, C), so many `calls` at a time; a list of one
        request where there is one, which would only wait for a queue's thread and callback.
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
        if calls == 1:
            return [compiled.create_infer_request()]
        return self._openvino.AsyncInferQueue(compiled, calls)

"""Seeds faults in slim_kernels' kernels, one at a time, and says what notices each.

`python -m tests.ptx_emulator.mutations` prints the table and the share that is caught, the score;
words behind it choose faults whose description, kernel or target holds one of them.

A fault is caught by a finding of the emulator, or by results that are farther from float64's than
the tolerance. Faults that change nothing are listed with the reason, and do not count.
"""

import inspect
import linecache
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"  # so that each emulated device makes kernels of its own

import torch
from ptx_emulator import EmulationError
from ptx_emulator.device import EmulatedGPU, emulated_gpu
from slim_kernels.runtime.target import emulated_target

from tests.ptx_emulator.operations import judge, poisoned_memory

# each target with one of the two dtypes of products
DTYPES = {"sm_80": torch.float16, "sm_90": torch.bfloat16}


@dataclass(frozen=True)
class Fault:
    """One change of one kernel: the occurrence number `nth` of `old` becomes `new`."""

    what: str
    operation: str
    """One of operations.OPERATIONS, which shows it."""
    target: str
    where: str
    """A kernel, of whose PTX `old` is a regular expression; or a module of slim_kernels, of whose
    source `old` is a part.
    """
    old: str
    new: str = ""
    nth: int = 0
    harmless: str = ""
    """Why it changes nothing that anyone could see, or ""."""

    @property
    def in_source(self) -> bool:
        return "." in self.where

    def change(self, text: str) -> str:
        """The text with the fault.

        Raises:
            ValueError: the text does not hold `old` that often.
        """
        pattern = re.escape(self.old) if self.in_source else self.old
        found = list(re.finditer(pattern, text))
        if len(found) <= self.nth:
            raise ValueError(f"{self.where} on {self.target} holds {self.old!r} {len(found)} times")
        place = found[self.nth]
        new = self.new if self.in_source else place.expand(self.new)
        return text[: place.start()] + new + text[place.end() :]

    def edit(self, ptx: str) -> str:
        """For `emulated_gpu`: PTX of other kernels stays."""
        return self.change(ptx) if re.search(rf"\.entry {self.where}\(", ptx) else ptx


@contextmanager
def changed_module(name: str, change: Callable[[str], str]) -> Iterator[None]:
    """While it is open, a module of slim_kernels has a changed source, also in modules that
    imported its functions.
    """
    module = sys.modules[f"slim_kernels.{name}"]
    text = change(inspect.getsource(module))
    path = f"<changed>/{name.rsplit('.', 1)[-1]}.py"
    # where Triton looks up a function's source
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    users = [m for n, m in sys.modules.items() if n.startswith("slim_kernels.")]
    before = {m: dict(vars(m)) for m in users}
    own = before[module]
    try:
        exec(compile(text, path, "exec"), vars(module))
        for user in users:
            for key, value in before[user].items():
                # kernels, and the functions that launch those of this very module
                if user is not module and key in own and value is own[key] and _is_code(value):
                    setattr(user, key, vars(module)[key])
        yield
    finally:
        for user in users:
            vars(user).clear()
            vars(user).update(before[user])
        del linecache.cache[path]


def _is_code(value: Any) -> bool:
    return isinstance(value, FunctionType) or hasattr(value, "fn")


@contextmanager
def device(target: str) -> Iterator[EmulatedGPU]:
    """An emulated device for which slim_kernels' operations launch their kernels."""
    with ExitStack() as stack:
        stack.enter_context(poisoned_memory())
        gpu: EmulatedGPU = stack.enter_context(emulated_gpu(target))
        stack.enter_context(emulated_target(gpu.capability))
        yield gpu


def run(operation: str, target: str) -> str:
    """What is wrong with an operation's kernels on the open device: kinds of findings, or an error
    by how much is allowed, or "".
    """
    judgement = judge(operation, DTYPES[target])
    try:
        results = judgement.operation.results(judgement.operation.kernels, None)
    except EmulationError as error:
        return ", ".join(dict.fromkeys(finding.kind for finding in error.findings))
    excess = judgement.excess(results)
    return f"error {excess:.3g}" if excess > 1 else ""


def catch(faults: list[Fault]) -> Iterator[tuple[Fault, str]]:
    """Each fault and what catches it, or ""; those in PTX of one target share a device, so that a
    kernel is compiled once.
    """
    for fault in faults:
        if fault.in_source:
            with changed_module(fault.where, fault.change), device(fault.target):
                yield fault, run(fault.operation, fault.target)
    for target in DTYPES:
        some = [fault for fault in faults if fault.target == target and not fault.in_source]
        if some:
            with device(target) as gpu:
                for fault in some:
                    gpu.edit = fault.edit
                    yield fault, run(fault.operation, target)


def main(words: list[str]) -> int:
    """Returns the process' exit status: 1 for a score below 95 %."""
    from tests.ptx_emulator.faults import FAULTS

    chosen = [
        fault
        for fault in FAULTS
        if not words or any(w in f"{fault.what} {fault.where} {fault.target}" for w in words)
    ]
    start, caught, real = time.process_time(), 0, 0
    print(f"{'fault':<58}{'kernel or module':<38}{'target':<8}caught by")
    for fault, by in catch(chosen):
        real += not fault.harmless
        caught += bool(by) and not fault.harmless
        verdict = by or (f"harmless: {fault.harmless}" if fault.harmless else "ESCAPED")
        print(f"{fault.what:<58}{fault.where:<38}{fault.target:<8}{verdict}", flush=True)
    score = 100 * caught / max(real, 1)
    print(f"{caught} of {real} caught: {score:.1f} % ({time.process_time() - start:.0f} CPU-s)")
    return int(score < 95)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Files of torch.save, read without running code: only tensors and plain containers are made."""

import pickle
import re
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from slim_fast.errors import UserError

# No trainer stores these in a checkpoint: such a file is refused, though they would not be called.
_FORBIDDEN = re.compile(
    r"(os|posix|nt|sys|subprocess|shutil|socket|importlib|imp|runpy|pty|ctypes|code|commands|"
    r"webbrowser|asyncio\..*|multiprocessing\..*)\..*|"
    r"(builtins|__builtin__)\.(eval|exec|execfile|compile|__import__|open|input|breakpoint)"
)
# Functions and classes that are safe to call with any arguments.
_ALLOWED: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "torch.Size": torch.Size,
    "torch._utils._rebuild_tensor": torch._utils._rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": torch._utils._rebuild_tensor_v2,
    "torch._utils._rebuild_parameter": torch._utils._rebuild_parameter,
}


class Inert:
    """Stands for an object of another class: accepts what unpickling does, and stores nothing."""

    dump_patches = False  # torch.load reads it of classes of modules

    def __new__(cls, *_: Any, **__: Any) -> "Inert":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __call__(self, *_: Any, **__: Any) -> "Inert":
        return Inert()

    __setstate__ = __setitem__ = append = extend = add = update = __init__


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        qualified_name = f"{module}.{name}"
        if _FORBIDDEN.fullmatch(qualified_name):
            raise UserError(
                f"holds more than tensors, {qualified_name}, and would run code when loaded, so it "
                "is not: save its tensors alone (torch.save of a dict of tensors) where you trust "
                "it"
            )
        return _ALLOWED.get(qualified_name, Inert)


def _load(file: Any, **options: Any) -> Any:
    return _Unpickler(file, **options).load()


_MODULE: Any = SimpleNamespace(
    __name__="slim_fast.model.torch_files", Unpickler=_Unpickler, load=_load
)


def read_tensors(path: Path) -> Any:
    """Read what torch.save wrote to `path`, zipped or in the older format, on the CPU.

    Objects other than tensors, numbers, strings and containers of them become `Inert`.
    Raises: UserError when it is damaged, of another format, or would run code when unpickled.
    """
    damaged = f"{path} cannot be read: it is damaged, or nothing that torch.save wrote."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other protocols, archives and sources
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # its unpickler raises many kinds
            if _is_other_archive(path):
                raise UserError(damaged) from error
        try:
            return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_MODULE)
        except UserError as error:
            raise UserError(f"{path} {error}.") from error
        except Exception as error:
            raise UserError(damaged) from error


def _is_other_archive(path: Path) -> bool:
    """Whether it is an archive that torch.load reads by other means: TorchScript, or a tar."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return any(name.endswith("constants.pkl") for name in archive.namelist())
        return tarfile.is_tarfile(path)
    except Exception:  # a damaged archive raises nearly anything; torch.load is not asked again
        return True

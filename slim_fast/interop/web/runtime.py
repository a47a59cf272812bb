"""ONNX Runtime Web, as npm has it: its module and its WebAssembly."""

import re
import tarfile
from dataclasses import dataclass
from pathlib import Path

from slim_fast.errors import UserError, describe_os_error

MODULE = "dist/ort.wasm.bundle.min.mjs"
WASM = "dist/ort-wasm-simd-threaded.wasm"
ARCHIVES = "onnxruntime-web-*.tgz"
INSTALLED = Path("node_modules/onnxruntime-web")
REMEDY = 'get it from npm, "npm pack onnxruntime-web", and pass the .tgz with --runtime'


@dataclass(frozen=True)
class Runtime:
    """What a page embeds: the module's text and the WebAssembly that it loads."""

    module: bytes
    wasm: bytes

    @property
    def version(self) -> str:
        """As its first lines say it; "" when they don't."""
        found = re.search(rb"ONNX Runtime Web v([\w.-]+)", self.module[:500])
        return found[1].decode() if found else ""


def read_runtime(path: Path | None) -> Runtime:
    """ONNX Runtime Web in an npm package: its .tgz, or the folder it was unpacked to.

    None: node_modules or a .tgz in the current folder.
    Raises: UserError when there is none, or it lacks a file.
    """
    if path is None:
        path = _find()
    try:
        if path.is_dir():
            return Runtime((path / MODULE).read_bytes(), (path / WASM).read_bytes())
        with tarfile.open(path) as archive:
            return Runtime(*(_member(archive, f"package/{name}") for name in (MODULE, WASM)))
    except Exception as error:  # a damaged archive raises nearly anything
        reason = describe_os_error(error) if isinstance(error, OSError) else error
        raise UserError(f"{path} is no package of onnxruntime-web ({reason}): {REMEDY}.") from error


def _find() -> Path:
    if INSTALLED.is_dir():
        return INSTALLED
    if archives := sorted(Path().glob(ARCHIVES)):
        return archives[-1]
    raise UserError(f"The page needs ONNX Runtime Web, which is not here: {REMEDY}.")


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise KeyError(name)
    return file.read()

"""Imports run downwards, and in no circle: the contracts are in pyproject.toml."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import slim_kernels
from importlinter.cli import lint_imports

from slim_fast.training.output import logger

REPOSITORY = Path(__file__).resolve().parents[1]
KERNELS = Path(slim_kernels.__path__[0])


def test_contracts_are_kept(monkeypatch, capsys) -> None:
    monkeypatch.chdir(REPOSITORY)
    # put back afterwards: import-linter's logging.config silences all loggers that it does not name
    monkeypatch.setattr(logger, "disabled", logger.disabled)
    assert lint_imports("pyproject.toml", no_cache=True) == 0, capsys.readouterr().out


def test_a_part_of_slim_fast_has_its_layer() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    layers = text.split("layers = [")[1].split("]")[0]
    modules = {
        f"slim_fast.{path.stem}"
        for path in (REPOSITORY / "slim_fast").iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem != "__init__"
    }
    named = set(re.findall(r"[\w.]+", layers))
    assert modules == {name for name in named if name.startswith("slim_fast.")}


def test_kernels_import_torch_and_triton_only() -> None:
    paths = list(KERNELS.rglob("*.py"))
    assert len(paths) > 20
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = {str(node.module).split(".")[0]}
            else:
                continue
            known = {"slim_kernels", "torch", "triton", *sys.stdlib_module_names}
            if path.relative_to(KERNELS).parts[0] in ("check", "cost"):  # tools
                known.add("ptx_emulator")
            assert names <= known, f"{path} imports {names - known}"


def test_the_emulator_needs_numpy_alone() -> None:
    code = (
        "import sys, ptx_emulator; "
        "print(*{m.split('.')[0] for m in sys.modules} & {'torch', 'triton', 'slim_kernels'})"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert printed.split() == []


def test_kernels_import_alone() -> None:
    code = (
        "import sys, slim_kernels; "
        "sys.exit(any(m.split('.')[0] == 'slim_fast' for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

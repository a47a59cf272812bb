"""Imports run one way: slim_kernels knows nothing of slim_fast, and slim_fast's parts know only those before them."""

import ast
import subprocess
import sys
from pathlib import Path

import slim_kernels

import slim_fast

ORDER = ("skeletons", "drawing", "data", "views", "model", "evaluation", "training", "interop")


def imported(package: Path) -> dict[Path, set[str]]:
    """Every module file of a package and the dotted names it imports, wherever in the file."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                parents = (package.name, *path.relative_to(package).parts[:-1])
                base = list(parents[: len(parents) - node.level + 1]) if node.level else []
                module = ".".join([*base, *([node.module] if node.module else [])])
                names |= {f"{module}.{alias.name}" for alias in node.names}
        found[path] = names
    return found


def folder(module: object) -> Path:
    return Path(module.__path__[0])  # type: ignore[attr-defined]


def test_kernels_import_torch_and_nothing_of_ours():
    modules = imported(folder(slim_kernels))
    assert len(modules) >= 5
    for path, names in modules.items():
        strangers = {n.split(".")[0] for n in names} - {"slim_kernels", "torch", "triton", *sys.stdlib_module_names}
        assert not strangers, f"{path.name} imports {strangers}"


def test_kernels_import_alone():
    code = "import sys, slim_kernels; sys.exit(any(m.split('.')[0] == 'slim_fast' for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_parts_import_only_what_comes_before_them():
    root = folder(slim_fast)
    packages = {path.parent.name for path in root.glob("*/__init__.py")}
    assert packages == set(ORDER), "a new part of slim_fast needs its place in ORDER"
    edges = 0
    for path, names in imported(root).items():
        part = path.relative_to(root).parts[0]
        if part not in ORDER:
            continue
        for name in names:
            pieces = name.split(".")
            if pieces[0] != "slim_fast" or pieces[1:2] in ([], [part], ["errors"]):
                continue
            edges += 1
            assert pieces[1] in ORDER, f"{part} imports {name}, which stands above the parts"
            assert ORDER.index(pieces[1]) < ORDER.index(part), f"{path.relative_to(root)} imports {name}"
    assert edges > 10

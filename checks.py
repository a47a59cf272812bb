"""python checks.py [NAME ...]: every check that a change must pass, or those named.

They run with this interpreter's environment, `pip install -e ".[test,docs]"`, in this folder.
"""

import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent


def run(*command: str | Path, folder: Path = REPOSITORY) -> None:
    """Run a command. Raises: CalledProcessError when it fails."""
    print("$", *command, flush=True)
    subprocess.run(command, cwd=folder, check=True)


def module(*arguments: str | Path) -> None:
    """Run a module of this environment."""
    run(sys.executable, "-m", *arguments)


def check_style() -> None:
    """Lint and format."""
    module("ruff", "check", ".")
    module("ruff", "format", "--check", ".")


def check_wheel() -> None:
    """Build the wheel, and try it where nothing else of this folder can be found."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        module("build", "--outdir", folder, REPOSITORY)
        venv.create(folder / "venv", with_pip=True)
        programs = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
        (wheel,) = folder.glob("*.whl")
        run(programs / "python", "-m", "pip", "install", "-q", "--no-deps", wheel)
        # the dependencies are this environment's, without what is installed in place (-e)
        show = "import sysconfig; print(sysconfig.get_path('purelib'))"
        site = subprocess.check_output([programs / "python", "-c", show], text=True).strip()
        ours = subprocess.check_output([sys.executable, "-c", show], text=True)
        (Path(site) / "dependencies.pth").write_text(ours, encoding="utf-8")
        run(programs / "slim-fast", "--help", folder=folder)
        run(programs / "slim-fast", "data", "topologies", folder=folder)
        code = (
            "import slim_fast, slim_kernels; slim_fast.SLiMEncoder(); "
            "assert all('venv' in m.__file__ for m in (slim_fast, slim_kernels)); "
            "print(slim_fast.__version__)"
        )
        run(programs / "python", "-c", code, folder=folder)


CHECKS: dict[str, Callable[[], None]] = {
    "style": check_style,
    "types": lambda: module("mypy"),
    "wheel": check_wheel,
    "docs": lambda: module("mkdocs", "build", "--strict", "--quiet", "--site-dir", "build/site"),
    "tests": lambda: module("pytest", "-q"),
}


def main(names: list[str]) -> int:
    """Run the checks of those names, by default all. Returns the process' exit status."""
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        print(f"There is no check {unknown[0]!r}; choose of {', '.join(CHECKS)}.", file=sys.stderr)
        return 2
    try:
        for name in names or CHECKS:
            CHECKS[name]()
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

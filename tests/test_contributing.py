"""What CONTRIBUTING.md says of the repository: its tree, and how long a file is."""

import re
import shutil
import subprocess
from pathlib import Path, PurePosixPath

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
LIMIT = 300  # lines


def drawn_tree() -> set[str]:
    """Paths in CONTRIBUTING.md's tree; folders end in a slash."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- tree:begin -->\n```\n(.*?)```\n<!-- tree:end -->", text, re.DOTALL)
    assert block
    paths, parent = set(), ""
    for line in block[1].splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            parent = name
            paths.add(name)
        else:
            paths.add(parent + name)
    return paths


def list_files() -> list[PurePosixPath]:
    """Files of the checkout, without those that git ignores."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.check_output(command, cwd=REPOSITORY, text=True).splitlines()
    return [PurePosixPath(name) for name in names if (REPOSITORY / name).exists()]


pytestmark = pytest.mark.skipif(
    not (REPOSITORY / ".git").exists() or not shutil.which("git"), reason="no git checkout"
)


def test_the_tree_is_drawn_two_levels_deep() -> None:
    expected = set()
    for path in list_files():
        if path.parts[0].startswith("."):
            continue
        expected |= {
            f"{'/'.join(path.parts[:depth])}/" for depth in range(1, min(len(path.parts), 3))
        }
        if len(path.parts) < 3 and path.suffix == ".py" and path.name != "__init__.py":
            expected.add(str(path))
    drawn = drawn_tree()
    for path in drawn:
        assert (REPOSITORY / path).exists(), f"CONTRIBUTING.md's tree shows {path}, which is gone"
    assert expected - drawn == set(), "CONTRIBUTING.md's tree lacks something"


def test_a_file_is_one_idea() -> None:
    longer = [
        str(path)
        for path in list_files()
        if path.suffix == ".py"
        and len((REPOSITORY / path).read_text(encoding="utf-8").splitlines()) > LIMIT
    ]
    assert longer == []

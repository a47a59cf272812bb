"""What the README and the documentation say holds: snippets run, commands parse, paths exist, swaps
are those of the tested examples, generated parts can be made, the notebook works.
"""

import contextlib
import importlib.util
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from PIL import Image
from ptx_emulator import KINDS

from slim_fast import pretrain
from slim_fast.__main__ import COMMANDS
from slim_fast.data.synthetic import write_synthetic

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
CONFIGS = [
    path
    for path in (ROOT / "examples").iterdir()
    if "# slim_fast" in path.read_text(encoding="utf-8")
]
NEWCOMER = {
    "kernels/slim_kernels/attention/triton_rotary.py": "rotary embedding",
    "slim_fast/views/masks.py": "budget",
    "slim_fast/data/readers/pyskl.py": "PYSKL",
    "kernels/slim_kernels/runtime/launch.py": "90: _options(",
    "slim_fast/training/config.py": "learning_rate: Positive = 2e-4",
}
"""What someone who is new looks for: the file that the README's tree names, and its words."""

PLACES = ("runs", "checkpoints", "encoder", "path", "configs", "JeonghyeokDo")
"""What begins with these is no path of this repository."""


def name_page(page: Path) -> str:
    return page.relative_to(ROOT).as_posix().removeprefix("docs/")


def blocks(page: Path, *languages: str) -> list[str]:
    """A page's code blocks in these languages."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [text for language, text in found if language in languages]


def inline_code(page: Path) -> list[str]:
    """What a page has between single backticks."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every command in a page's blocks and lines, without what is redirected."""
    lines = [line for text in blocks(page, "", "sh") for line in text.splitlines()]
    for line in [*lines, *inline_code(page)]:
        with contextlib.suppress(ValueError):  # a lone quote: no command
            words = shlex.split(line, comments=True)
            yield words[: words.index(">")] if ">" in words else words


def slim_fast_commands(page: Path) -> Iterator[list[str]]:
    """The words of the commands of slim_fast, from the subcommand's name on."""
    for words in commands(page):
        if words[:1] == ["slim-fast"] and words[1:2] not in ([], ["COMMAND"]):
            yield words[1:]
        elif words[1:2] == ["-m"] and words[2:3] != ["slim_fast.COMMAND"]:
            package, _, command = words[2].partition(".")
            if package == "slim_fast":
                yield [command, *words[3:]]


def parse(words: list[str]) -> None:
    """Let the command's own parser read its options. Raises: UserError for those it refuses."""
    command, *options = words
    if command == "pretrain":
        stands_for = {"NAME": "small", "S": "0"}
        pretrain.parse([stands_for.get(word, word) for word in options])
    else:
        import_module(COMMANDS[command][0]).build_parser().parse(options)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=name_page)
def test_python_blocks_run_in_order(
    page: Path,
    make_encoder: Callable[..., Any],
    make_classifier: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_encoder("ntu-25").save_pretrained(tmp_path / "runs" / "demo" / "encoder")
    make_classifier(4, "ntu-25").save_pretrained(tmp_path / "my-classifier")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {
        "camera": [(torch.randn(2, 25, 3), ["ann", "bo"]) for _ in range(16)],
        "clips": [np.zeros((20, 17, 2)), np.zeros((30, 17, 2))],
        "labels": [0, 1],
        "split": ["train", "test"],
        "encoder": make_encoder("ntu-25"),
    }
    if page.name == "own-skeletons.md":
        write_synthetic("my.cache", subjects=4, repetitions=1, actions=("wave", "kick"))
    for block in blocks(page, "python"):
        if "JeonghyeokDo/SLiM" in block:  # tests/interop/checkpoints/test_released.py has a server
            continue
        short = block.replace('out="runs/mine"', 'out="runs/mine", steps=1, batch=2')
        exec(short.replace(".optimize()", ""), names)
    if page.name == "live.md":
        assert names["prediction"].frame == 16
        assert set(names["prediction"].person_probabilities) == {"ann", "bo"}
    if page.name == "other-skeleton.md":
        assert names["coco"].topology.name == "coco-17"
    if page.name == "own-skeletons.md":
        assert set(np.load("mine.npz")) == {"clip0000", "clip0001", "labels", "split"}
        assert names["result"].encoder.is_dir()
    if page.name == "README.md":
        assert names["features"].shape == (4, 16)
    if page.name == "use-an-encoder.md":  # of one clip, by preprocess
        assert names["features"].shape == (2, 16)


def test_the_kernel_is_debugged_as_its_page_says() -> None:
    pytest.importorskip("triton", reason="compiling kernels needs triton")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-W", "ignore", str(ROOT / "examples" / "debug_kernel.py")]
    printed = subprocess.check_output(command, env=environment, text=True)
    shown = blocks(DOCS / "how-to" / "debug-a-kernel.md", "")[0]
    # lines and instructions are Triton's, and another version's differ
    kinds = [[line.split(" at ")[0] for line in text.splitlines()] for text in (printed, shown)]
    assert kinds[0] == kinds[1]


def test_all_kinds_of_findings_are_explained() -> None:
    page = (DOCS / "how-to" / "debug-a-kernel.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `([\w ]+)` \| (.+) \|$", page, re.MULTILINE))
    assert {kind: text.replace("`", "") for kind, text in rows.items()} == KINDS


@pytest.mark.parametrize("page", [p for p in PAGES if any(slim_fast_commands(p))], ids=name_page)
def test_commands_are_read_by_their_parsers(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("preset: small\n")
    for words in slim_fast_commands(page):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            parse(words)  # --help and --print-config exit


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_options_and_modules_that_are_named_exist(page: Path) -> None:
    """Also those that a sentence mentions: `convert --scale`, `--threads`, `python -m X.Y`."""
    known = set(pretrain.build_parser("small").option_names())
    for command in COMMANDS.keys() - {"pretrain"}:
        known |= set(import_module(COMMANDS[command][0]).build_parser().option_names())
    for words in commands(page):
        if words[1:2] == ["-m"] and words[2].split(".")[0] in ("benchmarks", "slim_kernels"):
            assert importlib.util.find_spec(words[2]), words
        elif words and (words[0] in {"slim-fast", "convert", *COMMANDS} or words[0][:2] == "--"):
            for option in (w.split("=")[0][2:] for w in words if w.startswith("--")):
                shown = option in known | {"help", "version", "preset"} or option.endswith("*")
                assert shown or page.name in ("speed.md", "drop-in.md"), (words, option)


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_paths_that_are_named_exist(page: Path) -> None:
    roots = (ROOT, ROOT / "kernels" / "slim_kernels")
    for word in inline_code(page):
        if re.fullmatch(r"(examples|benchmarks|tests|docs|kernels|slim_fast|\w+)/[\w./*-]+", word):
            path = word.rstrip("/")
            if path.split("/")[0] not in PLACES:
                assert any(any(root.glob(path)) for root in roots), (page, word)


@pytest.mark.parametrize("file", NEWCOMER)
def test_the_readme_leads_there_within_two_files(file: str) -> None:
    """The README is the first; its tree names the second, or the folder and the file in it."""
    tree = blocks(ROOT / "README.md", "")[-1]
    assert Path(file).name in tree
    assert f"{Path(file).parent.name}/" in tree
    assert NEWCOMER[file] in (ROOT / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_the_swapped_lines_are_shown(config: Path) -> None:
    page = (DOCS / "tutorials" / "drop-in.md").read_text(encoding="utf-8")
    marked = [
        line.split("  #")[0].strip()
        for line in config.read_text().splitlines()
        if line.endswith("# slim_fast")
    ]
    assert marked
    for line in marked:
        assert f"`{line}`" in page or f"`  {line}`" in page


def test_generated_parts_are_made() -> None:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "reference" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    made = {
        name_page(page): generate.on_page_markdown(page.read_text("utf-8")) for page in PAGES[1:]
    }
    commands_page = made["reference/commands.md"]
    assert all(f"usage: slim-fast {command}" in commands_page for command in COMMANDS)
    assert "--optim.learning_rate" in commands_page
    fields = made["reference/configuration.md"]
    assert "| `learning_rate` | float > 0 | `0.0002` | Peak learning rate" in fields
    assert not re.search(r"\| \|$", fields, re.MULTILINE)  # each field has a meaning
    assert "data:image/png" in made["tutorials/notebook.md"]
    assert "def linear_kernel(" in made["explanation/kernels.md"]
    assert "<details>" not in made["benchmarks/speed.md"]


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_pictures_have_a_description(page: Path) -> None:
    assert all(len(alt) > 8 for alt in re.findall(r"!\[(.*?)\]\(", page.read_text("utf-8")))


def test_the_notebook_runs(tmp_path: Path) -> None:
    notebook = nbformat.read(DOCS / "tutorials" / "clip-to-classifier.ipynb", 4)
    stored = [len(cell.get("outputs", [])) for cell in notebook.cells]
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    printed = "".join(
        output.get("text", "")
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )
    assert "of the clips of unseen people" in printed
    assert sum(stored) == 6


def test_the_readme_is_short_and_links_to_what_is_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.encode()) <= 9000
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (ROOT / target).exists(), target


def test_the_films_are_there() -> None:
    for name in ("stream.gif", "watch.gif"):
        path = DOCS / "figures" / name
        assert path.stat().st_size < 1_000_000
        with Image.open(path) as film:
            assert film.n_frames > 30

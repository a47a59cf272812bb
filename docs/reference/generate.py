"""mkdocs' hook: fills pages from the code when the site is built.

A page holds one of these comments where its generated part belongs:
`<!-- help: COMMAND -->` what `slim-fast COMMAND --help` prints, `<!-- fields -->` tables of the
configuration, `<!-- file: PATH -->` a file of the repository, `<!-- code: PATH NAME -->` a function
of one, `<!-- notebook: FILE -->` the cells and stored outputs of a notebook in docs/.
"""

import ast
import contextlib
import io
import json
import os
import re
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from docstring_parser import parse_from_object

ROOT = Path(__file__).resolve().parents[2]
LONG_USAGE = 5
"""Lines, beyond which the usage of a command is cut short: its options follow it anyway."""


def wrap_choices(found: re.Match[str]) -> str:
    """Many choices of an option, on several lines."""
    indent = " " * 24
    return textwrap.fill(
        found[0].replace(",", ", "), 82 - len(indent), break_on_hyphens=False
    ).replace("\n", f"\n{indent}")


def command_help(command: str) -> str:
    """What `slim-fast COMMAND --help` prints, as a code block."""
    from slim_fast.__main__ import main

    os.environ["COLUMNS"] = "82"
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        main([*command.split(), "--help"])
    text = output.getvalue().replace(f"{ROOT}{os.sep}", "").replace(" \b", "")
    text = re.sub(r"\{[^}]{60,}\}", wrap_choices, text)
    usage, rest = text.strip().split("\n\n", 1)
    if usage.count("\n") >= LONG_USAGE:
        usage = usage.split(" [", 1)[0] + " [OPTION ...]"
    return f"```text\n{usage}\n\n{rest}\n```".replace("python -m slim_fast.", "slim-fast ")


def show_type(kind: Any) -> str:
    """The values that a field takes, in words: "int >= 1", "tube, random or motion"."""
    from slim_fast.limits import readable_types

    if get_origin(kind) is Literal:
        *first, last = map(str, get_args(kind))
        return f"{', '.join(first)} or {last}"
    if get_origin(kind) is list:
        return "list"
    text = re.sub(r"<class '(\w+)'>", r"\1", str(kind).replace("typing.", ""))
    text = readable_types(text).replace("tuple[", "(").replace("]", ")")
    text = re.sub(r"float >= (\d) and <= (\d)", r"\1 to \2", text)
    return re.sub(r" \| (None|null)$", ", or none", text)


def show_value(value: Any) -> str:
    """A default nearly as YAML has it."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(show_value(v) for v in value)}]"
    if is_dataclass(value) and not isinstance(value, type):
        return f"{{{', '.join(f'{k}: {show_value(v)}' for k, v in asdict(value).items())}}}"
    return value if isinstance(value, str) else json.dumps(value)


def default_of(field: Field[Any]) -> Any:
    """A field's default, None where it has none."""
    made: Any = None if field.default_factory is MISSING else field.default_factory
    return made() if made else None if field.default is MISSING else field.default


def config_tables(kind: type, prefix: str = "") -> Iterator[str]:
    """A heading and a table of fields for a configuration class, then for those nested in it."""
    meanings = {
        entry.args[1].split()[0].rstrip(":"): " ".join((entry.description or "").split())
        for entry in parse_from_object(kind).params
        if len(entry.args) > 1
    }
    types, nested, rows = get_type_hints(kind, include_extras=True), {}, []
    for field in fields(kind):
        if is_dataclass(types[field.name]):
            nested[f"{prefix}{field.name}."] = types[field.name]
        else:
            if get_origin(types[field.name]) is list:  # of configurations
                nested[f"{prefix}{field.name}."] = get_args(types[field.name])[0]
            default = f"`{show_value(default_of(field))}`"
            cells = [show_type(types[field.name]), default, meanings.get(field.name, "")]
            rows.append(" | ".join([f"`{field.name}`", *(c.replace("|", "\\|") for c in cells)]))
    if rows:
        yield f"## {prefix.rstrip('.') or 'The run'}"
        yield " ".join((kind.__doc__ or "").split("Args:")[0].split())
        head = ["field | values | default | meaning", "--- | --- | --- | ---"]
        yield "\n".join(f"| {row} |" for row in [*head, *rows])
    for name, inner_kind in nested.items():
        yield from config_tables(inner_kind, name)


def show_notebook(path: Path) -> str:
    """A notebook's cells as markdown, with their stored outputs."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                image = "".join(data["image/png"]).replace("\n", "")
                alt = cell["metadata"]["alt"]
                parts.append(f"![{alt}](data:image/png;base64,{image})")
            else:
                parts.append(f"```text\n{''.join(data['text/plain']).rstrip()}\n```")
    return "\n\n".join(parts)


def show_file(name: str) -> str:
    """A file of the repository as a code block."""
    language = {".yaml": "yaml", ".py": "python"}.get(Path(name).suffix, "text")
    text = (ROOT / name).read_text(encoding="utf-8").rstrip()
    return f'```{language} title="{name}"\n{text}\n```'


def show_function(place: str) -> str:
    """A function, "PATH NAME", with its decorators, as a code block; the first of that name."""
    name, function = place.split()
    text = (ROOT / name).read_text(encoding="utf-8")
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            first = min([node, *node.decorator_list], key=lambda part: part.lineno).lineno
            code = "\n".join(text.splitlines()[first - 1 : node.end_lineno])
            return f'```python title="{name}"\n{code}\n```'
    raise ValueError(f"{name} has no function {function}")


def fill(found: re.Match[str]) -> str:
    """The generated part that a comment stands for."""
    kind, _, of = found[1].partition(":")
    if kind == "help":
        return command_help(of)
    if kind == "file":
        return show_file(of.strip())
    if kind == "code":
        return show_function(of)
    if kind == "notebook":
        return show_notebook(ROOT / "docs" / of.strip())
    return "\n\n".join(config_tables(import_module("slim_fast.training.config").PretrainConfig))


def on_page_markdown(markdown: str, page: Any = None, **_: Any) -> str:
    """A page's markdown with its generated parts.

    The tables of benchmarks take the place of the table of contents. Tables within <details> are
    markdown, which GitHub knows without being told. A picture alone on its line opens in full when
    it is clicked.
    """
    if page and page.file.src_uri.startswith("benchmarks/"):
        page.meta.setdefault("hide", ["toc"])
    markdown = re.sub(r"<!-- ((?:help|file|code|notebook): ?.*?|fields) -->", fill, markdown)
    markdown = re.sub(r"^(!\[[^\]]*\]\(((?!data:)[^)]+)\))$", r"[\1](\2)", markdown, flags=re.M)
    return markdown.replace("<details>", "<details markdown>")

"""What all commands have in common: help, wrong options, signals."""

import re
import signal
import subprocess
import sys
from importlib import import_module

import pytest

import slim_fast
from slim_fast import __main__ as slim_fast_command
from slim_fast.command import CommandParser

PARSERS = {
    **{name: () for name in ("ablate", "evaluate", "export", "features", "stream")},
    "pretrain": ("demo",),
}


def build(name: str) -> CommandParser:
    return import_module(f"slim_fast.{name}").build_parser(*PARSERS[name])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("pretrain --batchs 4", "did you mean batch?"),
        ("evaluate knn run --data c --match-joint", "did you mean match-joints?"),
        ("evaluate kn run --data c", "did you mean knn?"),
        ("evaluate knn run --data c --peopl 2", "did you mean people?"),
        ("ablate masking --data c --sed 1", "did you mean seed?"),
        ("export run --to onx", "did you mean onnx?"),
        ("export run --to onnx --ops 18", "did you mean opset?"),
        ("stream run --data c --windw 16", "did you mean window?"),
        ("features run --data c --peopl 2", "did you mean people?"),
        ("weights verfy a", "did you mean verify?"),
        ("weights verify a --manifst b", "did you mean manifest?"),
        ("data convrt a b", "did you mean convert?"),
        ("data convert a b --topolgy coco-17", "did you mean topology?"),
        ("data synthetic a --subject 3", "did you mean subjects?"),
        ("evalute knn run --data c", "did you mean evaluate?"),
        ("--versio", "did you mean version?"),
        ("evaluate knn run --data c --seed x", "seed"),
        ("evaluate knn run", "required: data"),
        ("evaluate knn", "required: RUN, data"),
        ("data convert", "required: IN, OUT"),
        ("data inspect", "required: CACHE"),
        ("data", "convert"),
        ("", "pretrain"),
    ],
)
def test_wrong_options_are_one_sentence_with_a_suggestion(words, says, capsys) -> None:
    assert slim_fast_command.main(words.split()) == 2
    printed = capsys.readouterr()
    assert says in printed.err
    assert printed.err.startswith("error: ")
    assert printed.err.endswith("See --help.\n")
    assert printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.parametrize(
    "words",
    [
        "pretrain --bat 4",
        "evaluate knn run --data c --peop 3",
        "export run --to onnx --ou a",
        "stream run --data c --wind 16",
        "data synthetic c --subj 3",
    ],
)
def test_no_option_can_be_shortened(words, capsys) -> None:
    assert slim_fast_command.main(words.split()) == 2
    assert f"unrecognized arguments: {words.split()[-2]}" in capsys.readouterr().err


@pytest.mark.parametrize("name", PARSERS)
def test_help_shows_what_each_option_does_and_its_default(name, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    parser = build(name)
    text = parser.format_help()
    assert "null)" not in text.replace("default: null)", "") or name == "pretrain"
    assert "<class" not in text
    for action in parser._actions:
        assert action.help or name == "pretrain", action
        if action.default not in (None, False, "==SUPPRESS==") and name != "pretrain":
            assert re.search(rf"default: {re.escape(str(action.default))}\)", text), action


def test_every_command_is_called_by_its_name(capsys) -> None:
    for name, (module, summary) in slim_fast_command.COMMANDS.items():
        with pytest.raises(SystemExit) as ended:
            slim_fast_command.main([name, "--help"])
        assert ended.value.code == 0
        assert f"usage: python -m slim_fast.{name} [-h]" in capsys.readouterr().out
        assert callable(import_module(module).main)
        assert summary in slim_fast_command.build_parser().format_help()


def test_commands_are_named_as_the_process_was_started(monkeypatch, capsys) -> None:
    for started, name in (("/usr/bin/slim-fast", "slim-fast"), ("pytest", "python -m slim_fast")):
        monkeypatch.setattr(sys, "argv", [started])
        with pytest.raises(SystemExit):
            slim_fast_command.main(["--help"])
        assert f"usage: {name} [-h]" in capsys.readouterr().out
        assert slim_fast_command.main(["data", "inspect", "no/such"]) == 2
        command = "slim-fast data" if name == "slim-fast" else "python -m slim_fast.data"
        assert f"`{command} convert IN OUT`" in capsys.readouterr().err


def test_the_version_stands_in_one_place(capsys) -> None:
    with pytest.raises(SystemExit):
        slim_fast_command.main(["--version"])
    assert capsys.readouterr().out == f"slim-fast {slim_fast.__version__}\n"


def test_help_of_all_commands_needs_no_torch() -> None:
    code = (
        "import sys; from slim_fast.__main__ import main\n"
        "try: main(['--help'])\nexcept SystemExit: sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_ends_any_command_with_one_sentence(name) -> None:
    number = getattr(signal, name)
    code = (
        "import os, sys\nfrom slim_fast.command import run_command, run_process\n"
        f"stop = lambda: os.kill(os.getpid(), {int(number)})\n"
        "sys.exit(run_process(lambda: run_command(stop, lambda n: f'Stopped by {n.name}.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (128 + number, f"Stopped by {number.name}.\n")

"""What every command shares: its options, its errors and signals, and its output."""

import errno
import os
import re
import signal
import sys
import warnings
from argparse import Action, _HelpAction
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter, Namespace

from slim_fast.errors import SaidElsewhere, UserError, describe_os_error, suggest
from slim_fast.limits import describe_fault, readable_types


class HelpFormatter(DefaultHelpFormatter):
    """Shows types and defaults in plain words: no class paths, no nulls, no defaults of flags."""

    def add_usage(self, usage: Any, actions: Iterable[Action], *args: Any, **kwargs: Any) -> None:
        # jsonargparse leaves out actions of argparse's class for --help
        shown = [
            Action(action.option_strings, action.dest, nargs=0)
            if isinstance(action, _HelpAction)
            else action
            for action in actions
        ]
        super().add_usage(usage, shown, *args, **kwargs)

    def _get_help_string(self, action: Action) -> str:
        text = super()._get_help_string(action)
        if action.nargs == 0 or action.default is None:
            text = re.sub(r" \(default: %\(default\)s\)|, default: %\(default\)s", "", text)
        return text

    def _expand_help(self, action: Action) -> str:
        fields = r"Namespace\(((?:[^()]|\([^()]*\))*)\)"
        text = re.sub(
            rf"Namespace\(class_path='[^']*', init_args=({fields})[^()]*\)",
            r"\1",
            super()._expand_help(action),
        )
        text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text)
        return readable_types(re.sub(fields, r"{\1}", text))


class CommandParser(ArgumentParser):
    """Options of a command: none may be abbreviated; `parse` suggests a misspelt one."""

    def __init__(self, **settings: Any) -> None:
        # jsonargparse makes parsers of this class for nested fields too, with settings of its own
        ours: dict[str, Any] = {
            "formatter_class": HelpFormatter,
            "allow_abbrev": False,
            "exit_on_error": False,
        }
        super().__init__(**ours | settings)

    def parse(self, arguments: Sequence[str] | None = None, reference: str = "--help") -> Namespace:
        """The options in `arguments`, by default those of the process; errors name `reference`.

        Raises: UserError for options that are unknown, missing or malformed; SystemExit after
        --help.
        """
        try:
            values = self.parse_args(arguments)
            defaults = self.get_defaults()
            for name, value in values.items():
                if value is None and defaults.get(name) is not None:
                    raise UserError(f"{name} is null: give a value, or leave it out.")
            return self.instantiate(values)
        except UnicodeDecodeError as error:  # of a configuration file
            raise UserError("The configuration file is no text: give a YAML file.") from error
        except ArgumentError as error:
            message = " ".join(str(error).split()).rstrip(".")
            fault = re.search(
                r"(Input should be .+?) \[type=\w+, input_value=(.+?), input_type", message
            )
            if fault:  # a value outside its type's limits
                name = ".".join(re.findall(r'Parser key "(.+?)"', message))
                raise UserError(describe_fault(name, fault[2].strip("'"), fault[1])) from error
            message = re.sub("(?<=are required: ).*", self._name_positionals, message)
            raise UserError(f"{message}{self._suggest(message)}. See {reference}.") from error

    def add_cache_options(self, data: str) -> None:
        """The options of commands that read a clip cache with an encoder; `data` says what for."""
        self.add_argument("--data", type=Path, required=True, metavar="CACHE", help=data)
        self.add_argument("--split", type=str, help="split of the cache; its first by default")
        self.add_argument(
            "--match-joints",
            action="store_true",
            help="carry the weights of another skeleton over to the cache's by the joints' names",
        )
        self.add_argument("--device", type=str, default="auto", help="cpu, cuda or auto")

    def _suggest(self, message: str) -> str:
        """The known option or choice nearest to the one that `message` complains of."""
        choice = re.search(r"invalid choice: '(.+?)' \(choose from (.+)\)", message)
        if choice:
            return suggest(choice[1], re.findall(r"[^\s',]+", choice[2]))
        option = re.search(
            r"(?i:unrecognized arguments): --([\w.-]+)|Group '(.+?)' .* option '(.+?)'"
            r"|[Kk]ey '(.+?)'",
            message,
        )
        if not option:
            return ""
        return suggest(".".join(filter(None, option.groups())), self.option_names())

    def option_names(self) -> list[str]:
        """Long options without their dashes, those of subcommands too."""
        names = (name for action in self._all_actions() for name in action.option_strings)
        return [name.removeprefix("--") for name in names]

    def _all_actions(self) -> Iterator[Action]:
        subcommands = self._subcommands_action
        for parser in (self, *(subcommands.choices.values() if subcommands else ())):
            yield from parser._actions

    def _name_positionals(self, names: re.Match[str]) -> str:
        """A list of arguments, the positional ones called as in the usage."""
        shown = {
            action.dest: action.metavar
            for action in self._all_actions()
            if action.metavar and not action.option_strings
        }
        return ", ".join(str(shown.get(n.split(".")[-1], n)) for n in names[0].split(", "))


class Terminated(BaseException):
    """A signal asked the process to stop; unwinds the stack as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)


def _raise_terminated(number: int, _: FrameType | None) -> None:
    raise Terminated(number)


def stop_signals() -> list[signal.Signals]:
    """Signals that ask a process to stop, without those that its parent made it ignore (nohup)."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    known = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return [number for number in known if signal.getsignal(number) is not signal.SIG_IGN]


def run_command(
    run: Callable[[], None], stopped: Callable[[signal.Signals], str] = lambda _: "Stopped."
) -> int:
    """Run a command; returns its exit status: 0, 2 after an error, 128 + the signal that ended it.

    Errors, warnings and the sentence `stopped(signal)` are lines on stderr.
    Raises: BrokenPipeError when nothing reads its output.
    """
    try:
        with plain_warnings():
            run()
    except SaidElsewhere:
        return 2
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = describe_os_error(error)
        print(f"error: {reason}; mend that and give the command again.", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, Terminated) as stop:
        number = stop.signal if isinstance(stop, Terminated) else signal.SIGINT
        print(stopped(number), file=sys.stderr)
        return 128 + number
    return 0


def run_process(main: Callable[[], int]) -> int:
    r"""The exit status of `main`, a command, as a process of its own.

    Signals that ask to stop raise `Terminated`. A letter that the console cannot show is written as
    an escape such as \u6b65. 1 when nothing reads the output any more, 2 when it cannot be written,
    130 after Ctrl-C before or after the command's own work.
    """
    for number in stop_signals():
        if number != signal.SIGINT:
            signal.signal(number, _raise_terminated)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = main()
    except SystemExit as end:  # of --help
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        status = 128 + signal.SIGINT
    except Terminated as stop:
        status = 128 + stop.signal
    except BrokenPipeError:
        status = 1
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        discard(sys.stdout)
        if isinstance(error, BrokenPipeError):
            return status or 1
        print(f"error: the output could not be written ({error.strerror})", file=sys.stderr)
        return status or 2
    return status


def discard(stream: Any) -> None:
    """Discard what `stream` buffers and all that follows; else Python complains at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Print each warning once, without the line of code that it comes from."""
    shown: set[str] = set()

    def show(message: Warning | str, *_: object, **__: object) -> None:
        if str(message) not in shown:
            shown.add(str(message))
            print(f"warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


class PipeSafeStream:
    """Writes to `stream`, and to nowhere after a failure other than a full disk."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with self._survive():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._survive():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _survive(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno != errno.ENOSPC:
                with suppress(OSError, ValueError):  # a stream without a file
                    discard(self._stream)


@contextmanager
def pipe_safe_output() -> Iterator[None]:
    """sys.stdout and sys.stderr whose readers may go away while a long run goes on."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (stream and PipeSafeStream(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before

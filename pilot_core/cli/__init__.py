"""The command line: one module a subcommand, imported only when it is the one that was asked for.

A subcommand module has `SUMMARY`, `add_arguments(parser)` and `run(arguments) -> int`. Other distributions bring
further ones through the entry-point group `pilot_core.commands.v1` (name = command, value = such a module).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from pilot_core._version import __version__
from pilot_core.errors import BadInput, HandledError

if TYPE_CHECKING:
    import argparse

__all__ = ["COMMAND_GROUP", "guarded", "main", "parser_of"]

COMMAND_GROUP = "pilot_core.commands.v1"

BUILT_IN = {
    "run": ("pilot_core.cli.run", "take jobs from a PanDA server and run them"),
    "jobs": ("pilot_core.cli.jobs", "list the jobs that the pilots of a work directory took"),
    "report": ("pilot_core.cli.report", "show how one of those jobs went, as text, JSON or a page"),
    "flush": ("pilot_core.cli.flush", "deliver final reports that could not be delivered when they were made"),
    "run-job": ("pilot_core.cli.run_job", "run one job out of a file, or single phases of it, with no server"),
    "list-plugins": ("pilot_core.cli.list_plugins", "show every plugin that is installed, also those out of order"),
    "check": ("pilot_core.cli.check", "run a plugin's conformance kits and print a verdict for each clause"),
    "new": ("pilot_core.cli.new", "make the project of a new plugin, ready to test and install"),
    "replay": ("pilot_core.cli.replay", "run the pilot offline against what 'run --record' recorded"),
}
OURS_ELSEWHERE = {
    "serve": ("pilot-devserver", "start a development server that speaks the real PanDA protocols"),
    "submit": ("pilot-devserver", "give jobs to a development server"),
    "server": ("pilot-devserver", "look at and steer a development server"),
    "demo": ("pilot-devserver", "watch the pilot run real jobs from a development server on this machine"),
}
HELP = "pilot-core COMMAND --help tells more of each. Exit codes: 0 done, 2 wrong input or configuration, 3 plugin,\n\
4 server out of reach or a job that could not be reported, 5 credential, 1 anything else, 128+n ended by signal n."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the process's exit code: what `pilot-core` calls."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded(lambda: _dispatch(arguments))


def guarded(command: Callable[[], int]) -> int:
    """Call a command; an error that the user can act on becomes one line on standard error and its exit code.

    What could not be written to standard output is an error too, but where its reader has gone (`| head`).
    """
    code = 0
    try:
        with _watched_output():
            code = command()
    except HandledError as error:
        _say(str(error))
        code = error.exit_code
    except KeyboardInterrupt:
        _say("interrupted")
        code = 130
    except _OutputLost as lost:
        # or the interpreter, which writes out once more at its end, complains too
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if not isinstance(lost.error, BrokenPipeError):
            _say(f"standard output cannot be written: {lost.error.strerror}")
            code = HandledError.exit_code
    _let_go_of_stderr()
    return code


class _OutputLost(Exception):
    """Standard output cannot be written. Told apart from other errors of that kind, which would be bugs."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


class _Output:
    """Standard output; raises `_OutputLost`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write."""
        try:
            return self._stream.write(text)
        except OSError as error:
            raise _OutputLost(error) from None

    def flush(self) -> None:
        """Write out."""
        try:
            self._stream.flush()
        except OSError as error:
            raise _OutputLost(error) from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _watched_output() -> Iterator[None]:
    """Have everything written out at the end, and what cannot be written said."""
    if sys.stdout is None:  # closed from the start
        yield
        return
    output: Any = _Output(sys.stdout)
    with contextlib.redirect_stdout(output):
        try:
            yield
        except SystemExit:  # argparse, after --help
            output.flush()
            raise
        output.flush()


def _say(text: str) -> None:
    """Print one line to standard error, if there is one that can be written."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(f"pilot-core: {_one_line(text)}", file=sys.stderr)


def _let_go_of_stderr() -> None:
    """Forget lines that could not be written, or the interpreter tries once more and makes 120 of the exit code."""
    if sys.stderr is not None:
        try:
            sys.stderr.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _dispatch(arguments: list[str]) -> int:
    """Find the command and run it."""
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(_overview())
        return 0 if arguments else BadInput.exit_code
    if arguments[0] in {"-V", "--version"}:
        print(f"pilot-core {__version__}")
        return 0
    command = _find(arguments[0])
    return int(command.run(parser_of(arguments[0], command).parse_args(arguments[1:])))


def parser_of(name: str, command: Any) -> argparse.ArgumentParser:
    """Make the parser of one subcommand."""
    import argparse

    class Parser(argparse.ArgumentParser):
        """Says what is wrong in one line, without the usage text before it."""

        def error(self, message: str) -> Any:
            raise BadInput(f"{message}{self._near(message)} (see '{self.prog} --help')")

        def _near(self, message: str) -> str:
            """Return the option that may have been meant."""
            unknown = [word for word in message.split() if word.startswith("--")]
            if not message.startswith("unrecognized arguments") or not unknown:
                return ""
            from pilot_core.settings import did_you_mean

            known = [option for action in self._actions for option in action.option_strings]
            hint = did_you_mean(unknown[0].partition("=")[0], known)
            return hint if "did you mean" in hint else ""

    parser = Parser(prog=f"pilot-core {name}", description=command.SUMMARY, allow_abbrev=False)
    command.add_arguments(parser)
    return parser


def _find(name: str) -> Any:
    """Import the module of a subcommand; raises `BadInput` if there is none of that name."""
    import importlib

    if name in BUILT_IN:
        return importlib.import_module(BUILT_IN[name][0])
    found = _commands()
    if name in found:
        return _load(name, found[name])
    if name in OURS_ELSEWHERE:
        distribution = OURS_ELSEWHERE[name][0]
        raise BadInput(f"{name!r} comes with {distribution}, which is not installed here; install it beside pilot-core")
    from pilot_core.settings import did_you_mean

    if name.startswith("-"):
        raise BadInput(f"{name}: put the command first: pilot-core COMMAND {name} (see 'pilot-core --help')")
    raise BadInput(f"unknown command {name!r}{did_you_mean(name, {*BUILT_IN, *OURS_ELSEWHERE, *found})}")


def _load(name: str, offers: Sequence[Any]) -> Any:
    """Import the module of another distribution's command; raises `HandledError`."""
    owners = [f"{offer.dist.name} {offer.dist.version}" for offer in offers]
    if len(offers) > 1:
        raise HandledError(f"command {name!r} is offered by {' and by '.join(owners)}; uninstall all but one")
    try:
        return offers[0].load()
    except (Exception, SystemExit) as error:
        raise HandledError(
            f"command {name!r} of {owners[0]} cannot be loaded: {type(error).__name__}: {error}; "
            "install that distribution again"
        ) from error


def _commands() -> dict[str, list[Any]]:
    """Return the entry points of other distributions' commands, by name; nothing is imported.

    They are looked for where plugins are: neither the working directory nor PYTHONPATH can bring a command in, and a
    distribution whose metadata cannot be read is passed over.
    """
    from importlib.metadata import Distribution

    from pilot_core.plugins.places import search_places

    found: dict[str, list[Any]] = {}
    for place in search_places(()):
        files = () if place.core_only else sorted(place.directory.glob("*.dist-info/entry_points.txt"))
        for file in files:
            try:
                if COMMAND_GROUP.encode() not in file.read_bytes():
                    continue
                owner = Distribution.at(file.parent)
                offered = [e for e in owner.entry_points if e.group == COMMAND_GROUP and owner.metadata["Name"]]
            except Exception:  # noqa: BLE001, S112  (how the parser meets a damaged file is not documented)
                continue
            for entry in offered:
                found.setdefault(entry.name, []).append(entry)
    return found


def _overview() -> str:
    """Return the text of `pilot-core --help`; it imports no command."""
    found = _commands()
    lines = [
        f"pilot-core {__version__}: a grid pilot for PanDA whose every task is a plugin",
        "",
        "usage: pilot-core COMMAND [OPTIONS]",
        "",
        "commands:",
    ]
    lines += [f"  {name:14} {text}" for name, (_, text) in BUILT_IN.items()]
    for name, (distribution, text) in OURS_ELSEWHERE.items():
        lines.append(f"  {name:14} {text}" + ("" if name in found else f" (not installed: {distribution})"))
    for name in sorted(set(found) - set(OURS_ELSEWHERE) - set(BUILT_IN)):
        lines.append(f"  {name:14} (from {found[name][0].dist.name} {found[name][0].dist.version})")
    return "\n".join([*lines, "  --version      print the version", "", HELP])


def _one_line(text: str) -> str:
    """Keep a message on its one line, whatever it quotes: nothing in it can move a terminal's cursor."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())

"""The command line: one module a subcommand, imported only when it is the one that was asked for.

A subcommand module has `SUMMARY`, `add_arguments(parser)` and `run(arguments) -> int`. Other distributions bring
further ones through the entry-point group `pilot_core.commands.v1` (name = command, value = such a module).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pilot_core._version import __version__
from pilot_core.errors import BadInput, HandledError

if TYPE_CHECKING:
    import argparse

__all__ = ["COMMAND_GROUP", "guarded", "main", "parser_of"]

COMMAND_GROUP = "pilot_core.commands.v1"

BUILT_IN = {
    "run": ("pilot_core.cli.run", "take jobs from a PanDA server and run them"),
    "list-plugins": ("pilot_core.cli.list_plugins", "show every plugin that is installed, also those out of order"),
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
    """Call a command; an error that the user can act on becomes one line on standard error and its exit code."""
    try:
        return command()
    except HandledError as error:
        print(f"pilot-core: {_one_line(str(error))}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # the reader of our output has gone (`| head`): nothing to say to anyone, nor at the flush on exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except KeyboardInterrupt:
        print("pilot-core: interrupted", file=sys.stderr)
        return 130


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
            raise BadInput(f"{message} (see '{self.prog} --help')")

    parser = Parser(prog=f"pilot-core {name}", description=command.SUMMARY, allow_abbrev=False)
    command.add_arguments(parser)
    return parser


def _find(name: str) -> Any:
    """Import the module of a subcommand; raises `BadInput` if there is none of that name."""
    import importlib

    if name in BUILT_IN:
        return importlib.import_module(BUILT_IN[name][0])
    found = _entry_points()
    if name in found:
        try:
            return found[name].load()
        except (Exception, SystemExit) as error:
            raise HandledError(
                f"command {name!r} of {found[name].dist.name} {found[name].dist.version} cannot be loaded: "
                f"{type(error).__name__}: {error}; reinstall that distribution"
            ) from error
    if name in OURS_ELSEWHERE:
        distribution = OURS_ELSEWHERE[name][0]
        raise BadInput(f"{name!r} comes with {distribution}, which is not installed here; install it beside pilot-core")
    from pilot_core.settings import did_you_mean

    if name.startswith("-"):
        raise BadInput(f"{name}: put the command first: pilot-core COMMAND {name} (see 'pilot-core --help')")
    raise BadInput(f"unknown command {name!r}{did_you_mean(name, {*BUILT_IN, *OURS_ELSEWHERE, *found})}")


def _entry_points() -> dict[str, Any]:
    """Return the commands that other distributions offer, by name; nothing is imported."""
    from importlib import metadata

    return {entry.name: entry for entry in metadata.entry_points(group=COMMAND_GROUP)}


def _overview() -> str:
    """Return the text of `pilot-core --help`; it imports no command."""
    found = _entry_points()
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
        lines.append(f"  {name:14} (from {found[name].dist.name} {found[name].dist.version})")
    return "\n".join([*lines, "  --version      print the version", "", HELP])


def _one_line(text: str) -> str:
    """Keep a message on its one line, whatever it quotes."""
    return " ".join(text.split())

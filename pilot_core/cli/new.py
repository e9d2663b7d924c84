"""`pilot-core new`: make the project of a new plugin, tested and ready to install. No plugin is imported."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core.api.provider import KINDS
from pilot_core.errors import BadInput

if TYPE_CHECKING:
    import argparse

    from pilot_core.scaffold import Template

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "Make the project of a new plugin: code that works, its conformance tests, everything to install it."
EPILOG = (
    "On a terminal it asks for what is not set; otherwise, and with --no-input, the defaults are taken. "
    "The templates are cookiecutter's: cookiecutter templates/KIND makes the same."
)
SCHEMA = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("kind", metavar="KIND", help=f"what it is: {', '.join(KINDS)}")
    parser.add_argument("name", metavar="NAME", help="what the configuration calls it, e.g. tape")
    parser.add_argument(
        "--directory", metavar="D", type=Path, default=Path(), help="where to make the project's directory [here]"
    )
    parser.add_argument("--no-input", action="store_true", help="ask nothing, take the defaults")
    parser.add_argument(
        "--set",
        metavar="QUESTION=ANSWER",
        action="append",
        default=[],
        help="an answer: dist_name, description or author",
    )
    parser.add_argument("--json", action="store_true", help='print {"schema": 1, "project": ..., "commands": [...]}')
    parser.epilog = EPILOG


def run(arguments: argparse.Namespace) -> int:
    """Make the project, print what to do next, and return the exit code."""
    from pilot_core.scaffold import check_answers, check_free, core_origin, template_of, write_project
    from pilot_core.scaffold.names import check_name
    from pilot_core.signals import tidy_end

    template = template_of(arguments.kind)
    check_name(arguments.kind, arguments.name)
    answers = {"name": arguments.name, **_given(template, arguments.set)}
    # what is taken is said before anything is asked
    entry_points = [f"{kind}.{arguments.name}" for kind in str(template.raw["_entry_points"]).split()]
    check_free(entry_points, template.variables(answers)["dist_name"])
    if not arguments.no_input and sys.stdin is not None and sys.stdin.isatty():
        _ask(template, answers)
    variables = template.variables(answers)
    check_answers(arguments.kind, variables)
    check_free(entry_points, variables["dist_name"])
    files = template.files(variables)
    with tidy_end():
        project = write_project(arguments.directory, variables["dist_name"], files)
    commands = _commands(project, core_origin().arguments("testing"))
    if arguments.json:
        told = {"schema": SCHEMA, "project": str(project.absolute()), "entry_points": entry_points}
        print(json.dumps({**told, "files": [file.path for file in files], "commands": commands}, indent=2))
        return 0
    print(f"made {project}: {' and '.join(entry_points)}, {len(files)} files; it works as it is. Try it:", end="\n\n")
    print(*(f"  {command}" for command in commands), sep="\n")
    print(f"\nThen look for YOUR CODE in {project / 'src' / variables['__module']}.")
    return 0


def _given(template: Template, texts: Sequence[str]) -> dict[str, str]:
    """Return the answers of `--set`; raises `BadInput`."""
    keys = [question.key for question in template.questions if question.key != "name"]
    given = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise BadInput(f"--set {text}: write it as QUESTION=ANSWER, for example --set description='Our tapes'")
        if key not in keys:
            from pilot_core.settings import did_you_mean

            raise BadInput(f"--set {key}: there is no such question{did_you_mean(key, keys)}")
        given[key] = value
    return given


def _ask(template: Template, answers: dict[str, str]) -> None:
    """Ask on the terminal for what was not given; an empty line takes the default. Standard output stays clean."""
    for question in template.questions:
        if question.key not in answers:
            default = template.variables(answers)[question.key]
            print(f"{question.text} [{default}]: ", end="", file=sys.stderr, flush=True)
            line = sys.stdin.readline()
            if not line:
                print(file=sys.stderr)
                raise BadInput("the input ended before the last question; --no-input takes the defaults")
            answers[question.key] = line.strip() or default


def _commands(project: Path, core: Sequence[str]) -> list[str]:
    """Return the commands that make an environment for the project and test it there."""
    return [
        f"cd {shlex.quote(str(project))}",
        f"{_python()} -m venv .venv && . .venv/bin/activate",
        f"python -m pip install {shlex.join(core)}",
        "python -m pip install -e .",
        "pytest",
        "pilot-core list-plugins --check",
        "pilot-core check .",
    ]


def _python() -> str:
    """Return how to call the Python that runs this."""
    found = shutil.which("python3")
    same = found is not None and Path(found).resolve() == Path(sys.executable).resolve()
    return "python3" if same else shlex.quote(sys.executable)

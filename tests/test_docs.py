"""Nothing is documented that is not tried: commands, TOML and Python of every README.

`documented.toml` says of each command how it is tried: `run` (in order, in a fresh copy of the checkout, by
`e2e/test_documented_commands.py`), `ci` (by `.ci/run`, which has the same line), `nox plugin` (as that
session does for every plugin), or the test that runs it.
"""

from __future__ import annotations

import ast

import pytest
import tomli

from pilot_core.builtin.toml_queue import parse_queues

CONSOLE = {"console", "bash"}
LANGUAGES = CONSOLE | {"toml", "python", "json", "text"}


@pytest.fixture(scope="module")
def covered(checkout):
    return tomli.loads((checkout.root / "tests/documented.toml").read_text(encoding="utf-8"))


def commands(checkout):
    """Yield (document, line, command) of every README."""
    for fence in checkout.fences():
        if fence.language in CONSOLE:
            yield from ((fence.document, line, command) for line, command in fence.commands)


def test_every_block_says_what_it_is(checkout):
    wrong = [
        f"{fence.document} line {fence.line}: a block of {fence.language!r}: use one of {', '.join(sorted(LANGUAGES))}"
        for fence in checkout.fences()
        if fence.language not in LANGUAGES
    ]
    assert not wrong, "\n".join(wrong)


def test_every_documented_command_is_covered(checkout, covered):
    wrong = [
        f"{document} line {line}: command not covered: {command}\n    say in tests/documented.toml how it is tried"
        for document, line, command in commands(checkout)
        if command not in covered.get(document, {})
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_is_covered_that_is_not_documented(checkout, covered):
    documented = {(document, command) for document, _, command in commands(checkout)}
    table = {(document, command) for document, entries in covered.items() for command in entries}
    assert table <= documented, f"remove from tests/documented.toml: {sorted(table - documented)}"


def test_what_covers_a_command_exists(checkout, covered):
    wrong = []
    script = (checkout.root / ".ci/run").read_text()
    for document, entries in covered.items():
        for command, how in entries.items():
            if how == "ci":
                good = f"step '{command}'" in script or f"step '{command} -- --require-all'" in script
            elif how == "run":
                good = True
            elif how == "nox plugin":
                good = document.startswith("plugins/") and command.startswith(("pip install ", "pytest "))
            else:
                path, _, name = how.partition("::")
                file = checkout.root / path
                good = file.is_file() and any(
                    isinstance(node, ast.FunctionDef) and node.name == name for node in ast.parse(file.read_text()).body
                )
            if not good:
                wrong.append(f"tests/documented.toml: {document}: {command!r}: there is no {how}")
    assert not wrong, "\n".join(wrong)


def test_every_toml_block_is_toml_and_its_queues_can_be_read(checkout):
    for fence in checkout.fences():
        if fence.language == "toml":
            where = f"{fence.document} line {fence.line}"
            try:
                data = tomli.loads(fence.text)
            except tomli.TOMLDecodeError as error:
                pytest.fail(f"{where}: {error}")
            parse_queues(data, where)


def test_every_python_block_is_python(checkout):
    for fence in checkout.fences():
        if fence.language == "python":
            compile(fence.text, f"{fence.document} line {fence.line}", "exec")


def test_commands_are_found_in_a_console_block(checkout):
    make = type(checkout.fences()[0])
    fence = make("README.md", 10, "console", "$ one a \\\n    b\noutput\n$ two\n")
    assert fence.commands == [(10, "one a b"), (13, "two")]
    plain = make("README.md", 10, "console", "one a \\\n  b\n\n# comment\ntwo\n")
    assert plain.commands == [(10, "one a b"), (14, "two")]

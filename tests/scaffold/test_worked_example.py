"""The worked example is what the template makes, and what its author wrote: the two do not drift apart."""

from __future__ import annotations

import ast
import json
import re

import pytest

from pilot_core.scaffold import template_of

EXAMPLE = "plugins/communicator-jsonrpc"
MODULE = "src/pilot_communicator_jsonrpc"
UNTOUCHED = frozenset(
    {
        ".gitignore",
        ".pilot-template.json",
        f"{MODULE}/py.typed",
        f"{MODULE}/server/__init__.py",
        "tests/test_installed.py",
    }
)
"""Files that the author left as they came."""
CHANGED = {
    "README.md": (),
    "pyproject.toml": (),
    f"{MODULE}/__init__.py": ("make", "pilot_communicators"),
    f"{MODULE}/client.py": ("Jsonrpc.close",),
    f"{MODULE}/http.py": (
        "Trouble",
        "Http.__init__",
        "Http._credentials",
        "Http._tell",
        "Request",
        "checked_url",
        "tls_context",
    ),
    f"{MODULE}/server/protocol.py": (),
    f"{MODULE}/settings.py": (),
    f"{MODULE}/translate.py": ("fail",),
    "tests/test_kit.py": ("TestJsonrpc", "TestJsonrpcServer", "Dialect.commands"),
}
"""Files that the author changed -> the functions and classes in them that are still the template's, word for word."""
WRITTEN = frozenset(
    {
        "PROTOCOL.md",
        f"{MODULE}/rpc.py",
        f"{MODULE}/server/envelope.py",
        f"{MODULE}/server/jobs.py",
        f"{MODULE}/server/methods.py",
        f"{MODULE}/server/params.py",
    }
)
"""Files of the author's own, besides tests."""


@pytest.fixture(scope="module")
def example(checkout):
    return checkout.root / EXAMPLE


@pytest.fixture(scope="module")
def rendered(checkout, example):
    """What the template makes of the answers that the example keeps: path -> content."""
    kept = json.loads((example / ".pilot-template.json").read_text())
    template = template_of(kept["kind"], checkout.root / "templates")
    return {file.path: file.content.decode() for file in template.files(template.variables(kept["answers"]))}


@pytest.fixture(scope="module")
def present(example):
    """The example's files but for further tests: path -> content."""
    ignored = {"__pycache__", ".pytest_cache", ".hypothesis", ".mypy_cache", ".ruff_cache"}
    paths = [path for path in example.rglob("*") if path.is_file() and not ignored & set(path.parts)]
    return {path.relative_to(example).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def pieces(text):
    """Return the functions, classes and methods of a module, as text, by dotted name."""
    found = {}
    todo = [("", node) for node in ast.parse(text).body]
    while todo:
        prefix, node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            start = min([node.lineno, *(each.lineno for each in node.decorator_list)]) - 1
            found[prefix + node.name] = "\n".join(text.splitlines()[start : node.end_lineno])
            todo += [(f"{prefix}{node.name}.", inner) for inner in node.body] if isinstance(node, ast.ClassDef) else []
    return found


def test_every_file_of_the_template_is_accounted_for(rendered):
    assert set(rendered) == UNTOUCHED | set(CHANGED)


@pytest.mark.parametrize("path", sorted(UNTOUCHED))
def test_what_the_author_left_alone_is_what_the_template_makes(path, rendered, present):
    assert present[path] == rendered[path], f"the template has changed: make {EXAMPLE}/{path} anew"


@pytest.mark.parametrize("path", CHANGED)
def test_what_the_author_changed_is_still_there_and_still_like_the_template(path, rendered, present):
    assert present[path] != rendered[path], f"{path} is as it came: it belongs to UNTOUCHED"
    if not CHANGED[path]:
        return
    came, there = pieces(rendered[path]), pieces(present[path])
    gone = [name for name in CHANGED[path] if there.get(name) != came[name]]
    assert not gone, f"the template's {', '.join(gone)} changed: bring {EXAMPLE}/{path} up to date"
    alike = {name for name, text in there.items() if came.get(name) == text}
    unlisted = {
        name for name in alike if not any(name == each or name.startswith(f"{each}.") for each in CHANGED[path])
    }
    assert not unlisted, f"{path}: {sorted(unlisted)} are the template's, too: list them"


def test_the_author_wrote_what_the_readme_says(present):
    own = {path for path in present if not path.startswith("tests/")} - UNTOUCHED - set(CHANGED)
    assert own == WRITTEN
    told = {
        match[1]: int(match[2])
        for match in re.finditer(r"^\| `([\w/.-]+)` \|.*\| (\d+) \|$", present["README.md"], re.MULTILINE)
    }
    sizes = {path.removeprefix(f"{MODULE}/"): text.count("\n") for path, text in present.items()}
    # a line more or less is no reason to write the README again
    wrong = {path: sizes.get(path) for path, lines in told.items() if abs(sizes.get(path, -99) - lines) > 5}
    assert not wrong, f"lines are by now {wrong}"
    assert {path.removeprefix(f"{MODULE}/") for path in WRITTEN} <= set(told)


def test_nothing_is_left_that_was_to_be_replaced(present):
    assert not [path for path, text in present.items() if "YOUR CODE" in text and path != "README.md"]

"""The part of Jinja that the templates use, and nothing else: `{{ cookiecutter.NAME }}` with a few string methods.

Jinja itself costs more to import than all of `pilot-core new` takes. A test compares every template's output with
cookiecutter's, byte for byte.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping

__all__ = ["METHODS", "BadTemplate", "render"]

METHODS = ("lower", "upper", "title", "replace")
"""The methods of `str` that a template may call."""

_PLACE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_OTHER = re.compile(r"\{%|\{#|\{\{")


class BadTemplate(ValueError):
    """A template uses what this renderer does not know; cookiecutter might."""


def render(text: str, variables: Mapping[str, str]) -> str:
    """Return a text with its places filled in. Raises `BadTemplate` for anything but what the module's text says."""
    parts: list[str] = []
    end = 0
    for match in _PLACE.finditer(text):
        parts += [_plain(text[end : match.start()]), _value(match[1], variables)]
        end = match.end()
    return "".join([*parts, _plain(text[end:])])


def _plain(text: str) -> str:
    """Return a piece of text between places as it is, if Jinja would."""
    found = _OTHER.search(text)
    if found:
        line = text.count("\n", 0, found.start()) + 1
        raise BadTemplate(f"{found[0]!r} in line {line} of a piece of text: only {{{{ cookiecutter.NAME }}}} is known")
    return text


def _value(source: str, variables: Mapping[str, str]) -> str:
    """Return the value of one expression: a variable, and calls of string methods with literal texts."""
    try:
        return _evaluate(ast.parse(source.strip(), mode="eval").body, variables)
    except (SyntaxError, ValueError) as error:
        raise BadTemplate(f"{{{{{source}}}}}: {error}") from None


def _evaluate(node: ast.expr, variables: Mapping[str, str]) -> str:
    """Return the value of an expression's tree."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "cookiecutter":
        if node.attr not in variables:
            raise BadTemplate(f"there is no variable {node.attr}")
        return variables[node.attr]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.keywords:
        arguments = [item.value for item in node.args if isinstance(item, ast.Constant) and isinstance(item.value, str)]
        name = node.func.attr
        if name in METHODS and len(arguments) == len(node.args) == (2 if name == "replace" else 0):
            return str(getattr(_evaluate(node.func.value, variables), name)(*arguments))
    raise BadTemplate(f"only a variable, with {', '.join(METHODS)}")
